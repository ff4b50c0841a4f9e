use super::*;

fn told(code: &str, detail: &str) -> Answer {
    let error = redis::make_extension_error(code.to_owned(), Some(detail.to_owned()));
    answer(Err(error))
}

#[test]
fn f7_what_the_server_refuses_was_not_done() {
    for (code, kind) in [
        ("MISCONF", Kind::Io),
        ("NOREPLICAS", Kind::Replicas),
        ("NOAUTH", Kind::Unfit),
        ("BUSY", Kind::Unavailable),
        ("WHATEVER", Kind::Protocol),
    ] {
        let Answer::Refused(cause) = told(code, "because") else { panic!("{code}") };
        assert_eq!(cause.kind, kind, "{code}");
    }
    assert!(matches!(told("OOM", "command not allowed"), Answer::Full(_)));
}

#[test]
fn f7_what_has_a_kind_of_its_own_is_known_by_it() {
    for (kind, ours) in [
        (ServerErrorKind::ReadOnly, "READONLY"),
        (ServerErrorKind::BusyLoading, "LOADING"),
        (ServerErrorKind::MasterDown, "MASTERDOWN"),
        (ServerErrorKind::ClusterDown, "CLUSTERDOWN"),
    ] {
        let Answer::Refused(cause) = of_server(Some(kind), ours, "") else { panic!("{ours}") };
        assert_eq!(cause.kind, Kind::Unavailable, "{ours}");
    }
    assert!(matches!(of_server(Some(ServerErrorKind::NoScript), "NOSCRIPT", ""), Answer::NoScript));
}

#[test]
fn an_older_server_says_the_same_in_more_words() {
    let old = "Error running script (call to f_1): @user_script:9: -OOM command not allowed when";
    assert!(matches!(of_server(Some(ServerErrorKind::ResponseError), "ERR", old), Answer::Full(_)));
    let old = "Error running script (call to f_1): @user_script:9: -READONLY You can't write";
    let answer = of_server(Some(ServerErrorKind::ResponseError), "ERR", old);
    assert!(matches!(answer, Answer::Refused(cause) if cause.kind == Kind::Unavailable));
}

#[test]
fn a_record_that_moved_says_where_it_is() {
    let answer = of_server(Some(ServerErrorKind::Ask), "ASK", "866 127.0.0.1:7001");
    assert!(matches!(
        answer,
        Answer::Elsewhere { address, ask: true } if &*address == "127.0.0.1:7001"
    ));
}

#[test]
fn silence_says_nothing() {
    let gone = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    let Answer::Silent(cause) = answer(Err(gone.into())) else { panic!("not silent") };
    assert_eq!(cause.kind, Kind::ConnectionLost);
}
