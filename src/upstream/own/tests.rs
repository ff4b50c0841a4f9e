use super::*;

#[test]
fn a_connection_is_known_for_as_long_as_it_lasts() {
    let from: SocketAddr = "[::ffff:192.0.2.7]:7001".parse().unwrap();
    let same: SocketAddr = "192.0.2.7:7001".parse().unwrap();
    may_return();
    let connected = connected(|| Some(from));
    assert!(is_client(same) && is_client(from));
    assert!(!is_client("192.0.2.7:7002".parse().unwrap()));
    drop(connected);
    assert!(!is_client(same));
}

#[test]
fn a_listener_on_every_address_is_known_on_loopback() {
    listens("0.0.0.0:7003".parse().unwrap());
    listens("192.0.2.8:7004".parse().unwrap());
    for (address, known) in [
        ("127.0.0.1:7003", true),
        ("127.0.0.9:7003", true),
        ("192.0.2.8:7003", false),
        ("192.0.2.8:7004", true),
        ("127.0.0.1:7004", false),
    ] {
        assert_eq!(is_listener(address.parse().unwrap()), known, "{address}");
    }
}
