use super::*;

#[test]
fn a_principal_has_a_tenth_of_the_room_at_most() {
    // Half of what is in use, which is a fifth of the room: just a tenth.
    assert!(!is_over(500, 1_000, 200, 1_000));
    assert!(is_over(501, 1_000, 200, 1_000));
    // Nobody can have too much of little, and nobody has anything of nothing.
    assert!(!is_over(1, 1, 100, 1_000));
    assert!(is_over(1, 1, 101, 1_000));
    assert!(!is_over(0, 0, 1_000, 1_000));
    assert!(is_over(u64::MAX, 2, u64::MAX, 1));
}

#[tokio::test]
async fn a_database_that_is_nearly_empty_has_room_for_everybody() {
    let cluster = Arc::new(Cluster::new(Vec::new()));
    let shares = Shares::new(cluster, Handle::current(), "x:");
    assert_eq!(shares.room(Principal([1; 8])), Room::Free);
    assert!(!shares.counting.load(Ordering::Relaxed), "nothing to count");
    shares.measured(500, 1_000);
    let counted = |own| {
        let count = Count { own, all: 100, at: clock::now() };
        shares.counted.lock().insert(Principal([1; 8]), count);
        shares.room(Principal([1; 8]))
    };
    assert_eq!(counted(20), Room::Free);
    assert_eq!(counted(21), Room::Quota);
    // Not counted yet is not refused.
    assert_eq!(shares.room(Principal([2; 8])), Room::Free);
    assert_eq!(shares.in_use(), 500);
}
