use std::time::Duration;

use tokio::task::JoinSet;

use super::*;

/// A wait this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

async fn take(connections: &Arc<Connections>, limit: usize) -> Option<Place> {
    connections.take(limit, clock::now() + PATIENCE).await
}

/// So many waiters, all in the queue; they hold what they get until the set is dropped.
async fn waiters(connections: &Arc<Connections>, count: usize, limit: usize) -> JoinSet<Place> {
    let mut waiters = JoinSet::new();
    for _ in 0..count {
        let connections = Arc::clone(connections);
        waiters.spawn(async move { take(&connections, limit).await.unwrap() });
    }
    while connections.waiting.load(Ordering::SeqCst) < count {
        tokio::task::yield_now().await;
    }
    waiters
}

#[test]
fn a_place_is_free_again_when_it_is_dropped() {
    let connections = Arc::new(Connections::default());
    let first = connections.try_take(1).unwrap();
    assert!(connections.try_take(1).is_none());
    drop(first);
    assert_eq!(connections.open(), 0);
    assert!(connections.try_take(1).is_some());
}

#[tokio::test]
async fn the_wait_ends_in_its_time_and_leaves_no_waiter() {
    let connections = Arc::new(Connections::default());
    let _held = connections.try_take(1).unwrap();
    let soon = clock::now() + Duration::from_millis(10);
    assert!(connections.take(1, soon).await.is_none());
    assert!(!connections.wanted());
}

#[tokio::test]
async fn each_of_two_places_wakes_a_waiter() {
    let connections = Arc::new(Connections::default());
    let held = [connections.try_take(2).unwrap(), connections.try_take(2).unwrap()];
    let mut waiters = waiters(&connections, 3, 2).await;
    drop(held);
    // Neither gives its place back before both have one.
    let first = waiters.join_next().await.unwrap().unwrap();
    let second = waiters.join_next().await.unwrap().unwrap();
    assert_eq!(connections.open(), 2);
    assert!(connections.wanted(), "the third still waits");
    drop((first, second));
    waiters.join_next().await.unwrap().unwrap();
    assert_eq!((connections.open(), connections.wanted()), (0, false));
}

#[tokio::test]
async fn who_gets_a_place_wakes_the_next_while_there_is_room() {
    let connections = Arc::new(Connections::default());
    std::mem::forget([connections.try_take(2).unwrap(), connections.try_take(2).unwrap()]);
    let mut waiters = waiters(&connections, 2, 2).await;
    // Two places become free, and one waiter alone is told.
    connections.open.store(0, Ordering::SeqCst);
    connections.closed.notify_one();
    let first = waiters.join_next().await.unwrap().unwrap();
    let second = waiters.join_next().await.unwrap().unwrap();
    assert_eq!(connections.open(), 2);
    drop((first, second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_wake_up_is_lost_between_threads() {
    const LIMIT: usize = 2;
    let connections = Arc::new(Connections::default());
    let mut takers = JoinSet::new();
    for _ in 0..8 {
        let connections = Arc::clone(&connections);
        takers.spawn(async move {
            for _ in 0..2000 {
                let place = take(&connections, LIMIT).await.expect("a wake-up was lost");
                assert!(connections.open() <= LIMIT);
                tokio::task::yield_now().await;
                drop(place);
            }
        });
    }
    while let Some(taker) = takers.join_next().await {
        taker.unwrap();
    }
    assert_eq!((connections.open(), connections.wanted()), (0, false));
}
