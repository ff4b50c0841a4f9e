//! curl, as a process of its own: what people really point at a proxy.

use std::process::Command;

use crate::support::proxy::{Proxy, one_route};
use crate::support::{reply, upstream, within};

/// Runs curl and returns what it wrote; `None` when it is not installed here.
async fn curl(proxy: &Proxy, arguments: &[&str]) -> Option<String> {
    let address = proxy.address().to_string();
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "nothing"]);
    command.args(arguments.iter().map(|argument| argument.replace("{proxy}", &address)));
    command.env("no_proxy", "").env("http_proxy", "");
    if arguments.iter().any(|argument| argument.contains("://svc.test")) {
        command.env("http_proxy", format!("http://{address}"));
    }
    let run = tokio::task::spawn_blocking(move || command.output());
    match within("curl", run).await.expect("no panic") {
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "curl failed: {errors}");
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("curl cannot be run: {error}"),
    }
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
        let Some(output) = curl(&proxy, &arguments).await else { return };
        assert_eq!(output, expected, "{arguments:?}");
    }
    let seen = upstream.requests();
    assert_eq!(seen.last().expect("a request").uri, "/through/a/proxy");
    assert_eq!(seen.last().expect("a request").header("host"), Some("svc.test"));
    for way in ["--http1.1", "--http2-prior-knowledge"] {
        let output = curl(&proxy, &[way, "--data-binary", &file, url]).await;
        assert!(output.is_some_and(|output| output == format!("got {large}")), "{way}");
    }
    let head = curl(&proxy, &["--head", url]).await.expect("curl is there");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
}
