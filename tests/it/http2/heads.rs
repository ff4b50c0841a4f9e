//! The listener's limits on heads, the same as over HTTP/1.

use super::peer::{END_HEADERS, END_STREAM, HEADERS, Peer, block, fields, frame};
use crate::support::client::request;
use crate::support::proxy::one_route;
use crate::support::{client, upstream};

#[tokio::test(flavor = "multi_thread")]
async fn as_many_fields_and_bytes_pass_as_over_http1_and_no_more() {
    let upstream = upstream().spawn().await;
    let limits = "limits: { headers: 40, header_bytes: 8KiB }";
    let proxy = one_route(&upstream, "").listening(limits).spawn().await;
    // Our own fields and the host are among them, so what is asked stays below by as many.
    let names: Vec<String> = (0..60).map(|at| format!("x-{at}")).collect();
    for (count, bytes, status) in
        [(0, 10, 200), (35, 10, 200), (60, 10, 431), (1, 7900, 200), (1, 8300, 431)]
    {
        let value = "v".repeat(bytes);
        for client in [client(&proxy), client(&proxy).http2()] {
            let mut ask = request("GET", "/");
            for name in names.iter().take(count) {
                ask = ask.header(name, &value);
            }
            let answer = client.send(ask).await;
            let version = answer.head.version;
            assert_eq!(answer.status(), status, "{count} fields of {bytes}, {version:?}");
            if status == 431 {
                assert_eq!(answer.reason(), Some("headers_too_large"), "{version:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_far_above_the_limit_is_not_even_kept() {
    let upstream = upstream().spawn().await;
    let limits = "limits: { header_bytes: 8KiB }";
    let proxy = one_route(&upstream, "").listening(limits).spawn().await;
    let mut peer = Peer::connect(proxy.address()).await;
    let large = "v".repeat(15_000);
    let head = block(&fields("GET", &[("x-large", &large)]));
    peer.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, head)).await;
    assert_eq!(peer.head_of(1).await.status(), 431);
    assert_eq!(upstream.hits(), 0);
}
