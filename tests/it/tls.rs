//! TLS towards clients: which certificate, which clients, which protocol, and who is kept waiting.

use std::process::Command;
use std::time::Duration;

use outrigger::clock;
use rustls::HandshakeKind;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::proxy::{Proxy, one_route};
use crate::support::secure::{Authority, TlsClient, exchange, tls_client};
use crate::support::upstream::Upstream;
use crate::support::{eventually, reply, upstream, within};

/// A proxy whose listener serves TLS, and an upstream behind it that tells how it was asked.
struct Scene {
    proxy: Proxy,
    _upstream: Upstream,
    folder: TempDir,
}

impl Scene {
    /// The settings of TLS are written with `{folder}` for the folder of their files.
    async fn new(folder: TempDir, tls: &str, listener: &str) -> Self {
        let upstream = upstream()
            .serve(|arrival| async move { reply(200).body(format!("got {}", arrival.target)) })
            .spawn()
            .await;
        let tls = tls.replace("{folder}", &folder.path().display().to_string());
        let settings = format!("tls: {{ {tls} }}, {listener}");
        let proxy = one_route(&upstream, "").listening(&settings).spawn().await;
        Self { proxy, _upstream: upstream, folder }
    }

    fn handshakes(&self, result: &str) -> f64 {
        let text = self.proxy.metrics();
        let sample = format!("tls_handshakes_total{{listener=\"in\",result=\"{result}\"}} ");
        // Before the first there is none.
        text.split(&sample).nth(1).map_or(0.0, |rest| {
            let value = rest.lines().next().unwrap_or_default();
            value.parse().expect("a metric is a number")
        })
    }

    async fn counted(&self, result: &str) {
        eventually(result, || self.handshakes(result) == 1.0).await;
    }

    fn client(&self, believes: &Authority) -> TlsClient {
        tls_client(self.proxy.address(), believes)
    }
}

/// A scene with one certificate for `svc.test`.
async fn simple(authority: &Authority, listener: &str) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let pair = authority.issue(&["svc.test"]).write(folder.path(), "svc");
    std::fs::write(folder.path().join("ca.pem"), &authority.pem).unwrap();
    Scene::new(folder, &pair, listener).await
}

