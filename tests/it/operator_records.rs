//! Records as an operator meets them: the command, the admin paths behind it, and what they leave
//! in the log.

use std::path::Path;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::child::{Child, command};
use crate::support::service::{Act, Service, status};

/// A route whose keys are kept in memory, all callers one.
fn to(service: &Service) -> String {
    format!(
        "stores: {{ keys: {{ memory: {{}} }} }}\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"] }} }}\n\
         routes:\n\
         \x20 - name: pay\n\
         \x20   upstream: u\n\
         \x20   idempotency: {{ store: keys, scope: [none] }}\n",
        service.address
    )
}

/// The first request is read, and its connection closed without an answer.
async fn doubtful() -> (Service, Child) {
    let service = Service::start(|seen| match seen.number {
        0 => Act::Drop,
        _ => status(201),
    })
    .await;
    let child = Child::start(&to(&service)).await;
    (service, child)
}

/// One request at a unix socket: the status, the head and the body.
async fn ask(socket: &Path, head: &str, body: &str) -> (u16, String, String) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let length = body.len();
    let request = format!(
        "{head}\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

async fn pay(child: &Child, key: &str) -> (u16, Value) {
    let head = format!("POST /pay HTTP/1.1\r\nidempotency-key: \"{key}\"");
    let (status, _, body) = ask(&child.socket(), &head, "amount=5").await;
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

/// `outrigger records`: the exit code, standard output and standard error.
fn records(child: &Child, arguments: &[&str]) -> (i32, String, String) {
    let output = command()
        .arg("records")
        .args(arguments)
        .arg("--admin")
        .arg(format!("unix:{}", child.admin().display()))
        .arg("--token-file")
        .arg(child.token())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A key whose outcome is unknown, and what its record is called.
async fn unknown(child: &Child) -> String {
    let (status, problem) = pay(child, "k-1").await;
    assert_eq!((status, &problem["code"]), (502, &Value::from("outcome-unknown")), "{problem}");
    assert_eq!(pay(child, "k-1").await.0, 409, "nobody knows, and nothing is sent");
    problem["operation_ref"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_unknown_outcome_is_found_by_what_its_client_was_told() {
    let (_service, child) = doubtful().await;
    let reference = unknown(&child).await;
    let (code, table, _) = records(&child, &["list"]);
    assert_eq!(code, 0);
    let lines: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 2, "{table}");
    assert_eq!(lines[0], ["REF", "STATE", "FIRST", "SEEN", "TRIES", "WHY", "STATUS"]);
    assert_eq!(lines[1][..2], [reference.as_str(), "unknown"]);
    assert_eq!(lines[1][3..], ["1", "connection_lost", "-"]);
    let (code, shown, _) = records(&child, &["show", &reference, "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(code, 0);
    assert_eq!((&shown["ref"], &shown["store"]), (&reference.into(), &"keys".into()));
    assert_eq!((&shown["state"], &shown["doubt"]), (&"unknown".into(), &"connection_lost".into()));
    assert!(shown["keep_until"].as_str().unwrap() > shown["first_seen"].as_str().unwrap());
    let text = format!("{table}{shown}");
    assert!(!text.contains("k-1") && !text.contains("amount"), "nothing of the client: {text}");
}

#[tokio::test]
async fn resolved_as_not_executed_the_key_is_free_and_the_log_says_who_did_it() {
    let (service, child) = doubtful().await;
    let reference = unknown(&child).await;
    let (code, _, early) = records(&child, &["resolve", &reference, "--not-executed"]);
    assert_eq!(code, 1);
    assert!(early.contains("(409)") && early.contains("may still execute it"), "{early}");
    assert_eq!(pay(&child, "k-1").await.0, 409);
    assert_eq!(service.hits(), 1);
    let force = ["resolve", &reference, "--not-executed", "--force"];
    let (code, said, _) = records(&child, &force);
    assert_eq!((code, said), (0, format!("{reference}: unknown -> absent\n")));
    assert_eq!(pay(&child, "k-1").await.0, 201);
    assert_eq!(service.hits(), 2);
    child.says("resolve_not_executed").await;
    let audit: Vec<_> = child.said().lines().map(str::to_owned).collect();
    let audit: Vec<_> = audit.iter().filter(|line| line.contains("audit")).collect();
    assert_eq!(audit.len(), 2, "{audit:?}");
    for part in [&*reference, "unix:uid=", "before", "unknown", "after", "absent", "done"] {
        assert!(audit[1].contains(part), "{part} is missing: {}", audit[1]);
    }
    assert!(audit[0].contains("too_early"), "{}", audit[0]);
    let (_, _, metrics) = ask(&child.admin(), "GET /metrics HTTP/1.1", "").await;
    let counted = "outrigger_store_settled_by_hand_total{store=\"keys\",as=\"not_executed\"} 1\n";
    assert!(metrics.contains(counted), "{counted}");
}

#[tokio::test]
async fn resolved_as_executed_it_is_never_sent_again() {
    let (service, child) = doubtful().await;
    let reference = unknown(&child).await;
    let resolve = ["resolve", &reference, "--executed", "201"];
    assert_eq!(records(&child, &resolve).1, format!("{reference}: unknown -> completed\n"));
    assert_eq!(records(&child, &resolve).1, format!("{reference}: had been done before\n"));
    let (status, problem) = pay(&child, "k-1").await;
    assert_eq!((status, &problem["code"]), (409, &"result-unavailable".into()), "{problem}");
    assert_eq!(problem["original_status"], 201, "{problem}");
    assert_eq!(service.hits(), 1);
    let (code, _, why) = records(&child, &["resolve", &reference, "--not-executed"]);
    assert!(code == 1 && why.contains("it is completed"), "{why}");
    assert_eq!(records(&child, &["list"]).1, "no records\n");
    let (_, all, _) = records(&child, &["list", "--state", "completed,tombstone"]);
    assert!(all.contains(&reference), "{all}");
}

#[tokio::test]
async fn a_purged_record_makes_its_key_new() {
    let service = Service::always(201).await;
    let child = Child::start(&to(&service)).await;
    for _ in 0..2 {
        assert_eq!(pay(&child, "k-1").await.0, 201);
    }
    assert_eq!(service.hits(), 1);
    let (_, list, _) = records(&child, &["list", "--state", "all", "--json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let reference = list["records"][0]["ref"].as_str().unwrap();
    let purge = ["purge", reference];
    assert_eq!(records(&child, &purge).1, format!("{reference}: completed -> absent\n"));
    let (code, _, gone) = records(&child, &purge);
    assert!(code == 1 && gone.contains("(404)"), "{gone}");
    assert_eq!(pay(&child, "k-1").await.0, 201);
    assert_eq!(service.hits(), 2);
    child.says("\"action\":\"purge\"").await;
}

#[tokio::test]
async fn a_long_list_is_read_in_pages() {
    let service = Service::always(201).await;
    let child = Child::start(&to(&service)).await;
    for key in ["a", "b", "c"] {
        assert_eq!(pay(&child, key).await.0, 201);
    }
    let (mut seen, mut more) = (Vec::new(), None::<String>);
    for _ in 0..3 {
        let mut arguments = vec!["list", "--state", "all", "--limit", "1", "--json"];
        arguments.extend(more.as_ref().map(|_| "--after"));
        arguments.extend(more.as_deref());
        let (_, page, _) = records(&child, &arguments);
        let page: Value = serde_json::from_str(&page).unwrap();
        assert_eq!(page["records"].as_array().unwrap().len(), 1);
        seen.push(page["records"][0]["ref"].as_str().unwrap().to_owned());
        more = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(more, None);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 3, "{seen:?}");
    let (_, table, _) = records(&child, &["list", "--state", "all", "--limit", "2"]);
    assert!(table.contains("there are more: --after "), "{table}");
    let (code, _, wrong) = records(&child, &["list", "--after", "op_x"]);
    assert!(code == 1 && wrong.contains("(400)"), "{wrong}");
}

#[tokio::test]
async fn without_the_token_nothing_is_told() {
    let (_service, child) = doubtful().await;
    let reference = unknown(&child).await;
    let admin = child.admin();
    let calls = [
        "GET /records".to_owned(),
        format!("GET /records/{reference}"),
        format!("POST /records/{reference}/resolve"),
        format!("POST /records/{reference}/purge"),
    ];
    for call in &calls {
        // Nobody has written the token yet.
        let (status, _, body) = ask(&admin, &format!("{call} HTTP/1.1"), "").await;
        assert_eq!(status, 403, "{call}: {body}");
    }
    child.token();
    for call in &calls {
        for fields in ["", "\r\nauthorization: Bearer another", "\r\nauthorization: Basic let-me"] {
            let (status, head, body) = ask(&admin, &format!("{call} HTTP/1.1{fields}"), "").await;
            assert_eq!(status, 401, "{call}{fields}: {body}");
            assert!(head.contains("www-authenticate: Bearer"), "{head}");
            assert!(!body.contains(&reference), "{body}");
        }
    }
    child.says("records refused").await;
    let other = child.token().with_file_name("other");
    std::fs::write(&other, "another\n").unwrap();
    let asking = |rest: &[&std::ffi::OsStr]| {
        let admin = format!("unix:{}", admin.display());
        command().args(["records", "list", "--admin", &admin]).args(rest).output().unwrap()
    };
    let refused = asking(&["--token-file".as_ref(), other.as_os_str()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("(401)"));
    assert_eq!(asking(&[]).status.code(), Some(2), "the token is not optional");
}

#[tokio::test]
async fn what_is_not_there_is_said_in_a_sentence() {
    let service = Service::always(201).await;
    let child = Child::start(&to(&service)).await;
    for (arguments, why) in [
        (&["show", "op_x"][..], "no record that is called `op_x`"),
        (&["list", "--store", "others"], "no store is named `others`"),
        (&["list", "--state", "lost"], "`lost` is no state"),
        (&["show", "../reload"], "no record that is called"),
    ] {
        let (code, _, said) = records(&child, arguments);
        assert!(code == 1 && said.contains(why), "{arguments:?}: {said}");
    }
    child.token();
    let token = "authorization: Bearer let-me";
    for (head, expected) in [
        ("POST /records HTTP/1.1", 405),
        ("GET /records/op_x/purge HTTP/1.1", 405),
        ("DELETE /records/op_x HTTP/1.1", 405),
        ("GET /records/op_x/unheard HTTP/1.1", 404),
        ("GET /records?limit=none HTTP/1.1", 400),
        ("POST /records/op_x/resolve HTTP/1.1", 400),
    ] {
        let (status, head, _) = ask(&child.admin(), &format!("{head}\r\n{token}"), "").await;
        assert_eq!(status, expected, "{head}");
        assert!(head.contains("application/problem+json"), "{head}");
    }
    let bare = "upstreams: { u: { endpoints: [\"127.0.0.1:1\"] } }\n\
                routes: [{ name: r, upstream: u }]";
    let bare = Child::start(bare).await;
    let (code, _, said) = records(&bare, &["list"]);
    assert!(code == 1 && said.contains("no stores"), "{said}");
}
