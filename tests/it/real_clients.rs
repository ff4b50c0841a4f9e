//! curl and promtool, as processes of their own: what people really point at a proxy.
//!
//! A tool that is not installed fails its tests; `tests/run.sh` installs both.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::support::child::Child;
use crate::support::proxy::{Proxy, one_route};
use crate::support::service::Service;
use crate::support::{reply, upstream, within};

/// Runs a command, gives it this input and returns what it wrote.
pub(crate) async fn run(mut command: Command, input: String) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command
        .spawn()
        .unwrap_or_else(|error| panic!("{name} cannot be run; is it installed? {error}"));
    let waiting = tokio::task::spawn_blocking(move || {
        // The pipe is closed here, which ends the input; a command that reads none may have gone.
        let _ = process.stdin.take().expect("a pipe").write_all(input.as_bytes());
        process.wait_with_output()
    });
    within(&name, waiting).await.expect("no panic").expect("its output")
}

/// Runs curl and returns what it wrote.
async fn curl(arguments: &[&str], proxy: Option<&str>) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "nothing"]);
    command.args(arguments).env("no_proxy", "").env("http_proxy", proxy.unwrap_or_default());
    let output = run(command, String::new()).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl {arguments:?} failed: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs curl with the address of the proxy for `{proxy}`.
async fn ask(proxy: &Proxy, arguments: &[&str]) -> String {
    let address = proxy.address().to_string();
    let arguments: Vec<_> = arguments.iter().map(|it| it.replace("{proxy}", &address)).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let through = arguments.iter().any(|argument| argument.contains("://svc.test"));
    curl(&arguments, through.then(|| format!("http://{address}")).as_deref()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_is_served_in_every_way_it_asks() {
    let upstream = upstream()
        .serve(|mut arrival| async move {
            let body = arrival.read().await;
            reply(200).header("x-target", &arrival.target).body([b"got ", &body[..]].concat())
        })
        .spawn()
        .await;
    let proxy = one_route(&upstream, "").spawn().await;
    let large = "x".repeat(2 * 1024 * 1024);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("body");
    std::fs::write(&file, &large).expect("a file");
    let file = format!("@{}", file.display());
    let url = "http://{proxy}/a?b";
    for (arguments, expected) in [
        (vec!["--http1.1", url], "got "),
        (vec!["--http1.0", url], "got "),
        (vec!["--http2-prior-knowledge", url], "got "),
        // The offer to switch to HTTP/2 is not taken up, and does no harm.
        (vec!["--http2", url], "got "),
        (vec!["--data", "hello", url], "got hello"),
        (vec!["--http2-prior-knowledge", "--data", "hello", url], "got hello"),
        (
            vec!["--header", "Expect: 100-continue", "--expect100-timeout", "15", "-d", "e", url],
            "got e",
        ),
        (vec!["--header", "Transfer-Encoding: chunked", "--data", "chunks", url], "got chunks"),
        (vec!["http://svc.test/through/a/proxy"], "got "),
    ] {
        assert_eq!(ask(&proxy, &arguments).await, expected, "{arguments:?}");
    }
    let seen = upstream.requests();
    assert_eq!(seen.last().expect("a request").uri, "/through/a/proxy");
    assert_eq!(seen.last().expect("a request").header("host"), Some("svc.test"));
    for way in ["--http1.1", "--http2-prior-knowledge"] {
        let output = ask(&proxy, &[way, "--data-binary", &file, url]).await;
        assert!(output == format!("got {large}"), "{way}");
    }
    let head = ask(&proxy, &["--head", url]).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_no_fault_in_a_scrape() {
    let service = Service::always(200).await;
    let good = service.address;
    let child = Child::start(&format!(
        "upstreams:\n  u: {{ endpoints: [\"{good}\"] }}\n\
         \x20 gone: {{ endpoints: [\"127.0.0.1:1\"] }}\n\
         routes:\n  - {{ name: gone, match: {{ path_prefix: /gone }}, upstream: gone }}\n\
         \x20 - {{ name: r, upstream: u }}\n"
    ))
    .await;
    let (socket, admin) = (child.socket(), child.admin());
    let [socket, admin] = [&socket, &admin].map(|path| path.to_str().expect("a path"));
    for path in ["http://a/", "http://a/gone"] {
        curl(&["--unix-socket", socket, path], None).await;
    }
    let metrics = curl(&["--unix-socket", admin, "http://a/metrics"], None).await;
    for route in ["r", "gone"] {
        let sample = format!("outrigger_route_requests_total{{route=\"{route}\"");
        assert!(metrics.contains(&sample), "{metrics}");
    }
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]);
    let output = run(command, metrics).await;
    let faults = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && faults.is_empty(), "{faults}");
}
