use super::*;

#[test]
fn the_parts_of_all_requests_have_one_bound_and_come_back() {
    let all = Arc::new(KeptBytes::default());
    let (mut first, mut second) = (all.part(), all.part());
    assert!(first.grow(KEPT_MAX - 10) && second.grow(10));
    assert!(!second.grow(1), "there is none left");
    first.clear();
    assert_eq!(all.get(), 10);
    assert!(second.grow(KEPT_MAX - 10));
    drop(second);
    assert_eq!(all.get(), 0);
}
