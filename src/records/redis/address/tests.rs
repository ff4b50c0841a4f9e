use super::*;

fn target(url: &str, sentinel: Option<&str>) -> Result<Target, Cause> {
    let text = serde_json::json!({ "url": url, "sentinel": sentinel });
    Target::of(&serde_json::from_value(text).unwrap())
}

fn tcp(host: &str, port: u16) -> Address {
    Address::Tcp { host: host.into(), port }
}

#[test]
fn one_address_is_one_server() {
    let target = target("redis://user:p%2Cw@cache.local/3", None).unwrap();
    assert_eq!(
        (target.layout, &*target.addresses),
        (Layout::Single, &[tcp("cache.local", 6379)][..])
    );
    let login = &target.login;
    assert_eq!((login.username(), login.password()), (Some("user"), Some("p,w")));
    assert_eq!((login.db(), target.tls.is_some()), (3, false));
}

#[test]
fn several_are_a_cluster_or_its_sentinels() {
    let cluster = target("rediss://:pw@a:1,b:2, rediss://c:3", None).unwrap();
    assert_eq!(cluster.layout, Layout::Cluster);
    assert_eq!(&*cluster.addresses, &[tcp("a", 1), tcp("b", 2), tcp("c", 3)]);
    assert_eq!((cluster.login.password(), cluster.tls.is_some()), (Some("pw"), true));
    let sentinels = target("redis://a:1,b:2", Some("main")).unwrap();
    assert_eq!(sentinels.layout, Layout::Sentinels);
}

#[test]
fn a_socket_is_a_path() {
    for url in ["unix:/run/redis.sock", "unix:///run/redis.sock"] {
        let target = target(url, None).unwrap();
        assert_eq!(&*target.addresses, &[Address::Unix("/run/redis.sock".into())]);
    }
}

#[test]
fn what_cannot_be_used_is_said_without_the_password() {
    for (url, word) in [
        ("", "address 1"),
        ("http://:secret@a", "none of redis://"),
        ("redis://:secret@a,rediss://b", "address 2"),
        ("redis://:secret@a:port", "address 1"),
        ("redis://:secret@a/1,b", "database 0"),
    ] {
        let cause = target(url, None).unwrap_err();
        assert_eq!(cause.kind, Kind::Unfit);
        assert!(cause.detail.contains(word), "{url}: {}", cause.detail);
        assert!(!cause.detail.contains("secret"), "{}", cause.detail);
    }
    let shown = format!("{:?}", target("redis://:secret@a", None).unwrap());
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn nodes_name_each_other_with_a_port() {
    assert_eq!(Address::of_node("10.0.0.1:7001"), Some(tcp("10.0.0.1", 7001)));
    assert_eq!(Address::of_node("::1:7001@17001"), Some(tcp("::1", 7001)));
    assert_eq!(Address::of_node(":7001"), None);
    assert_eq!(Address::of_node("nothing"), None);
}
