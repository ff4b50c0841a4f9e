use proptest::prelude::*;

use super::super::tests::{any_value, lines, map};
use super::*;

fn rules(x: ForwardedMode, forwarded: ForwardedMode, trust: Trust) -> Forwarding {
    let settings = Forwarded { x_forwarded: x, forwarded, via: None };
    Forwarding::compile(&settings, trust).unwrap()
}

fn client(ip: &str) -> Client {
    Client::new(Some(ip.parse().unwrap()))
}

fn sent(rules: &Forwarding, client: &Client, input: &[(&str, &str)]) -> HeaderMap {
    let mut headers = map(input);
    rules.request(&mut headers, client, false, Version::HTTP_11);
    headers.remove(HOST);
    headers
}

#[test]
fn nothing_is_added_unless_asked_for() {
    let rules = Forwarding::compile(&Forwarded::default(), Trust::Local).unwrap();
    let headers = sent(&rules, &client("10.0.0.9"), &[("host", "pay:80")]);
    assert!(headers.is_empty());
}

#[test]
fn appended_it_says_who_came_how_and_for_which_host() {
    let settings = Forwarded {
        x_forwarded: ForwardedMode::Append,
        forwarded: ForwardedMode::Pass,
        via: Some("outrigger".to_owned()),
    };
    let rules = Forwarding::compile(&settings, Trust::Local).unwrap();
    let headers = sent(&rules, &client("10.0.0.9"), &[("host", "pay:80")]);
    let wanted = [
        ("via", "1.1 outrigger"),
        ("x-forwarded-for", "10.0.0.9"),
        ("x-forwarded-host", "pay:80"),
        ("x-forwarded-proto", "http"),
    ];
    assert_eq!(lines(&headers), wanted);
}

const CAME: [(&str, &str); 5] = [
    ("host", "here"),
    ("x-forwarded-for", "1.1.1.1"),
    ("x-forwarded-for", "2.2.2.2"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "there"),
];

