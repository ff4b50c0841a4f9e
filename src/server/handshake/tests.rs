use super::*;

#[tokio::test]
async fn the_oldest_makes_way_for_one_too_many() {
    let handshakes = Handshakes::default();
    let mut all: Vec<_> = (0..MAX_PER_WORKER).map(|_| handshakes.enter()).collect();
    // One that has ended is not counted.
    drop(all.remove(5));
    let newer = handshakes.enter();
    assert_eq!(handshakes.under_way.borrow().len(), MAX_PER_WORKER);
    let newest = handshakes.enter();
    assert_eq!(handshakes.under_way.borrow().len(), MAX_PER_WORKER);
    all[0].crowded_out.notified().await;
    drop((newer, newest));
    drop(all);
    assert!(handshakes.under_way.borrow().is_empty());
}
