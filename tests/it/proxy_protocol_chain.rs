//! curl and HAProxy, which wrote the PROXY protocol down, on either side of the proxy.
//!
//! `tests/run.sh` installs both; where one is missing, its test fails.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::net::UnixStream;

use crate::support::proxy::{one_route, proxy};
use crate::support::sidecar::eventually;
use crate::support::upstream::Upstream;
use crate::support::{upstream, within};

/// HAProxy; killed when this is dropped.
struct Haproxy(Child);

impl Drop for Haproxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Haproxy {
    /// Starts one between two sockets of a folder: it demands a header, and sends one so.
    async fn start(folder: &Path, sends: &str) -> Self {
        let (front, back) = (folder.join("front"), folder.join("back"));
        let text = format!(
            "defaults\n  mode http\n  timeout connect 10s\n  timeout client 60s\n\
             \x20 timeout server 60s\nfrontend in\n  bind unix@{} accept-proxy\n\
             \x20 http-request set-header x-saw %[src]:%[src_port]-%[dst]:%[dst_port]\n\
             \x20 default_backend out\nbackend out\n  option httpchk GET /check\n\
             \x20 server b unix@{} {sends} check inter 100ms\n",
            front.display(),
            back.display()
        );
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, text).expect("a file");
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("haproxy can be run; is it installed?");
        eventually("HAProxy listens", async || UnixStream::connect(&front).await.is_ok()).await;
        Self(process)
    }
}

/// Runs curl, which must be answered.
async fn curl(arguments: Vec<String>) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--max-time", "60", "--noproxy", "*"]);
    command.args(&arguments).stdin(Stdio::null());
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = within("curl", run).await.expect("no panic").expect("curl is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl {arguments:?}: {errors}");
}

/// The fields that the last request but checks brought.
fn seen(upstream: &Upstream) -> (String, String) {
    let all = upstream.requests();
    let last = all.iter().rev().find(|seen| seen.uri.path() != "/check").expect("a request");
    let field = |name| last.header(name).unwrap_or_default().to_owned();
    (field("x-forwarded-for"), field("x-saw"))
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_says_for_whom_it_comes() {
    let upstream = upstream().spawn().await;
    let settings = "proxy_protocol: true, forwarded: { x_forwarded: append }";
    let proxy = one_route(&upstream, "").listening(settings).spawn().await;
    for way in ["--http1.1", "--http2-prior-knowledge"] {
        let url = format!("http://{}/", proxy.address());
        curl(vec!["--haproxy-protocol".into(), way.into(), url]).await;
        assert_eq!(seen(&upstream).0, "127.0.0.1");
    }
    let read = "outrigger_listener_proxy_headers_total{listener=\"in\",result=\"v1\"}";
    assert_eq!(proxy.metric(read), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_go_through_haproxy_and_back() {
    let crc = "send-proxy-v2 proxy-v2-options crc32c,unique-id";
    for (told, sends) in [("v1", "send-proxy"), ("v2", "send-proxy-v2"), ("v2", crc)] {
        let upstream = upstream().spawn().await;
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().display().to_string();
        let behind = one_route(&upstream, "").and(&format!(
            "listeners: [{{ name: in, bind: \"unix:{at}/back\", proxy_protocol: true, \
             forwarded: {{ x_forwarded: append }} }}]"
        ));
        let behind = behind.spawn().await;
        let _haproxy = Haproxy::start(folder.path(), sends).await;
        let front = proxy(&format!(
            "upstreams:\n  back:\n    endpoints: [\"unix:{at}/front\"]\n\
             \x20   proxy_protocol: {told}\n\
             routes: [{{ name: r, upstream: back }}]\n"
        ));
        let front = front.spawn().await;
        // HAProxy finds the listener behind it healthy, for which it comes for itself.
        let checked = || upstream.requests().iter().any(|seen| seen.uri.path() == "/check");
        crate::support::eventually("a check", checked).await;
        let url = format!("http://{}/", front.address());
        for _ in 0..3 {
            curl(vec![url.clone(), url.clone()]).await;
            let (client, saw) = seen(&upstream);
            assert_eq!(client, "127.0.0.1", "{sends}");
            let to = format!("-{}", front.address());
            assert!(saw.starts_with("127.0.0.1:") && saw.ends_with(&to), "{sends}: {saw}");
        }
        let checked = upstream.requests().into_iter().find(|seen| seen.uri.path() == "/check");
        let checked = checked.expect("a check");
        assert_eq!(checked.header("x-forwarded-for"), None, "a check comes for HAProxy itself");
        let read = |result: &str| {
            let name = "outrigger_listener_proxy_headers_total";
            behind.metric(&format!("{name}{{listener=\"in\",result=\"{result}\"}}"))
        };
        assert_eq!(read("checksum") + read("malformed") + read("unsupported"), 0.0);
        assert!(read(if sends == "send-proxy" { "v1" } else { "v2" }) > 1.0);
    }
}
