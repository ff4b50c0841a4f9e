//! What can be done, and by whom.

use super::*;

fn state_of(served: &Served, route: &str, upstream: &str) -> String {
    let breakers = served.json("/breakers");
    let mut all = breakers.as_array().unwrap().iter();
    let one = all.find(|view| view["route"] == route && view["upstream"] == upstream).unwrap();
    one["state"].as_str().unwrap().to_owned()
}

#[test]
fn without_a_token_file_nothing_can_be_changed() {
    let served = Served::with("");
    for path in ["/reload", "/breakers/pay/isolate"] {
        let got = served.ask(&format!("POST {path}"), &["authorization: Bearer let-me"]);
        assert_eq!(got.status, 403);
        assert!(got.detail().contains("admin.token_file"), "{}", got.detail());
    }
    assert_eq!(state_of(&served, "pay", "spare"), "closed");
}

#[test]
fn a_change_needs_the_token() {
    let served = Served::with_token();
    for fields in [
        &[][..],
        &["authorization: Bearer let-m"],
        &["authorization: Bearer let-mee"],
        &["authorization: Bearer "],
        &["authorization: Basic let-me"],
        &["authorization: let-me"],
        &["authorization: Bearer let-me", "authorization: Bearer let-me"],
    ] {
        let got = served.ask("POST /breakers/pay/isolate", fields);
        assert_eq!(got.status, 401, "{fields:?}");
        assert!(got.field("www-authenticate").is_some_and(|field| field.starts_with("Bearer")));
        assert!(!got.body.contains("let-me"));
    }
    assert_eq!(state_of(&served, "pay", "spare"), "closed");
    assert_eq!(served.change("/breakers/pay/isolate").status, 200);
    assert_eq!(state_of(&served, "pay", "spare"), "isolated");
}

#[test]
fn the_token_is_read_anew_at_each_use() {
    let served = Served::with_token();
    let token = served.folder.path().join("token");
    assert_eq!(served.change("/reload").status, 200);
    std::fs::write(&token, "another").unwrap();
    assert_eq!(served.change("/reload").status, 401);
    std::fs::write(&token, " \n").unwrap();
    let empty = served.ask("POST /reload", &["authorization: Bearer "]);
    assert_eq!((empty.status, empty.detail().contains("is empty")), (403, true));
    std::fs::remove_file(&token).unwrap();
    let gone = served.change("/reload");
    assert_eq!((gone.status, gone.detail().contains("cannot be read")), (403, true));
}

#[test]
fn a_web_page_of_another_origin_cannot_change_anything() {
    let served = Served::with_token();
    let ask =
        |field: &str| served.ask("POST /reload", &["authorization: Bearer let-me", field]).status;
    assert_eq!(ask("origin: http://evil.example"), 403);
    assert_eq!(ask("origin: null"), 403);
    assert_eq!(ask("origin: https://localhost"), 403);
    assert_eq!(ask("sec-fetch-site: cross-site"), 403);
    assert_eq!(ask("sec-fetch-site: same-site"), 403);
    assert_eq!(ask("origin: http://localhost"), 200, "a page of our own");
    assert_eq!(ask("sec-fetch-site: same-origin"), 200);
}

#[test]
fn a_reload_puts_the_file_in_force_or_tells_all_that_is_wrong_with_it() {
    let served = Served::with_token();
    let good = std::fs::read_to_string(served.file()).unwrap();
    let same = served.change("/reload").json();
    assert_eq!((&same["changed"], &same["generation"]), (&false.into(), &1.into()));
    std::fs::write(served.file(), good.replace("weight: 3", "weight: 5")).unwrap();
    let changed = served.change("/reload").json();
    assert_eq!((&changed["changed"], &changed["generation"]), (&true.into(), &2.into()));
    assert_ne!(changed["hash"], same["hash"]);
    assert_eq!(changed["restart_required"], serde_json::json!([]));
    assert_eq!(served.json("/routes")[0]["upstreams"][0]["weight"], 5);

    let bad = good.replace("upstream: spare", "upstream: spair").replace("weight: 1", "weigt: 1");
    std::fs::write(served.file(), bad).unwrap();
    let refused = served.change("/reload");
    assert_eq!(refused.status, 422);
    let problems = refused.json()["problems"].clone();
    assert!(problems.as_array().unwrap().len() >= 2, "{problems}");
    assert!(problems.as_array().unwrap().iter().all(|one| one["line"].as_u64() > Some(0)));
    assert!(problems.to_string().contains("spair"));
    assert_eq!(served.json("/problems"), problems);
    assert_eq!(served.json("/routes")[0]["upstreams"][0]["weight"], 5, "the one before stays");

    std::fs::write(served.file(), good.replace("token_file", "max_connections: 9, token_file"))
        .unwrap();
    let changed = served.change("/reload").json();
    assert_eq!(changed["restart_required"], serde_json::json!(["admin"]));
    assert_eq!(served.json("/problems"), serde_json::json!([]));
}

#[test]
fn breakers_are_isolated_and_closed_one_or_all() {
    let served = Served::with_token();
    let states = || (state_of(&served, "pay", "payments"), state_of(&served, "pay", "spare"));
    let both = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let one = served.change("/breakers/pay/spare/isolate").json();
    assert_eq!(one.as_array().unwrap().len(), 1);
    assert_eq!((&one[0]["upstream"], &one[0]["state"]), (&"spare".into(), &"isolated".into()));
    assert_eq!(states(), both("closed", "isolated"));
    assert_eq!(served.change("/breakers/pay/isolate").json().as_array().unwrap().len(), 2);
    assert_eq!(states(), both("isolated", "isolated"));
    let gauge = "outrigger_breaker_state{route=\"pay\",upstream=\"payments\"} 4";
    assert!(served.get("/metrics").body.contains(gauge));
    assert_eq!(served.change("/breakers/pay/payments/close").status, 200);
    assert_eq!(states(), both("closed", "isolated"));
    assert_eq!(served.change("/breakers/pay/close").status, 200);
    assert_eq!(states(), both("closed", "closed"));
}

#[test]
fn a_change_of_what_is_not_there_or_has_no_effect_is_refused() {
    let served = Served::with_token();
    let refused = |path: &str| {
        let got = served.change(path);
        (got.status, got.detail())
    };
    assert_eq!(refused("/breakers/nobody/isolate"), (404, "no route is named `nobody`".to_owned()));
    let (status, detail) = refused("/breakers/pay/nobody/close");
    assert_eq!((status, detail.contains("does not lead to upstream `nobody`")), (404, true));
    let (status, detail) = refused("/breakers/watched/isolate");
    assert_eq!((status, detail.contains("is observe")), (409, true), "{detail}");
    assert_eq!(state_of(&served, "watched", "spare"), "closed");
    assert_eq!(served.change("/breakers/watched/close").status, 200, "closing does no harm");
}
