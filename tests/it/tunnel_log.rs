//! The line of the access log that a tunnel leaves at its end.

use std::io::Read as _;
use std::process::{Command, Stdio};

use tokio::net::UnixStream;

use crate::support::child::command;
use crate::support::sidecar::eventually;
use crate::support::wire::Wire;
use crate::support::{raw_upstream, within};
use crate::tunnels::{ACCEPTED, HANDSHAKE, connect};

/// Runs the proxy, lets the test use it through a socket, ends it, and gives the access log.
async fn logged<F: Future<Output = ()>>(
    routes: &str,
    using: impl FnOnce(std::path::PathBuf) -> F,
) -> Vec<serde_json::Value> {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, socket) = (folder.path().join("outrigger.yaml"), folder.path().join("in"));
    let beginning = format!(
        "admin: {{ bind: \"unix:{0}/admin\" }}\nreload: {{ watch: false }}\n\
         listeners: [{{ name: in, bind: \"unix:{0}/in\" }}]\n\
         telemetry: {{ access_log: {{ to: stdout, sample: 100% }} }}\n",
        folder.path().display()
    );
    std::fs::write(&file, format!("{beginning}{routes}")).expect("written");
    let mut run = command();
    run.arg("run").arg(&file).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = run.spawn().expect("it starts");
    eventually("it listens", async || UnixStream::connect(&socket).await.is_ok()).await;
    using(socket).await;
    let number = process.id().to_string();
    let sent = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &number]).status();
    assert!(sent.expect("sh runs").success());
    let mut text = String::new();
    let mut pipe = process.stdout.take().expect("a pipe");
    let read = tokio::task::spawn_blocking(move || {
        pipe.read_to_string(&mut text).expect("text");
        process.wait().expect("it ends");
        text
    });
    let text = within("the end of the log", read).await.expect("no panic");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_logged_at_its_end_with_its_bytes() {
    let raw = raw_upstream(|mut wire| async move {
        if wire.head().await.starts_with("GET ") {
            wire.send(ACCEPTED).await;
        }
        assert_eq!(wire.bytes(5).await, b"hello");
        wire.send("good bye").await;
        wire.end().await;
        wire.rest().await;
    })
    .await;
    let routes = format!(
        "upstreams: {{ back: {{ endpoints: [\"{}\"] }} }}\nroutes:\n\
         \x20 - {{ name: r, upstream: back }}\n\
         \x20 - {{ name: t, match: {{ methods: [CONNECT] }}, upstream: back }}\n",
        raw.address()
    );
    let lines = logged(&routes, async |socket| {
        for (ask, prelude) in [(HANDSHAKE.to_owned(), ""), (connect("a.test:443"), "A\r\n\r\n")] {
            let mut wire = Wire::connect_unix(&socket).await;
            wire.send(ask).await;
            wire.head().await;
            wire.send(format!("{prelude}hello")).await;
            assert_eq!(wire.rest().await, "good bye");
        }
    })
    .await;
    let [upgrade, connect] = &lines[..] else { panic!("two lines are expected: {lines:?}") };
    for (line, method, status, route, up) in
        [(upgrade, "GET", 101, "r", 5), (connect, "CONNECT", 200, "t", 10)]
    {
        assert_eq!(line["method"], method, "{line}");
        assert_eq!(line["status"], status, "{line}");
        assert_eq!(line["route"], route, "{line}");
        assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&up.into(), &8.into()), "{line}");
        assert_eq!(line["reason"], serde_json::Value::Null, "{line}");
        assert!(line["duration_ms"].as_f64().is_some_and(|took| took > 0.0), "{line}");
    }
    assert_eq!(connect["host"], "a.test:443");
}
