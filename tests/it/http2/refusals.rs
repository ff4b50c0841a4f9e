//! Upstreams of HTTP/2 that prove that they did not process a request, and such that do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::peer::{
    ANY_STREAM, CALM, CANCEL, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, NO_ERROR,
    PROTOCOL_ERROR, Peer, REFUSED_STREAM, RST_STREAM, frame,
};
use crate::support::client::request;
use crate::support::proxy::{Builder, proxy};
use crate::support::upstream::RawUpstream;
use crate::support::{client, raw_upstream};

/// What an upstream does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Answer,
    /// Resets it with this code.
    Reset(u32),
    /// Goes away with this code, naming this stream as the last, and closes.
    GoAway(u32, u32),
    /// Closes without a word.
    Close,
}

fn goaway(code: u32, last: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
}

fn answer(stream: u32) -> Vec<u8> {
    // 200 by its number in the table.
    frame(HEADERS, END_HEADERS | END_STREAM, stream, [0x88])
}

/// An upstream that does this with the very first request, and answers all others. Counts the
/// requests of which it has seen the end.
async fn first(act: Act) -> (RawUpstream, Arc<AtomicUsize>) {
    let whole = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&whole);
    let upstream = raw_upstream(move |wire| {
        let counted = Arc::clone(&counted);
        async move {
            let Some(mut peer) = Peer::accept(wire).await else { return };
            while let Some(next) = peer.next().await {
                if !next.ends() {
                    continue;
                }
                let act =
                    if counted.fetch_add(1, Ordering::SeqCst) == 0 { act } else { Act::Answer };
                match act {
                    Act::Answer => peer.try_send(answer(next.stream)).await,
                    Act::Reset(code) => {
                        peer.try_send(frame(RST_STREAM, 0, next.stream, code.to_be_bytes())).await;
                    }
                    Act::GoAway(code, last) => {
                        peer.try_send(goaway(code, last)).await;
                        if last == 0 {
                            // There is nothing that the other side could wait for.
                            peer.closed().await;
                        }
                        return;
                    }
                    Act::Close => return,
                }
            }
        }
    })
    .await;
    (upstream, whole)
}

fn through(upstream: &RawUpstream) -> Builder {
    proxy(
        "runtime: { workers: 1, drain: { timeout: 5s, linger: 0s } }
upstreams: { back: { protocol: http2, endpoints: [\"{upstream}\"] } }
routes: [{ name: r, upstream: back }]
",
    )
    .with("upstream", upstream.address())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_proves_that_nothing_was_done_is_tried_again_also_for_post() {
    let proofs = [
        Act::Reset(REFUSED_STREAM),
        Act::GoAway(NO_ERROR, 0),
        // Whatever the reason: what is above the last stream was not processed.
        Act::GoAway(CALM, 0),
        Act::GoAway(PROTOCOL_ERROR, 0),
        Act::GoAway(2, 0),
    ];
    for act in proofs {
        for body in ["", "a body"] {
            let (upstream, whole) = first(act).await;
            let proxy = through(&upstream).spawn().await;
            let answer = client(&proxy).post("/", body).await;
            assert_eq!(answer.status(), 200, "{act:?}: {:?}", answer.reason());
            assert_eq!(whole.load(Ordering::SeqCst), 2, "{act:?}");
            let refused = "outrigger_upstream_attempts_total{upstream=\"back\",result=\"refused\"}";
            assert_eq!(proxy.metric(refused), 1.0, "{act:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_proves_nothing_is_not_tried_again_for_post() {
    let doubts = [
        Act::GoAway(NO_ERROR, 1),
        Act::GoAway(NO_ERROR, ANY_STREAM),
        Act::GoAway(CALM, 1),
        Act::Reset(CANCEL),
        Act::Reset(CALM),
        Act::Reset(2),
        Act::Close,
    ];
    for act in doubts {
        let (upstream, whole) = first(act).await;
        let proxy = through(&upstream).spawn().await;
        let answer = client(&proxy).post("/", "a body").await;
        let got = (answer.status().as_u16(), answer.reason());
        assert_eq!(got, (502, Some("upstream_reset")), "{act:?}");
        assert_eq!(whole.load(Ordering::SeqCst), 1, "{act:?}");
        // Which does no harm to a request that may be done twice.
        let (upstream, whole) = first(act).await;
        let proxy = through(&upstream).spawn().await;
        assert_eq!(client(&proxy).get("/").await.status(), 200, "{act:?}");
        assert_eq!(whole.load(Ordering::SeqCst), 2, "{act:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_requests_the_one_above_the_last_stream_is_tried_again_alone() {
    let seen = Arc::new(AtomicUsize::new(0));
    let connections = Arc::new(AtomicUsize::new(0));
    let (counted, opened) = (Arc::clone(&seen), Arc::clone(&connections));
    let upstream = raw_upstream(move |wire| {
        let (counted, opened) = (Arc::clone(&counted), Arc::clone(&opened));
        async move {
            let Some(mut peer) = Peer::accept(wire).await else { return };
            if opened.fetch_add(1, Ordering::SeqCst) > 0 {
                while let Some(next) = peer.next().await {
                    if next.ends() {
                        counted.fetch_add(1, Ordering::SeqCst);
                        peer.try_send(answer(next.stream)).await;
                    }
                }
                return;
            }
            // Both have come; the first is answered after the goodbye, the second never was seen.
            peer.end_of(1).await.expect("the first request");
            counted.fetch_add(1, Ordering::SeqCst);
            peer.end_of(3).await.expect("the second request");
            peer.try_send(goaway(NO_ERROR, 1)).await;
            peer.try_send(answer(1)).await;
            peer.closed().await;
        }
    })
    .await;
    let proxy = through(&upstream).spawn().await;
    let client = client(&proxy);
    let first = tokio::spawn(async move { client.post("/", "one").await });
    crate::support::eventually("the first request", || seen.load(Ordering::SeqCst) == 1).await;
    let second = client.post("/", "two").await;
    assert_eq!(second.status(), 200, "{:?}", second.reason());
    let first = first.await.expect("no panic");
    assert_eq!(first.status(), 200, "{:?}", first.reason());
    assert_eq!((connections.load(Ordering::SeqCst), seen.load(Ordering::SeqCst)), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_to_keep_cannot_be_sent_again() {
    let upstream = raw_upstream(|wire| async move {
        let Some(mut peer) = Peer::accept(wire).await else { return };
        // Some of the body has come by then.
        while let Some(next) = peer.next().await {
            if next.kind == DATA {
                let code = REFUSED_STREAM.to_be_bytes();
                peer.try_send(frame(RST_STREAM, 0, next.stream, code)).await;
            }
        }
    })
    .await;
    let proxy = through(&upstream).spawn().await;
    let body = vec![b'x'; 200 * 1024];
    let answer = client(&proxy).send(request("POST", "/").body(body)).await;
    assert_eq!((answer.status().as_u16(), answer.reason()), (502, Some("upstream_refused")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_cut_by_a_goodbye_is_not_whole() {
    let upstream = raw_upstream(|wire| async move {
        let Some(mut peer) = Peer::accept(wire).await else { return };
        let Some(next) = peer.end_of(1).await else { return };
        peer.try_send(frame(HEADERS, END_HEADERS, next.stream, [0x88])).await;
        peer.try_send(frame(DATA, 0, next.stream, b"half")).await;
        peer.try_send(goaway(NO_ERROR, 1)).await;
    })
    .await;
    let proxy = through(&upstream).spawn().await;
    for client in [client(&proxy), client(&proxy).http2()] {
        assert!(client.sees_cut(request("GET", "/")).await);
    }
}
