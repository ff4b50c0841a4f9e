use super::*;

fn status(code: u8, words: &str) -> Trouble {
    verdict(Failure::Status { code, words: words.into() })
}

#[test]
fn only_what_is_proved_is_said_not_to_have_happened() {
    for (code, words) in [
        (14, "etcdserver: no leader"),
        (8, "etcdserver: too many requests"),
        (3, "etcdserver: request is too large"),
        (8, "grpc: received message larger than max (5 vs. 4)"),
        (5, "etcdserver: requested lease not found"),
        (16, "etcdserver: invalid auth token"),
        (7, "etcdserver: permission denied"),
        (3, "etcdserver: user name is empty"),
    ] {
        assert!(!status(code, words).maybe, "{code} {words}");
    }
    for (code, words) in [
        (14, "etcdserver: request timed out"),
        (14, "etcdserver: leader changed"),
        (14, "etcdserver: request timed out, possibly due to previous leader failure"),
        (14, "etcdserver: server stopped"),
        // The limit is looked at before, and told after the write.
        (8, "etcdserver: mvcc: database space exceeded"),
        (4, "context deadline exceeded"),
        (1, "context canceled"),
        (2, "anything"),
        (13, "anything"),
        (15, "anything"),
        (99, "anything"),
    ] {
        assert!(status(code, words).maybe, "{code} {words}");
    }
}

#[test]
fn each_failure_has_its_remedy() {
    assert_eq!(status(8, "mvcc: database space exceeded").remedy, Remedy::Room);
    assert_eq!(status(3, "etcdserver: request is too large").remedy, Remedy::Less);
    assert_eq!(status(5, "etcdserver: requested lease not found").remedy, Remedy::Lease);
    assert_eq!(status(16, "etcdserver: invalid auth token").remedy, Remedy::Login);
    assert_eq!(status(14, "etcdserver: no leader").remedy, Remedy::Elsewhere);
    assert_eq!(status(7, "etcdserver: permission denied").remedy, Remedy::None);
    let silent = Failure::Silent(Cause::new(Kind::Timeout, "x"));
    assert!(verdict(silent).maybe);
    let unsent = Failure::Unsent(Cause::new(Kind::Unreachable, "x"));
    assert!(!verdict(unsent).maybe);
}

#[tokio::test(start_paused = true)]
async fn tries_are_bounded_by_number_and_by_time() {
    let mut tries = Tries::new(clock::now() + Duration::from_secs(60));
    let mut count = 1;
    while tries.again(3).await {
        count += 1;
    }
    assert_eq!(count, TRIES);
    let start = clock::now();
    let mut tries = Tries::new(start + Duration::from_millis(50));
    while tries.again(1).await {}
    assert_eq!(clock::now() - start, Duration::from_millis(50));
}

#[tokio::test]
async fn without_a_connection_nothing_is_sent() {
    let member = Member::new("http://127.0.0.1:1", None).unwrap();
    let cluster = Cluster::new(vec![Arc::new(member)]);
    let deadline = clock::now() + Duration::from_secs(1);
    let trouble = cluster.write(&TxnRequest::default(), deadline).await.unwrap_err();
    assert!(!trouble.maybe);
    assert_eq!(trouble.cause.kind, Kind::Unreachable);
    assert!(trouble.cause.detail.contains("127.0.0.1:1: not connected yet"), "{trouble:?}");
}
