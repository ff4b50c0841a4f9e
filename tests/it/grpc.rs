//! Calls of gRPC: statuses in heads and in trailers, and what they lead to.

use outrigger::clock;
use outrigger::policy::concurrency::Cause;

use crate::support::client::{Answer, Ask, request};
use crate::support::proxy::{Builder, Proxy, proxy};
use crate::support::reply::{Reply, reply};
use crate::support::upstream::{Arrival, Upstream};
use crate::support::{client, eventually, upstream, within};

/// A message of gRPC: not compressed, four bytes.
const MESSAGE: &str = "\0\0\0\0\x04ping";

/// A route `r` to the upstream `back`, with these settings.
fn route(settings: &str, of_upstream: &str) -> Builder {
    proxy(&format!(
        "runtime: {{ workers: 1, drain: {{ timeout: 5s, linger: 0s }} }}
upstreams: {{ back: {{ protocol: http2, endpoints: [\"{{upstream}}\"], {of_upstream} }} }}
routes: [{{ name: r, upstream: back, {settings} }}]
"
    ))
}

/// Retries without waits worth naming, of everything that gRPC sends.
const AGAIN: &str = "retry: { unsafe_methods: always, backoff: { base: 1ms, max: 1ms } }, \
                     circuit_breaker: { mode: off }";

/// Nothing but what the test names.
const ALONE: &str = "retry: { mode: off }";

fn ask() -> Ask {
    request("POST", "/pay.Payments/Charge")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

async fn call(proxy: &Proxy) -> Answer {
    client(proxy).http2().send(ask().body(MESSAGE)).await
}

fn head() -> Reply {
    reply(200).header("content-type", "application/grpc")
}

/// An answer of these trailers alone, behind its head.
fn late(trailers: &[(&str, &str)]) -> Reply {
    head().trailers("", trailers)
}

/// The status of a call, wherever it stands.
fn code(answer: &Answer) -> Option<String> {
    let trailers = answer.trailers.as_ref().and_then(|all| all.get("grpc-status"));
    let code = trailers.or_else(|| answer.head.headers.get("grpc-status"));
    code.map(|code| code.to_str().expect("text").to_owned())
}

/// The first call is answered so, and all others with a message and OK.
async fn second_is_good(first: fn() -> Reply) -> Upstream {
    let good = || head().trailers(MESSAGE, &[("grpc-status", "0")]);
    upstream().times(1, first).always(good).http2().spawn().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_in_trailers_behind_the_head_is_tried_again() {
    let upstream = second_is_good(|| late(&[("grpc-status", "14")])).await;
    let proxy = route(AGAIN, "").to(&upstream).spawn().await;
    let answer = call(&proxy).await;
    assert_eq!((code(&answer).as_deref(), answer.text()), (Some("0"), MESSAGE));
    let seen = upstream.requests();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].header("grpc-previous-rpc-attempts"), None);
    assert_eq!(seen[1].header("grpc-previous-rpc-attempts"), Some("1"));
    assert_eq!(seen[1].body, MESSAGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_failure_passes_as_the_upstream_sent_it() {
    let failing = || late(&[("grpc-status", "14"), ("grpc-message", "no%20room"), ("x-own", "1")]);
    let upstream = upstream().always(failing).http2().spawn().await;
    let proxy = route(AGAIN, "").to(&upstream).spawn().await;
    let answer = call(&proxy).await;
    assert_eq!((answer.status().as_u16(), answer.reason()), (200, None));
    assert_eq!(answer.header("grpc-status"), None, "it is in trailers, as it was");
    let trailers = answer.trailers.expect("trailers");
    assert_eq!(trailers["grpc-message"], "no%20room");
    assert_eq!(trailers["x-own"], "1");
    assert_eq!(upstream.hits(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_begun_to_answer_is_not_tried_again() {
    let upstream = second_is_good(|| head().trailers(MESSAGE, &[("grpc-status", "14")])).await;
    let proxy = route(AGAIN, "").to(&upstream).spawn().await;
    let answer = call(&proxy).await;
    assert_eq!((code(&answer).as_deref(), answer.text()), (Some("14"), MESSAGE));
    assert_eq!(upstream.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn push_back_in_trailers_is_heeded() {
    for (pushback, again) in [("0", true), ("1", true), ("-1", false), ("soon", false)] {
        let first: fn() -> Reply = match pushback {
            "0" => || late(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "0")]),
            "1" => || late(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "1")]),
            "-1" => || late(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "-1")]),
            _ => || late(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "soon")]),
        };
        let upstream = second_is_good(first).await;
        let proxy = route(AGAIN, "").to(&upstream).spawn().await;
        let expected = if again { "0" } else { "14" };
        assert_eq!(code(&call(&proxy).await).as_deref(), Some(expected), "{pushback}");
        assert_eq!(upstream.hits(), 1 + usize::from(again), "{pushback}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_messages_is_not_held_back() {
    // A conversation in which the client speaks when it has the head, and the server when it has
    // been spoken to: whoever holds something back stops it for good.
    let upstream = upstream()
        .serve(|mut arrival: Arrival| async move {
            let (reply, feed) = head().streamed();
            tokio::spawn(async move {
                while let Some(piece) = arrival.piece().await {
                    assert!(feed.send(piece).await);
                }
                feed.trailers(&[("grpc-status", "0")]).await;
            });
            reply
        })
        .http2()
        .spawn()
        .await;
    let proxy = route(AGAIN, "").to(&upstream).spawn().await;
    let (ask, feed) = ask().streamed();
    let mut connection = client(&proxy).http2().connect().await;
    let mut answer = connection.open(ask).await;
    for said in ["one", "two", "three"] {
        feed.now(said);
        let heard = within("the echo", http_body_util::BodyExt::frame(answer.body_mut())).await;
        assert_eq!(heard.expect("a frame").expect("whole").into_data().expect("data"), said);
    }
    drop(feed);
    assert_eq!(code(&Answer::of(answer).await).as_deref(), Some("0"));
    assert_eq!(proxy.metric("outrigger_route_retries_total{route=\"r\"}"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_a_call_that_was_sent_whole_waits_for_a_moment_only() {
    let upstream = upstream()
        .serve(|mut arrival: Arrival| async move {
            arrival.read().await;
            let (reply, feed) = head().streamed();
            tokio::spawn(async move { feed.gone().await });
            reply
        })
        .http2()
        .spawn()
        .await;
    let proxy = route(AGAIN, "").to(&upstream).spawn().await;
    let mut connection = client(&proxy).http2().connect().await;
    // There will never be a message.
    let answer = connection.open(ask().body(MESSAGE)).await;
    assert_eq!(answer.status(), 200);
    drop(answer);
    eventually("the call is over everywhere", || proxy.in_flight() == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_at_the_end_of_streams_open_the_circuit() {
    for (end, opens) in [("14", true), ("13", true), ("0", false), ("5", false), ("", true)] {
        let status: Vec<_> =
            (!end.is_empty()).then_some(("grpc-status", end)).into_iter().collect();
        let trailers: Vec<_> = [("x-end", "1")].into_iter().chain(status).collect();
        let trailers: &'static [_] = trailers.leak();
        let upstream =
            upstream().always(move || head().trailers(MESSAGE, trailers)).http2().spawn().await;
        let settings = format!("{ALONE}, circuit_breaker: {{ consecutive: 3, open: 60s }}");
        let proxy = route(&settings, "ejection: { mode: off }").to(&upstream).spawn().await;
        for _ in 0..3 {
            assert_eq!(call(&proxy).await.reason(), None, "{end}");
        }
        let answer = call(&proxy).await;
        assert_eq!(answer.reason(), opens.then_some("circuit_open"), "{end}");
        if opens {
            assert_eq!(code(&answer).as_deref(), Some("14"));
            let details = answer.header("grpc-status-details-bin").expect("details");
            assert!(!details.is_empty());
            assert!(answer.header("grpc-retry-pushback-ms").is_some());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_at_the_end_of_streams_eject_the_endpoint() {
    let failing = || head().trailers(MESSAGE, &[("grpc-status", "14")]);
    let bad = upstream().always(failing).http2().spawn().await;
    let good = || head().trailers(MESSAGE, &[("grpc-status", "0")]);
    let good = upstream().always(good).http2().spawn().await;
    let proxy = proxy(&format!(
        "upstreams:
  back:
    protocol: http2
    endpoints: [\"{{bad}}\", \"{{good}}\"]
    load_balancing: {{ policy: round_robin }}
    ejection: {{ consecutive_failures: 3, base: 60s }}
routes: [{{ name: r, upstream: back, {ALONE}, circuit_breaker: {{ mode: off }} }}]
"
    ));
    let proxy = proxy.with("bad", bad.address()).with("good", good.address()).spawn().await;
    for _ in 0..20 {
        call(&proxy).await;
    }
    assert_eq!((bad.hits(), good.hits()), (3, 17));
    assert_eq!(proxy.metric("outrigger_upstream_ejections_total{upstream=\"back\"}"), 1.0);
    let failed = format!(
        "outrigger_endpoint_attempts_total{{upstream=\"back\",endpoint=\"{}\",\
         result=\"failure\"}}",
        bad.address()
    );
    assert_eq!(proxy.metric(&failed), 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn exhaustion_at_the_end_of_streams_is_learned_by_rate_and_limit() {
    let failing = || head().trailers(MESSAGE, &[("grpc-status", "8")]);
    let upstream = upstream().always(failing).http2().spawn().await;
    let settings = format!("{ALONE}, circuit_breaker: {{ mode: off }}");
    let learning = format!("{settings}, rate_limit: {{ learn_from_429: true }}");
    let proxy = route(&learning, "").to(&upstream).spawn().await;
    call(&proxy).await;
    assert_eq!(proxy.metric("outrigger_route_throttled_total{route=\"r\"}"), 1.0);
    let proxy = route(&settings, "ejection: { mode: off }").to(&upstream).spawn().await;
    let changes = || {
        let live = proxy.app().proxy.live();
        live.snapshot.upstreams["back"].state.gate.view(clock::now()).changes
    };
    call(&proxy).await;
    let changed: Vec<_> = changes().into_iter().map(|(_, change)| change.cause).collect();
    assert_eq!(changed, [Cause::Drop]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_s_time_is_passed_on_less_and_ends_a_stream() {
    let upstream = upstream()
        .serve(|_| async move {
            let (reply, feed) = head().streamed();
            feed.now(MESSAGE);
            tokio::spawn(async move { feed.gone().await });
            reply
        })
        .http2()
        .spawn()
        .await;
    let proxy = route(&format!("{ALONE}, timeouts: {{ total: null }}"), "").to(&upstream).spawn();
    let proxy = proxy.await;
    let began = clock::now();
    let ask = ask().header("grpc-timeout", "300m").body(MESSAGE);
    let answer = client(&proxy).http2().send(ask).await;
    let took = clock::now().duration_since(began);
    assert!(took.as_millis() >= 200, "it is cut early: {took:?}");
    assert_eq!((code(&answer).as_deref(), answer.broken), (Some("4"), false));
    assert_eq!(answer.text(), MESSAGE);
    let told = upstream.request().header("grpc-timeout").expect("a timeout").to_owned();
    let (digits, unit) = told.split_at(told.len() - 1);
    assert_eq!(unit, "u", "the finest unit that eight digits hold");
    assert!((1..=295_000).contains(&digits.parse().expect("a number")), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_ends_with_a_status() {
    let upstream = upstream()
        .serve(|mut arrival: Arrival| async move {
            let (reply, feed) = head().streamed();
            feed.now(MESSAGE);
            tokio::spawn(async move {
                // The client has its message when it says something.
                arrival.piece().await;
                feed.cut().await;
            });
            reply
        })
        .http2()
        .spawn()
        .await;
    let proxy = route(ALONE, "").to(&upstream).spawn().await;
    let (ask, feed) = ask().streamed();
    let mut connection = client(&proxy).http2().connect().await;
    let mut answer = connection.open(ask).await;
    let message = within("the message", http_body_util::BodyExt::frame(answer.body_mut())).await;
    assert!(message.expect("a frame").is_ok());
    feed.now(MESSAGE);
    let answer = Answer::of(answer).await;
    // The server resets with INTERNAL_ERROR.
    assert_eq!((code(&answer).as_deref(), answer.broken), (Some("13"), false), "{answer:?}");
    let calls = "outrigger_grpc_calls_total{route=\"r\",service=\"other\",method=\"other\",\
                 code=\"internal\"}";
    assert_eq!(proxy.metric(calls), 1.0, "no whole answer has confirmed the method");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_routed_and_counted_by_method() {
    let named = |name: &'static str| {
        upstream().always(move || head().trailers(name, &[("grpc-status", "0")])).http2().spawn()
    };
    let (charge, service, rest) =
        (named("charge").await, named("service").await, named("rest").await);
    let proxy = proxy(
        "upstreams:
  a: { protocol: http2, endpoints: [\"{a}\"] }
  b: { protocol: http2, endpoints: [\"{b}\"] }
  c: { protocol: http2, endpoints: [\"{c}\"] }
routes:
  - { name: rest, upstream: c }
  - { name: service, match: { grpc: { service: pay.Payments } }, upstream: b }
  - { name: charge, match: { grpc: { service: pay.Payments, method: Charge } }, upstream: a }
",
    );
    let proxy = proxy.with("a", charge.address()).with("b", service.address());
    let proxy = proxy.with("c", rest.address()).spawn().await;
    for (path, kind, told) in [
        ("/pay.Payments/Charge", "application/grpc+proto", "charge"),
        ("/pay.Payments/Refund", "application/grpc", "service"),
        ("/pay.Payments/Refund", "application/grpc-web+proto", "service"),
        ("/pay.Other/Charge", "application/grpc", "rest"),
        ("/pay.Payments/Charge", "application/json", "rest"),
    ] {
        let ask = request("POST", path).header("content-type", kind).header("te", "trailers");
        let answer = client(&proxy).http2().send(ask).await;
        assert_eq!(answer.text(), told, "{path} {kind}");
    }
    let text = proxy.metrics();
    for (route, method) in [("charge", "Charge"), ("service", "Refund")] {
        let labels = format!("route=\"{route}\",service=\"pay.Payments\",method=\"{method}\"");
        let calls = format!("outrigger_grpc_calls_total{{{labels},code=\"ok\"}} 1\n");
        assert!(text.contains(&calls), "{calls} in {text}");
        let count = format!("outrigger_grpc_call_duration_seconds_count{{{labels}}} 1\n");
        assert!(text.contains(&count), "{count} in {text}");
    }
    assert!(!text.contains("method=\"other\""), "what is no call of gRPC is not counted as one");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_web_passes_untouched_and_gets_answers_that_it_can_read() {
    // The status is a frame of the body, with the highest bit set.
    const BINARY: &[u8] = b"\0\0\0\0\x04ping\x80\0\0\0\x0fgrpc-status:0\r\n";
    const TEXT: &[u8] = b"AAAAAARwaW5ngAAAAA9ncnBjLXN0YXR1czowDQo=";
    for (kind, body) in
        [("application/grpc-web+proto", BINARY), ("application/grpc-web-text+proto", TEXT)]
    {
        let upstream = upstream()
            .serve(move |mut arrival: Arrival| async move {
                assert_eq!(arrival.read().await, body);
                reply(200).header("content-type", kind).body(body)
            })
            .http2()
            .spawn()
            .await;
        let settings = format!("{ALONE}, rate_limit: {{ rate: 1/min, burst: 2 }}");
        let proxy = route(&settings, "").to(&upstream).spawn().await;
        for client in [client(&proxy), client(&proxy).http2()] {
            let ask = request("POST", "/pay.Payments/Charge").header("content-type", kind);
            let ask = ask.header("x-grpc-web", "1").header("grpc-timeout", "5S").body(body);
            let answer = client.send(ask).await;
            assert_eq!((answer.header("content-type"), &answer.body[..]), (Some(kind), body));
        }
        for seen in upstream.requests() {
            assert_eq!(seen.header("x-grpc-web"), Some("1"));
            let told = seen.header("grpc-timeout").expect("a timeout");
            assert!(told.ends_with('u') && told != "5000000u", "{told}");
        }
        // The third is over the limit: its answer is a status in the head.
        let ask = request("POST", "/pay.Payments/Charge").header("content-type", kind).body(body);
        let answer = client(&proxy).send(ask).await;
        assert_eq!((answer.status().as_u16(), answer.reason()), (200, Some("rate_limited")));
        assert_eq!(answer.header("grpc-status"), Some("8"));
        assert_eq!(answer.header("content-type"), Some("application/grpc-web+proto"));
        assert!(answer.header("grpc-message").is_some() && answer.body.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn either_side_of_a_conversation_may_rest() {
    let upstream = upstream()
        .serve(|mut arrival: Arrival| async move {
            let (reply, feed) = head().streamed();
            tokio::spawn(async move {
                while let Some(piece) = arrival.piece().await {
                    if piece != "quietly" {
                        assert!(feed.send(piece).await);
                    }
                }
                feed.trailers(&[("grpc-status", "0")]).await;
            });
            reply
        })
        .http2()
        .spawn()
        .await;
    // Longer than the listener lets other bodies rest, and, in pieces, than all may be silent.
    let settings = format!("{ALONE}, timeouts: {{ total: null, idle: 2s }}");
    let proxy = route(&settings, "").to(&upstream).listening("limits: { body_timeout: 20ms }");
    let proxy = proxy.spawn().await;
    let (ask, feed) = ask().streamed();
    let mut connection = client(&proxy).http2().connect().await;
    let mut answer = connection.open(ask).await;
    for _ in 0..4 {
        clock::sleep(std::time::Duration::from_millis(700)).await;
        feed.now("quietly");
    }
    feed.now("aloud");
    let heard = within("the echo", http_body_util::BodyExt::frame(answer.body_mut())).await;
    assert_eq!(heard.expect("a frame").expect("whole").into_data().expect("data"), "aloud");
    // Both are silent now.
    let end = Answer::of(answer).await;
    assert_eq!((code(&end).as_deref(), end.broken), (Some("14"), false));
    drop(feed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_of_a_circuit_is_good_with_its_first_message() {
    let upstream = upstream()
        .serve(|arrival: Arrival| async move {
            if arrival.index == 0 {
                return late(&[("grpc-status", "14")]);
            }
            let (reply, feed) = head().streamed();
            feed.now(MESSAGE);
            tokio::spawn(async move { feed.gone().await });
            reply
        })
        .http2()
        .spawn()
        .await;
    let settings = format!("{ALONE}, circuit_breaker: {{ consecutive: 1, open: 50ms, trials: 1 }}");
    let proxy = route(&settings, "ejection: { mode: off }").to(&upstream).spawn().await;
    assert_eq!(code(&call(&proxy).await).as_deref(), Some("14"));
    let state = "outrigger_breaker_state{route=\"r\",upstream=\"back\"}";
    assert_eq!(proxy.metric(state), 1.0, "open");
    let mut connection = client(&proxy).http2().connect().await;
    let trial = async {
        loop {
            let answer = connection.open(ask().body(MESSAGE)).await;
            if !answer.headers().contains_key("x-outrigger-reason") {
                return answer;
            }
        }
    };
    let mut stream = within("a trial", trial).await;
    let message = within("its message", http_body_util::BodyExt::frame(stream.body_mut())).await;
    assert!(message.expect("a frame").is_ok());
    // It goes on, and yet it has let others in.
    eventually("the circuit to take it", || proxy.metric(state) != 2.0).await;
    assert!([0.0, 3.0].contains(&proxy.metric(state)), "closed or ramping");
    drop(stream);
}