async fn curl(scene: &Scene, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new("curl");
    let resolve = format!("svc.test:{}:127.0.0.1", scene.proxy.address().port());
    let url = format!("https://svc.test:{}/x", scene.proxy.address().port());
    command.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*"]);
    command.args(["--resolve", &resolve, "--cacert"]).arg(scene.folder.path().join("ca.pem"));
    command.args(arguments).arg(url);
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = within("curl", output).await.unwrap().expect("curl is installed");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_is_served_over_every_version_and_protocol_and_refused_older_ones() {
    let authority = Authority::new("one");
    let scene = simple(&authority, "forwarded: { x_forwarded: append, forwarded: append }").await;
    let shows = ["--write-out", " %{http_version}"];
    for (arguments, version) in [
        (vec!["--http1.1", "--tls-max", "1.2"], "1.1"),
        (vec!["--http1.1", "--tlsv1.3"], "1.1"),
        (vec!["--http2", "--tls-max", "1.2"], "2"),
        (vec!["--http2", "--tlsv1.3"], "2"),
        (vec!["--no-alpn"], "1.1"),
    ] {
        let (ok, text) = curl(&scene, &[&arguments[..], &shows[..]].concat()).await;
        assert!(ok && text == format!("got /x {version}"), "{arguments:?}: {text}");
    }
    for request in scene._upstream.requests() {
        assert_eq!(request.header("x-forwarded-proto"), Some("https"));
        assert!(request.header("forwarded").is_some_and(|f| f.ends_with(";proto=https")));
    }
    let old = ["--tls-max", "1.1", "--tlsv1.0", "--ciphers", "DEFAULT@SECLEVEL=0"];
    let (ok, text) = curl(&scene, &old).await;
    assert!(!ok && text.contains("alert"), "{text}");
    scene.counted("incompatible").await;
    assert_eq!(scene.handshakes("full") + scene.handshakes("resumed"), 5.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_protocols_of_the_listener_are_agreed_on() {
    let authority = Authority::new("one");
    let scene = simple(&authority, "protocols: [http1]").await;
    let client = scene.client(&authority);
    let stream = client.clone().alpn(&["h2", "http/1.1"]).connect("svc.test").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let error = client.alpn(&["h2"]).connect("svc.test").await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    scene.counted("incompatible").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_gets_the_certificate_of_the_name_it_asks_for() {
    let authority = Authority::new("one");
    let folder = tempfile::tempdir().unwrap();
    let issued = [
        authority.issue(&["first.test", "127.0.0.1"]),
        authority.issue(&["*.wild.test"]),
        authority.issue(&["Own.wild.test", "other.test"]),
    ];
    let list: Vec<_> = issued
        .iter()
        .zip(["a", "b", "c"])
        .map(|(issued, name)| format!("{{ {} }}", issued.write(folder.path(), name)))
        .collect();
    let scene = Scene::new(folder, &format!("certificates: [{}]", list.join(", ")), "").await;
    for (name, which) in [
        ("first.test", 0),
        ("x.wild.test", 1),
        ("own.wild.test", 2),
        ("other.test", 2),
        // An IP address is not asked for by name.
        ("127.0.0.1", 0),
    ] {
        let mut stream = scene.client(&authority).connect(name).await.unwrap();
        assert!(issued[which].is_shown_by(&stream), "{name}");
        assert_eq!(exchange(&mut stream, name).await.unwrap(), 200);
    }
    // A name that no certificate is for gets the first, and the client is right to refuse it.
    let error = scene.client(&authority).connect("a.b.wild.test").await.unwrap_err();
    assert!(error.to_string().contains("first.test"), "{error}");
    scene.counted("refused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_prove_who_they_are() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let folder = tempfile::tempdir().unwrap();
    let pair = ours.issue(&["svc.test"]).write(folder.path(), "svc");
    std::fs::write(folder.path().join("ca.pem"), &ours.pem).unwrap();
    let tls = format!(
        "{pair}, client_ca: {{folder}}/ca.pem, \
         client_names: [\"spiffe://td/ns/pay/*\", \"*.caller.test\"]"
    );
    let scene = Scene::new(folder, &tls, "").await;
    let good = [ours.issue(&["spiffe://td/ns/pay/sa/a"]), ours.issue(&["x.test", "a.caller.test"])];
    for issued in &good {
        let client = scene.client(&ours).showing(&ours, issued);
        assert_eq!(client.get("svc.test").await.unwrap(), 200);
    }
    for (issued, result) in [
        (None, "no_certificate"),
        (Some(theirs.issue(&["a.caller.test"])), "unknown_issuer"),
        (Some(ours.issue_until(&["a.caller.test"], 2020)), "expired_certificate"),
        (Some(ours.issue(&["spiffe://td/ns/shop/sa/a", "caller.test"])), "name_not_allowed"),
        (Some(ours.issue(&[])), "name_not_allowed"),
    ] {
        let before = scene.handshakes(result);
        let client = scene.client(&ours);
        let client = match &issued {
            Some(issued) => client.showing(&ours, issued),
            None => client,
        };
        client.get("svc.test").await.expect_err(result);
        eventually(result, || scene.handshakes(result) == before + 1.0).await;
    }
    assert_eq!(scene.handshakes("full"), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_may_be_optional_and_is_verified_all_the_same() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let folder = tempfile::tempdir().unwrap();
    let pair = ours.issue(&["svc.test"]).write(folder.path(), "svc");
    std::fs::write(folder.path().join("ca.pem"), &ours.pem).unwrap();
    let tls = format!("{pair}, client_ca: {{folder}}/ca.pem, require_client_cert: false");
    let scene = Scene::new(folder, &tls, "").await;
    assert_eq!(scene.client(&ours).get("svc.test").await.unwrap(), 200);
    let own = scene.client(&ours).showing(&ours, &ours.issue(&["a.test"]));
    assert_eq!(own.get("svc.test").await.unwrap(), 200);
    let other = scene.client(&ours).showing(&ours, &theirs.issue(&["a.test"]));
    other.get("svc.test").await.unwrap_err();
    scene.counted("unknown_issuer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_resumed_by_any_worker() {
    let authority = Authority::new("one");
    let scene = simple(&authority, "").await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = scene.client(&authority).version(&authority, version);
        for round in 0..4 {
            let mut stream = client.connect("svc.test").await.unwrap();
            let kind = stream.get_ref().1.handshake_kind();
            let resumed = kind == Some(HandshakeKind::Resumed);
            assert_eq!(resumed, round > 0, "{version:?} {round} {kind:?}");
            // The tickets of 1.3 come with the answer.
            assert_eq!(exchange(&mut stream, "svc.test").await.unwrap(), 200);
        }
    }
    assert_eq!((scene.handshakes("full"), scene.handshakes("resumed")), (2.0, 6.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_shake_hands_is_hung_up_on() {
    let authority = Authority::new("one");
    let folder = tempfile::tempdir().unwrap();
    let pair = authority.issue(&["svc.test"]).write(folder.path(), "svc");
    let scene = Scene::new(folder, &format!("{pair}, handshake_timeout: 300ms"), "").await;
    let mut silent = TcpStream::connect(scene.proxy.address()).await.unwrap();
    let mut slow = TcpStream::connect(scene.proxy.address()).await.unwrap();
    // The head of a record that never comes whole.
    slow.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    let mut rest = Vec::new();
    within("the end", silent.read_to_end(&mut rest)).await.unwrap();
    let _ = within("the end", slow.read_to_end(&mut rest)).await;
    eventually("both are counted", || scene.handshakes("timeout") == 2.0).await;

    let mut plain = TcpStream::connect(scene.proxy.address()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: svc.test\r\n\r\n").await.unwrap();
    // An alert, and no answer of HTTP.
    let mut answer = Vec::new();
    let _ = within("the end", plain.read_to_end(&mut answer)).await;
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
    scene.counted("not_tls").await;

    drop(TcpStream::connect(scene.proxy.address()).await.unwrap());
    scene.counted("closed").await;
    assert_eq!(scene.client(&authority).get("svc.test").await.unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_slow_handshakes_does_not_keep_others_out() {
    const MOST: usize = outrigger::server::handshake::MAX_PER_WORKER;
    let authority = Authority::new("one");
    let folder = tempfile::tempdir().unwrap();
    let pair = authority.issue(&["svc.test"]).write(folder.path(), "svc");
    let upstream = upstream().spawn().await;
    let settings = format!("tls: {{ {pair}, handshake_timeout: 60s }}");
    let proxy = one_route(&upstream, "")
        .listening(&settings)
        .and("runtime: { workers: 1, drain: { timeout: 5s, linger: 0s } }")
        .spawn()
        .await;
    let scene = Scene { proxy, _upstream: upstream, folder };
    let mut crowd = Vec::new();
    for _ in 0..MOST + 40 {
        crowd.push(TcpStream::connect(scene.proxy.address()).await.unwrap());
    }
    eventually("the oldest to make way", || scene.handshakes("crowded") == 40.0).await;
    let mut rest = Vec::new();
    within("the first of all", crowd[0].read_to_end(&mut rest)).await.unwrap();
    assert_eq!(scene.client(&authority).get("svc.test").await.unwrap(), 200);
    assert_eq!(scene.handshakes("crowded"), 41.0);
    // The drain does not wait for what will never be.
    let began = clock::now();
    scene.proxy.drain().await;
    assert!(clock::now() - began < Duration::from_secs(30));
}
