use super::*;

#[test]
fn a_path_stands_for_one_thing() {
    for (path, call) in [
        ("/records", Some(Call::List)),
        ("/records/op_a", Some(Call::Show("op_a"))),
        ("/records/op_a/resolve", Some(Call::Resolve("op_a"))),
        ("/records/op_a/purge", Some(Call::Purge("op_a"))),
        ("/records/", None),
        ("/records//purge", None),
        ("/records/op_a/forget", None),
        ("/records/op_a/purge/", None),
    ] {
        assert_eq!(Call::of(path), call, "{path}");
        assert!(is_for(path), "{path}");
    }
    assert!(!is_for("/record") && !is_for("/recordsx") && !is_for("/"));
}

fn status_of(refusal: &Refusal) -> u16 {
    refusal.status.as_u16()
}

#[test]
fn a_resolution_says_exactly_one_thing() {
    let executed = |status| Word::Resolved(Resolution::Executed { status });
    let not = Word::Resolved(Resolution::NotExecuted);
    for (text, word, force) in [
        (r#"{"executed": true, "status": 201}"#, executed(201), false),
        (r#"{"executed": true, "status": 599, "force": true}"#, executed(599), true),
        (r#"{"executed": false}"#, not, false),
        (r#"{"executed": false, "force": true}"#, not, true),
    ] {
        let said = said(text.as_bytes()).unwrap_or_else(|_| panic!("{text} is fine"));
        assert_eq!((said.word, said.force), (word, force), "{text}");
    }
    for text in [
        "",
        "{}",
        "executed",
        r#"{"executed": true}"#,
        r#"{"executed": true, "status": 199}"#,
        r#"{"executed": true, "status": 600}"#,
        r#"{"executed": true, "status": 70000}"#,
        r#"{"executed": false, "status": 201}"#,
        r#"{"executed": "no"}"#,
        r#"{"executed": false, "forced": true}"#,
    ] {
        let refusal = said(text.as_bytes()).err().unwrap_or_else(|| panic!("{text} is not fine"));
        assert_eq!(status_of(&refusal), 400, "{text}");
    }
}

#[test]
fn a_removal_needs_no_words() {
    for (text, force) in [("", false), (" \r\n", false), ("{}", false), (r#"{"force":true}"#, true)]
    {
        let said = purged(text.as_bytes()).unwrap_or_else(|_| panic!("{text} is fine"));
        assert_eq!((said.word, said.force), (Word::Purge, force), "{text}");
    }
    assert!(purged(b"{\"executed\":true}").is_err());
}

#[test]
fn a_question_is_understood_whole_or_refused() {
    let whole = asked("store=a&state=unknown,retryable&after=x&limit=5").unwrap_or_default();
    assert_eq!((whole.store.as_deref(), whole.after.as_deref()), (Some("a"), Some("x")));
    assert_eq!(whole.states, Some(vec![State::Unknown, State::Retryable]));
    assert_eq!(whole.limit, Some(5));
    let empty = asked("store=&state=&after=&limit=").unwrap_or_default();
    assert!(empty.store.is_none() && empty.states.is_none() && empty.limit.is_none());
    assert_eq!(asked("state=all").unwrap_or_default().states, Some(State::ALL.to_vec()));
    for query in ["limit=0", "limit=x", "limit=-1", "state=lost", "state=unknown,", "stor=a"] {
        let refusal = asked(query).err().unwrap_or_else(|| panic!("{query} is not fine"));
        assert_eq!(status_of(&refusal), 400, "{query}");
    }
}
