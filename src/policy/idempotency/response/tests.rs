use super::*;

fn names(s: &Settings, fields: &[(&str, &str)]) -> Vec<String> {
    let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let kept = stored(s, fields);
    kept.iter().map(|(name, _)| String::from_utf8(name.to_vec()).unwrap()).collect()
}

#[test]
fn what_belongs_to_the_result_is_kept() {
    let fields = [
        ("date", "Sat, 21 Nov 2026 04:00:00 GMT"),
        ("etag", "\"1\""),
        ("location", "/charges/1"),
        ("content-location", "/charges/1"),
        ("vary", "accept"),
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("cache-status", "origin;fwd=miss"),
        ("grpc-status-details-bin", "AA"),
    ];
    let kept = names(&Settings::default(), &fields);
    assert_eq!(kept, fields.map(|(name, _)| name));
}

#[test]
fn what_belongs_to_one_exchange_is_not() {
    let s = Settings { fence_header: Some("X-Fence".to_owned()), ..Settings::default() };
    for name in DROPPED
        .into_iter()
        .chain(["Idempotency-Outcome", "idempotency-key", "Idempotency-Status", "x-fence"])
        .chain(["X-Outrigger-Shed", "Set-Cookie", "Transfer-Encoding"])
    {
        assert_eq!(names(&s, &[(name, "x")]), Vec::<String>::new(), "{name}");
    }
    let named = Settings { status_header: "X-Status".to_owned(), ..s };
    assert_eq!(names(&named, &[("x-status", "x")]), Vec::<String>::new());
}

#[test]
fn the_fields_that_a_connection_names_go_with_it() {
    let fields = [("x-a", "1"), ("Connection", "close, X-A"), ("x-b", "2"), ("connection", "x-c")];
    assert_eq!(names(&Settings::default(), &fields), ["x-b"]);
}

#[test]
fn cookies_are_kept_where_that_is_allowed() {
    let s = Settings { allow_set_cookie: true, ..Settings::default() };
    assert_eq!(names(&s, &[("set-cookie", "a=b"), ("set-cookie", "c=d")]).len(), 2);
}

#[test]
fn values_are_kept_byte_for_byte() {
    let kept = stored(&Settings::default(), [(&b"x"[..], &b" \xff\x00"[..])].into_iter());
    assert_eq!(kept, [(b"x"[..].into(), b" \xff\x00"[..].into())]);
    assert_eq!(size(&kept), 4);
}

#[test]
fn a_status_is_an_item_of_rfc_9651() {
    let replayed = |waited| Status::Replayed { created: 1_795_219_200, age: 12, waited };
    for (status, text) in [
        (Status::Executed { attempt: 2 }, "executed;stored;attempt=2"),
        (Status::Unstored(Unstored::Pending), "executed;stored=?0;reason=pending"),
        (Status::Unstored(Unstored::TooLarge), "executed;stored=?0;reason=too-large"),
        (replayed(None), "replayed;created=1795219200;age=12"),
        (replayed(Some(40)), "replayed;created=1795219200;age=12;waited=40"),
        (Status::Rejected(Code::KeyReused), "rejected;reason=key-reused"),
        (Status::Bypassed(Bypassed::StoreFull), "bypassed;reason=store-full"),
    ] {
        assert_eq!(status.to_string(), text);
    }
    let far = Status::Replayed { created: u64::MAX, age: u64::MAX, waited: Some(u64::MAX) };
    assert_eq!(far.to_string().matches("=999999999999999").count(), 3);
}

#[test]
fn every_word_is_a_token() {
    let words = Unstored::ALL.map(Unstored::as_str).into_iter();
    let words = words.chain(Bypassed::ALL.map(Bypassed::as_str));
    for word in words.chain(Code::ALL.iter().map(|code| code.as_str())) {
        assert!(word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{word}");
    }
}

#[test]
fn a_caller_hears_what_a_peer_says() {
    for code in Code::ALL {
        let said = Status::Rejected(*code).to_string();
        assert_eq!(heard(said.as_bytes()), Some(Heard::Rejected(Some(*code))));
    }
    for why in Unstored::ALL {
        assert_eq!(heard(Status::Unstored(why).to_string().as_bytes()), Some(Heard::Answered));
    }
    for why in Bypassed::ALL {
        assert_eq!(heard(Status::Bypassed(why).to_string().as_bytes()), Some(Heard::Bypassed));
    }
    assert_eq!(heard(b"executed; stored; attempt=1"), Some(Heard::Answered));
    assert_eq!(heard(b"rejected; reason=new-reason"), Some(Heard::Rejected(None)));
    assert_eq!(heard(b"rejected"), Some(Heard::Rejected(None)));
    for other in [&b"ignored"[..], b"", b"Executed", b"executed2", b"\xff"] {
        assert_eq!(heard(other), None, "{}", other.escape_ascii());
    }
}

#[test]
fn a_replay_says_that_it_is_one() {
    let s = Settings::default();
    let fields = |status| {
        let fields = replay_fields(&s, "outrigger", status);
        fields.into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
    };
    assert_eq!(
        fields(Status::Replayed { created: 5, age: 7, waited: None }),
        [
            "Idempotency-Status: replayed;created=5;age=7",
            "Age: 7",
            "Cache-Status: outrigger;hit;detail=idempotency",
            "Idempotent-Replayed: true",
        ]
    );
    assert_eq!(
        fields(Status::Executed { attempt: 1 }),
        ["Idempotency-Status: executed;stored;attempt=1"]
    );
}
