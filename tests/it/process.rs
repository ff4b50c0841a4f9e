//! The process: its start, its signals, its end and its exit codes.

use std::path::Path;
use std::time::Duration;

use crate::support::child::{Child, command, get};
use crate::support::service::{Act, Service};
use crate::support::sidecar::eventually;

fn to(service: &Service, rest: &str) -> String {
    format!(
        "{rest}\nupstreams: {{ u: {{ endpoints: [\"{}\"] }} }}\n\
         routes: [{{ name: r, upstream: u }}]\n",
        service.address
    )
}

/// Draining takes as long as it must.
const PATIENT: &str = "runtime: { workers: 1, drain: { timeout: 1h, linger: 0s } }";

#[tokio::test]
async fn sigterm_lets_what_is_in_flight_finish() {
    let service = Service::start(|_| Act::Late(Duration::from_millis(500), 200)).await;
    for signal in ["TERM", "INT"] {
        let mut child = Child::start(&to(&service, PATIENT)).await;
        let (hits, socket) = (service.hits(), child.socket());
        let waiting = tokio::spawn(async move { get(&socket).await });
        service.reached(hits + 1).await;
        child.signal(signal);
        assert_eq!(waiting.await.unwrap(), Some(200), "{signal}: {}", child.said());
        assert_eq!(child.ended().await.code(), Some(0), "{signal}: {}", child.said());
        assert!(tokio::net::UnixStream::connect(child.socket()).await.is_err());
    }
}

#[tokio::test]
async fn sigterm_ends_what_is_idle_at_once() {
    let service = Service::always(200).await;
    // Were one of these an hour waited for, the test would fail.
    let idle = "runtime: { workers: 1, drain: { timeout: 1h, linger: 1h } }";
    let mut child = Child::start(&to(&service, idle)).await;
    assert_eq!(child.get().await, Some(200));
    child.signal("TERM");
    assert_eq!(child.ended().await.code(), Some(0), "{}", child.said());
}

#[tokio::test]
async fn an_open_connection_without_a_request_does_not_hold_the_end_up() {
    let service = Service::always(200).await;
    let mut child = Child::start(&to(&service, PATIENT)).await;
    let _idle = tokio::net::UnixStream::connect(child.socket()).await.unwrap();
    assert_eq!(child.get().await, Some(200));
    child.signal("TERM");
    assert_eq!(child.ended().await.code(), Some(0), "{}", child.said());
}

