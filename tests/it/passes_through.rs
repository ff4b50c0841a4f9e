//! The shortest scene: a request goes through and its answer comes back.

use crate::support::{client, proxy::one_route, upstream};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_passes_and_is_tried_again_when_it_fails() {
    let upstream = upstream().fail(2, 503).then(200).spawn().await;
    let proxy = one_route(&upstream, "").spawn().await;
    assert_eq!(client(&proxy).get("/").await.status(), 200);
    assert_eq!(upstream.hits(), 3);
    assert_eq!(proxy.metric("outrigger_route_retries_total{route=\"r\"}"), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_goes_in_on_the_same_port_and_out_to_http2() {
    let upstream = upstream().http2().spawn().await;
    let proxy =
        one_route(&upstream, "").and("defaults: { upstream: { protocol: http2 } }").spawn().await;
    let answer = client(&proxy).http2().post("/a?b", "hello").await;
    assert_eq!(answer.status(), 200);
    let seen = upstream.request();
    assert_eq!((seen.version, &seen.body[..]), (http::Version::HTTP_2, &b"hello"[..]));
    proxy.drain().await;
}