#[test]
fn x_forwarded_by_mode() {
    use ForwardedMode::{Append, Pass, Remove, Replace};
    let first = |mode, trust, name: &str| {
        let headers = sent(&rules(mode, Pass, trust), &client("::ffff:3.3.3.3"), &CAME);
        headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    for (mode, trust, address, proto, host) in [
        (Append, Trust::Local, "1.1.1.1, 2.2.2.2, 3.3.3.3", "https", "there"),
        (Append, Trust::None, "1.1.1.1, 2.2.2.2, 3.3.3.3", "http", "here"),
        (Replace, Trust::Local, "3.3.3.3", "http", "here"),
        (Pass, Trust::None, "1.1.1.1", "https", "there"),
    ] {
        assert_eq!(first(mode, trust, "x-forwarded-for").as_deref(), Some(address), "{mode:?}");
        assert_eq!(first(mode, trust, "x-forwarded-proto").as_deref(), Some(proto), "{mode:?}");
        assert_eq!(first(mode, trust, "x-forwarded-host").as_deref(), Some(host), "{mode:?}");
    }
    let removed = sent(&rules(Remove, Pass, Trust::Local), &client("::1"), &CAME);
    assert!(removed.is_empty());
}

#[test]
fn a_unix_socket_has_no_address() {
    use ForwardedMode::{Append, Pass, Replace};
    let unix = Client::new(None);
    let appended = sent(&rules(Append, Append, Trust::Local), &unix, &CAME);
    let lists = appended.get_all(&X_FORWARDED_FOR).iter().count();
    assert_eq!(lists, 2, "passed as it came");
    assert_eq!(appended.get(FORWARDED).unwrap(), "for=unknown;host=here;proto=http");
    let replaced = sent(&rules(Replace, Pass, Trust::Local), &unix, &CAME);
    assert!(!replaced.contains_key(&X_FORWARDED_FOR));
}

#[test]
fn rfc7239_6_nodes_and_hosts_are_quoted_where_the_grammar_wants_it() {
    let rules = rules(ForwardedMode::Pass, ForwardedMode::Replace, Trust::Local);
    for (ip, host, wanted) in [
        ("192.0.2.1", "a.example", "for=192.0.2.1;host=a.example;proto=http"),
        ("2001:db8::1", "a:80", "for=\"[2001:db8::1]\";host=\"a:80\";proto=http"),
        ("::ffff:192.0.2.1", "[::1]", "for=192.0.2.1;host=\"[::1]\";proto=http"),
        ("192.0.2.1", "a\"\\b", "for=192.0.2.1;host=\"a\\\"\\\\b\";proto=http"),
        ("192.0.2.1", "", "for=192.0.2.1;proto=http"),
        ("192.0.2.1", "\u{e4}", "for=192.0.2.1;proto=http"),
    ] {
        let headers = sent(&rules, &client(ip), &[("host", host), ("forwarded", "for=evil")]);
        assert_eq!(lines(&headers), [("forwarded", wanted)]);
    }
}

#[test]
fn rfc7239_4_elements_are_appended_in_order_and_open_quotes_are_not_kept() {
    let rules = rules(ForwardedMode::Pass, ForwardedMode::Append, Trust::Local);
    let ours = "for=1.2.3.4;proto=http";
    for (came, wanted) in [
        ("for=a", "for=a, for=1.2.3.4;proto=http"),
        ("for=\"[::1]:1\";by=x", "for=\"[::1]:1\";by=x, for=1.2.3.4;proto=http"),
        ("for=\"a\\\"b\"", "for=\"a\\\"b\", for=1.2.3.4;proto=http"),
        ("", ours),
        ("for=\"", ours),
        ("for=\"a\\", ours),
        ("for=a b", ours),
        ("for", ours),
        ("for=", ours),
        ("for=[::1]", ours),
    ] {
        let headers = sent(&rules, &client("1.2.3.4"), &[("forwarded", came)]);
        assert_eq!(lines(&headers), [("forwarded", wanted)], "{came}");
    }
    let removing = super::tests::rules(ForwardedMode::Pass, ForwardedMode::Remove, Trust::Local);
    assert!(sent(&removing, &client("::1"), &[("forwarded", "for=a")]).is_empty());
}

#[test]
fn rfc9110_7_6_3_via_names_the_received_version_last() {
    let settings = Forwarded { via: Some("edge".to_owned()), ..Forwarded::default() };
    let rules = Forwarding::compile(&settings, Trust::Local).unwrap();
    for (version, wanted) in [
        (Version::HTTP_10, "1.0 edge"),
        (Version::HTTP_11, "1.1 edge"),
        (Version::HTTP_2, "2.0 edge"),
    ] {
        let mut headers = map(&[("via", "1.1 first")]);
        rules.response(&mut headers, version);
        let all: Vec<_> = headers.get_all(VIA).iter().collect();
        assert_eq!(all, ["1.1 first", wanted]);
    }
    for bad in ["", "a b", "a,b", "\u{e4}", "a(b)"] {
        let settings = Forwarded { via: Some(bad.to_owned()), ..Forwarded::default() };
        let compiled = Forwarding::compile(&settings, Trust::Local);
        assert_eq!(compiled.is_err(), bad != "a(b)", "{bad}");
    }
}

/// Splits a list at the commas outside quoted texts; an independent reading of the grammar.
fn elements(value: &[u8]) -> Vec<Vec<u8>> {
    let (mut all, mut quoted, mut escaped) = (vec![Vec::new()], false, false);
    for b in value {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                all.push(Vec::new());
                continue;
            }
            _ => {}
        }
        all.last_mut().unwrap().push(*b);
    }
    all.iter().map(|element| element.trim_ascii().to_vec()).collect()
}

proptest! {
    #[test]
    fn our_element_is_always_the_last_that_a_reader_finds(
        came in proptest::collection::vec(
            prop_oneof![any_value(), "[a-z=\";, \\\\]{0,12}".prop_map(|t| t.parse().unwrap())],
            0..4),
        host in any_value(),
        ip in any::<Option<std::net::IpAddr>>(),
    ) {
        let rules = rules(ForwardedMode::Append, ForwardedMode::Append, Trust::None);
        let mut headers = HeaderMap::new();
        for value in came {
            headers.append(X_FORWARDED_FOR.clone(), value.clone());
            headers.append(FORWARDED, value);
        }
        headers.insert(HOST, host.clone());
        let client = Client::new(ip);
        rules.request(&mut headers, &client, true, Version::HTTP_2);
        let forwarded: Vec<_> = headers.get_all(FORWARDED).iter().collect();
        prop_assert_eq!(forwarded.len(), 1);
        prop_assert!(well_formed(forwarded[0].as_bytes()));
        let last = elements(forwarded[0].as_bytes()).pop().unwrap();
        let ours = element(&client, "https", Some(&host)).unwrap();
        prop_assert_eq!(last, ours.as_bytes());
        if let Some(ip) = ip {
            let list = headers.get(&X_FORWARDED_FOR).unwrap().as_bytes();
            let last = list.rsplit(|b| *b == b',').next().unwrap().trim_ascii();
            let wanted = ip.to_canonical().to_string();
            prop_assert_eq!(last, wanted.as_bytes());
        }
    }
}
