//! Unix sockets on both sides, with real clients and across the ends of processes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::child::Child;
use crate::support::proxy::{one_route, proxy};
use crate::support::sidecar::eventually;
use crate::support::{upstream, within};

async fn curl(socket: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--max-time", "60", "--unix-socket"]);
    command.arg(socket).args(arguments).stdin(Stdio::null());
    let run = tokio::task::spawn_blocking(move || command.output());
    within("curl", run).await.expect("no panic").expect("curl is installed")
}

fn text(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_is_served_from_socket_to_socket() {
    let upstream = upstream()
        .serve(|mut arrival| async move {
            let body = arrival.read().await;
            crate::support::reply(200).body([arrival.target.as_bytes(), b" ", &body[..]].concat())
        })
        .spawn()
        .await;
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().display();
    // Two proxies with a socket between them, since the upstream of the tests speaks TCP.
    let behind = one_route(&upstream, "")
        .and(&format!("listeners: [{{ name: in, bind: \"unix:{at}/between\" }}]"));
    let _behind = behind.spawn().await;
    let front = proxy(&format!(
        "listeners: [{{ name: in, bind: \"unix:{at}/front\", socket_mode: \"0600\" }}]\n\
         upstreams: {{ back: {{ endpoints: [\"unix:{at}/between\"] }} }}\n\
         routes: [{{ name: r, upstream: back }}]\n"
    ));
    let front = front.spawn().await;
    let socket = folder.path().join("front");
    let large = "x".repeat(1 << 20);
    let file = folder.path().join("body");
    std::fs::write(&file, &large).expect("a file");
    let file = format!("@{}", file.display());
    for way in ["--http1.1", "--http2-prior-knowledge"] {
        let got = curl(&socket, &[way, "http://a/x?y"]).await;
        assert_eq!(text(&got), "/x?y ");
        let got = curl(&socket, &[way, "--data-binary", &file, "http://a/x"]).await;
        assert!(text(&got) == format!("/x {large}"), "{way}");
    }
    let mode = std::fs::metadata(&socket).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let endpoint = format!("endpoint=\"unix:{at}/between\",result=\"success\"}} 4");
    assert!(front.metrics().contains(&endpoint), "{}", front.metrics());
    front.drain().await;
    assert!(!socket.exists(), "the socket goes with its listener");
    assert!(folder.path().join("between").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_of_a_killed_process_is_taken_over_and_one_in_use_is_not() {
    let route = "upstreams: { u: { endpoints: [\"127.0.0.1:1\"] } }\n\
                 routes: [{ name: r, upstream: u }]\n";
    let mut first = Child::start(route).await;
    let socket = first.socket();
    // While it lives, nobody else gets the socket, and it goes on.
    let mut second = first.again();
    let refused = within("its end", second.ended()).await;
    assert!(!refused.success());
    assert_eq!(first.get().await, Some(502));
    first.kill().await;
    assert!(socket.exists(), "a killed process removes nothing");
    let mut third = first.again();
    eventually("it listens", async || third.get().await == Some(502)).await;
    third.signal("TERM");
    assert!(within("its end", third.ended()).await.success());
    assert!(!socket.exists());
}