#[tokio::test]
async fn a_second_sigterm_ends_it_at_once() {
    let service = Service::start(|_| Act::Hang).await;
    let mut child = Child::start(&to(&service, PATIENT)).await;
    let socket = child.socket();
    let waiting = tokio::spawn(async move { get(&socket).await });
    service.reached(1).await;
    child.signal("TERM");
    child.says("draining").await;
    assert!(child.runs());
    child.signal("TERM");
    assert_eq!(child.ended().await.code(), Some(143), "{}", child.said());
    assert_eq!(waiting.await.unwrap(), None);
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off() {
    let service = Service::start(|_| Act::Hang).await;
    let short = "runtime: { workers: 1, drain: { timeout: 200ms, linger: 0s } }";
    let mut child = Child::start(&to(&service, short)).await;
    let socket = child.socket();
    let waiting = tokio::spawn(async move { get(&socket).await });
    service.reached(1).await;
    child.signal("TERM");
    assert_eq!(child.ended().await.code(), Some(0), "{}", child.said());
    assert_eq!(waiting.await.unwrap(), None);
    assert!(child.said().contains("cutting off"), "{}", child.said());
}

#[tokio::test]
async fn while_it_lingers_new_connections_are_served() {
    let service = Service::start(|seen| match seen.number {
        0 => Act::Hang,
        _ => Act::Late(Duration::ZERO, 200),
    })
    .await;
    let lingering = "runtime: { workers: 1, drain: { timeout: 1h, linger: 1h } }";
    let mut child = Child::start(&to(&service, lingering)).await;
    let socket = child.socket();
    let waiting = tokio::spawn(async move { get(&socket).await });
    service.reached(1).await;
    child.signal("TERM");
    child.says("draining").await;
    for _ in 0..5 {
        assert_eq!(child.get().await, Some(200));
    }
    // The last connection ends, and with it the wait.
    waiting.abort();
    assert_eq!(child.ended().await.code(), Some(0), "{}", child.said());
}

#[tokio::test]
async fn sighup_reads_the_file_again() {
    let (one, two) = (Service::always(201).await, Service::always(202).await);
    let child = Child::start(&to(&one, PATIENT)).await;
    assert_eq!(child.get().await, Some(201));
    child.write(&to(&two, PATIENT));
    assert_eq!(child.get().await, Some(201), "nobody has told it");
    child.signal("HUP");
    eventually("it is read again", async || child.get().await == Some(202)).await;
    child.write("routes: 5");
    child.signal("HUP");
    child.says("configuration refused").await;
    assert_eq!(child.get().await, Some(202));
}

/// A file with faults in lines 3, 6 and 8; that of line 3 leaves something missing in line 2.
const BAD: &str = "\
listeners:
  - name: in
    bnd: 127.0.0.1:0
upstreams:
  payments:
    endpoints: [\"nowhere\"]
routes:
  - { name: r, upstream: paymnts }
";

const GOOD: &str = "\
admin: { bind: 127.0.0.1:0 }
listeners: [{ name: in, bind: 127.0.0.1:0 }]
upstreams: { u: { endpoints: [\"127.0.0.1:1\"] } }
routes: [{ name: r, upstream: u }]
";

/// Runs a command on a file of this content; the exit code, standard output and standard error.
fn on_file(name: &str, text: &str) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("outrigger.yaml"), text).unwrap();
    run_in(folder.path(), &[name, "outrigger.yaml"])
}

fn run_in(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = command().current_dir(folder).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn it_does_not_start_on_a_bad_file_and_says_all_that_is_wrong() {
    let (code, out, error) = on_file("run", BAD);
    assert_eq!((code, out.as_str()), (1, ""));
    let (checked, problems, _) = on_file("check", BAD);
    assert_eq!(checked, 1);
    assert_eq!(error, format!("{problems}outrigger: not started: 4 problems in outrigger.yaml\n"));
}

#[test]
fn check_prints_every_problem() {
    let (code, out, error) = on_file("check", BAD);
    assert_eq!((code, error.as_str()), (1, ""));
    assert_eq!(out, include_str!("../golden/check.txt"));
}

#[test]
fn check_sums_up_a_good_file() {
    let (code, out, error) = on_file("check", GOOD);
    assert_eq!((code, error.as_str()), (0, ""));
    let start = "outrigger.yaml: ok: 1 listener, 1 route, 1 upstream, config ";
    assert!(out.starts_with(start), "{out}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["check", "run"] {
        let (code, out, error) = run_in(folder.path(), &[name, "absent.yaml"]);
        assert_eq!((code, out.as_str()), (1, ""), "{name}");
        assert!(error.contains("cannot read absent.yaml"), "{name}: {error}");
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = GOOD.replace("name: in, bind: 127.0.0.1:0", &format!("name: in, bind: {address}"));
    let (code, _, error) = on_file("run", &text);
    assert_eq!(code, 1);
    assert!(error.contains("listener `in`") && error.contains(&address), "{error}");
}

#[test]
fn the_schema_is_json() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, error) = run_in(folder.path(), &["schema"]);
    assert_eq!((code, error.as_str()), (0, ""));
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(schema["properties"]["routes"].is_object());
}

#[test]
fn health_of_nobody_is_bad() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, error) = run_in(folder.path(), &["health", "unix:absent"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(error.contains("does not answer"), "{error}");
}
