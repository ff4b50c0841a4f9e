//! What answers when the upstream fails: kept answers, another upstream, a fixed answer.

use std::sync::{Arc, Mutex};

use outrigger::policy::circuit_breaker::State;

use crate::support::caller::{Got, request, with_body};
use crate::support::service::{Act, Service, status};
use crate::support::sidecar::{HEAD, Sidecar, config, config_to};

/// What a service does until the test says otherwise.
type Doing = Arc<Mutex<Act>>;

/// A service that does as the test says at each moment.
async fn switched(first: Act) -> (Service, Doing) {
    let doing = Arc::new(Mutex::new(first));
    let now = Arc::clone(&doing);
    (Service::start(move |_| now.lock().unwrap().clone()).await, doing)
}

fn now_does(doing: &Doing, act: Act) {
    *doing.lock().unwrap() = act;
}

/// A good answer with these fields.
fn good(fields: &[(&'static str, &str)]) -> Act {
    let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Act::Answer(200, fields, "good")
}

/// Header fields by name.
type Fields = &'static [(&'static str, &'static str)];

/// Nothing but the chain acts.
const ALONE: &str = "retry: { mode: off }, circuit_breaker: { mode: off }";
const STAYS: &str = "ejection: { mode: off }";
const CACHE: &str = "cache: { stale_if_error: 5m, max_bytes: 16MiB }";

fn cached(service: &Service) -> String {
    config(&[service], STAYS, &format!("{ALONE}, {CACHE}"))
}

/// A route to upstream `u`, with `v` beside it.
fn two(main: &Service, other: &Service, route: &str) -> String {
    let upstream = |service: &Service| {
        format!("{{ endpoints: [\"{}\"], ejection: {{ mode: off }} }}", service.address)
    };
    format!(
        "{HEAD}runtime: {{ workers: 1 }}\nupstreams: {{ u: {}, v: {} }}\n\
         routes: [{{ name: r, upstream: u, {route} }}]\n",
        upstream(main),
        upstream(other)
    )
}

fn link(got: &Got) -> Option<&str> {
    got.header("x-outrigger-fallback")
}

fn counted(sidecar: &Sidecar, link: &str) -> f64 {
    let name = "outrigger_route_fallbacks_total";
    sidecar.metric(&format!("{name}{{route=\"r\",link=\"{link}\"}}"))
}

fn event(sidecar: &Sidecar, event: &str) -> f64 {
    let name = "outrigger_route_cache_events_total";
    sidecar.metric(&format!("{name}{{route=\"r\",event=\"{event}\"}}"))
}

#[tokio::test]
async fn the_last_good_answer_stands_in_for_each_kind_of_failure() {
    let (service, doing) = switched(good(&[("x-of", "the-first")])).await;
    let route = format!(
        "retry: {{ mode: off }}, timeouts: {{ per_try: 30ms }}, {CACHE},
        circuit_breaker: {{ mode: off }}"
    );
    let sidecar = Sidecar::start(&config(&[&service], STAYS, &route));
    let caller = sidecar.caller();
    let first = caller.get().await;
    assert_eq!((first.status, link(&first), first.header("age")), (200, None, None));
    let failures = [
        (status(500), "upstream_status"),
        (status(502), "upstream_status"),
        (status(503), "upstream_status"),
        (status(504), "upstream_status"),
        (Act::Drop, "upstream_reset"),
        (Act::Hang, "per_try_timeout"),
    ];
    for (number, (act, detail)) in failures.into_iter().enumerate() {
        let told = format!("{act:?}");
        now_does(&doing, act);
        let got = caller.get().await;
        assert_eq!((got.status, &got.body[..]), (200, &b"good"[..]), "{told}");
        assert_eq!((link(&got), got.header("x-of")), (Some("stale"), Some("the-first")), "{told}");
        assert!(got.header("age").unwrap().parse::<u64>().unwrap() < 60, "{told}");
        let said = got.header("cache-status").unwrap();
        assert!(said.starts_with("outrigger; fwd=stale; "), "{told}: {said}");
        assert!(said.ends_with(&format!("; detail={detail}")), "{told}: {said}");
        assert_eq!(got.reason(), Some(detail).filter(|d| *d != "upstream_status"), "{told}");
        assert_eq!(counted(&sidecar, "stale"), (number + 1) as f64, "{told}");
    }
    assert_eq!(event(&sidecar, "kept"), 1.0, "nothing that failed was kept");
    now_does(&doing, Act::Answer(200, Vec::new(), "newer"));
    assert_eq!(&caller.get().await.body[..], b"newer", "a good upstream is always asked");
    now_does(&doing, status(500));
    assert_eq!(&caller.get().await.body[..], b"newer");
}

#[tokio::test]
async fn it_stands_in_when_nothing_listens_any_more_and_when_the_circuit_is_open() {
    let service =
        Service::start(|_| good(&[("age", "100"), ("cache-control", "max-age=90")])).await;
    let route = format!("retry: {{ mode: off }}, {CACHE}");
    let text = config(&[&service], STAYS, &route);
    let sidecar = Sidecar::start(&text);
    let caller = sidecar.caller();
    assert_eq!(caller.get().await.status, 200);
    service.hang_up();
    service.open(0).await;
    drop(service);
    let got = caller.get().await;
    assert_eq!((got.status, link(&got)), (200, Some("stale")));
    assert_eq!(got.reason(), Some("connect_failure"));
    sidecar.circuit().isolate();
    assert_eq!(sidecar.circuit_state(), State::Isolated);
    let got = caller.get().await;
    assert_eq!((got.status, link(&got)), (200, Some("stale")));
    let age: i64 = got.header("age").unwrap().parse().unwrap();
    assert!((100..160).contains(&age), "{age}");
    // Its time is not over: 90 s of freshness and 5 minutes. Nothing was sent, so it is a hit.
    let said = got.header("cache-status").unwrap();
    assert!(said.starts_with("outrigger; hit; ttl=-"), "{said}");
    assert!(said.ends_with("; detail=circuit_open"), "{said}");
}

#[tokio::test]
async fn what_may_not_be_shared_is_not_kept() {
    let cases: [(Fields, Fields, bool); 14] = [
        (&[], &[], true),
        (&[("cache-control", "no-store")], &[], false),
        (&[("cache-control", "private")], &[], false),
        (&[("cache-control", "no-cache")], &[], false),
        (&[("cache-control", "must-revalidate, max-age=0")], &[], false),
        (&[("cache-control", "max-age=60, must-revalidate")], &[], true),
        (&[("cache-control", "stale-if-error=0, max-age=0"), ("age", "9")], &[], false),
        (&[("set-cookie", "a=b")], &[], false),
        (&[("vary", "*")], &[], false),
        (&[("content-type", "text/event-stream")], &[], false),
        (&[], &[("authorization", "Bearer x")], false),
        (&[("cache-control", "public")], &[("authorization", "Bearer x")], true),
        (&[], &[("cookie", "a=b")], false),
        (&[], &[("cache-control", "no-store")], false),
    ];
    for (fields, asked, kept) in cases {
        let told = format!("{fields:?} {asked:?}");
        let fields: Vec<(&'static str, String)> =
            fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let (service, doing) = switched(Act::Answer(200, fields, "good")).await;
        let sidecar = Sidecar::start(&cached(&service));
        let caller = sidecar.caller();
        let send = async || {
            let mut request = request("GET", "/");
            for (name, value) in asked {
                request.headers_mut().insert(*name, value.parse().unwrap());
            }
            caller.send(request).await
        };
        assert_eq!(send().await.status, 200, "{told}");
        now_does(&doing, status(503));
        let got = send().await;
        let wanted = if kept { (200, Some("stale")) } else { (503, None) };
        assert_eq!((got.status, link(&got)), wanted, "{told}");
        let counted = counted(&sidecar, if kept { "stale" } else { "none" });
        assert_eq!(counted, 1.0, "{told}");
    }
}

#[tokio::test]
async fn a_request_gets_only_what_it_selects_and_wants() {
    let (service, doing) = switched(good(&[("vary", "Accept-Language")])).await;
    let route = format!("{ALONE}, cache: {{ vary: [x-tenant] }}");
    let sidecar = Sidecar::start(&config(&[&service], STAYS, &route));
    let caller = sidecar.caller();
    let of = async |language: &str, tenant: &str, asked: &str, path: &str| {
        let mut request = request("GET", path);
        let headers = request.headers_mut();
        headers.insert("accept-language", language.parse().unwrap());
        headers.insert("x-tenant", tenant.parse().unwrap());
        headers.insert("cache-control", asked.parse().unwrap());
        caller.send(request).await.status
    };
    assert_eq!(of("de", "a", "max-stale", "/x?y=1").await, 200);
    now_does(&doing, status(503));
    assert_eq!(of("de", "a", "max-stale", "/x?y=1").await, 200);
    assert_eq!(of("fr", "a", "max-stale", "/x?y=1").await, 503, "another language");
    assert_eq!(of("de", "b", "max-stale", "/x?y=1").await, 503, "another tenant");
    assert_eq!(of("de", "a", "max-stale", "/x?y=2").await, 503, "another query");
    assert_eq!(of("de", "a", "max-stale", "/y?y=1").await, 503, "another path");
    assert_eq!(of("de", "a", "no-cache", "/x?y=1").await, 503, "nothing kept is wanted");
    assert_eq!(of("de", "a", "max-age=60", "/x?y=1").await, 503, "nothing stale is wanted");
    let mut other = request("GET", "/x?y=1");
    other.headers_mut().insert("accept-language", "de".parse().unwrap());
    other.headers_mut().insert("x-tenant", "a".parse().unwrap());
    other.headers_mut().insert("host", "other.test".parse().unwrap());
    assert_eq!(caller.send(other).await.status, 503, "another host");
}

#[tokio::test]
async fn head_and_conditions_are_answered_from_a_kept_get() {
    let modified = "Wed, 21 Oct 2015 07:28:00 GMT";
    let fields = [("etag", "W/\"v1\""), ("last-modified", modified), ("content-type", "a/b")];
    let (service, doing) = switched(good(&fields)).await;
    let sidecar = Sidecar::start(&cached(&service));
    let caller = sidecar.caller();
    assert_eq!(caller.send(request("HEAD", "/")).await.status, 200);
    now_does(&doing, status(503));
    assert_eq!(caller.get().await.status, 503, "a HEAD leaves nothing to answer a GET with");
    now_does(&doing, good(&fields));
    assert_eq!(caller.get().await.status, 200);
    now_does(&doing, status(503));
    let head = caller.send(request("HEAD", "/")).await;
    assert_eq!((head.status, link(&head), head.body.len()), (200, Some("stale"), 0));
    assert_eq!(
        (head.header("content-length"), head.header("content-type")),
        (Some("4"), Some("a/b"))
    );
    let conditions = [
        ("if-none-match", "\"v0\", \"v1\"", 304),
        ("if-none-match", "*", 304),
        ("if-none-match", "\"v2\"", 200),
        ("if-modified-since", modified, 304),
        ("if-modified-since", "Wed, 21 Oct 2015 07:27:59 GMT", 200),
        // Only the upstream knows.
        ("if-match", "\"v1\"", 503),
        ("if-unmodified-since", modified, 503),
        ("range", "bytes=0-1", 200),
    ];
    for (name, value, wanted) in conditions {
        let got = caller.get_with(name, value).await;
        assert_eq!(got.status, wanted, "{name}: {value}");
        if wanted == 304 {
            assert_eq!((got.header("etag"), got.body.len()), (Some("W/\"v1\""), 0));
            assert_eq!((got.header("content-type"), link(&got)), (None, Some("stale")));
            assert!(got.header("age").is_some());
        }
    }
}

#[tokio::test]
async fn an_unsafe_method_is_never_answered_from_it_and_takes_what_it_changed() {
    let (service, doing) = switched(good(&[])).await;
    let sidecar = Sidecar::start(&cached(&service));
    let caller = sidecar.caller();
    caller.get().await;
    now_does(&doing, status(503));
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let got = caller.send(with_body(method, "/", "x")).await;
        assert_eq!((got.status, link(&got)), (503, None), "{method}");
    }
    assert_eq!(link(&caller.get().await), Some("stale"), "one that failed changed nothing");
    now_does(&doing, good(&[]));
    caller.send(with_body("POST", "/other", "x")).await;
    caller.send(request("OPTIONS", "/")).await;
    now_does(&doing, status(503));
    assert_eq!(link(&caller.get().await), Some("stale"), "neither is this URI's");
    now_does(&doing, good(&[]));
    assert_eq!(caller.send(with_body("POST", "/", "x")).await.status, 200);
    now_does(&doing, status(503));
    assert_eq!(caller.get().await.status, 503, "RFC 9111, 4.4");
    assert_eq!(event(&sidecar, "invalidated"), 1.0);
}

#[tokio::test]
async fn a_change_on_another_route_takes_what_the_route_of_its_get_keeps() {
    let (service, doing) = switched(good(&[])).await;
    let text = format!(
        "{HEAD}upstreams: {{ u: {{ endpoints: [\"{}\"], {STAYS} }} }}\nroutes:\n\
         - {{ name: write, match: {{ methods: [POST] }}, upstream: u, {ALONE} }}\n\
         - {{ name: r, match: {{ methods: [GET] }}, upstream: u, {ALONE}, {CACHE} }}\n",
        service.address
    );
    let sidecar = Sidecar::start(&text);
    let caller = sidecar.caller();
    caller.get().await;
    caller.send(with_body("POST", "/", "x")).await;
    now_does(&doing, status(503));
    assert_eq!(caller.get().await.status, 503);
    assert_eq!(event(&sidecar, "invalidated"), 1.0);
}

#[tokio::test]
async fn the_links_are_asked_in_their_order() {
    let (main, main_does) = switched(good(&[])).await;
    let (other, other_does) = switched(Act::Answer(200, Vec::new(), "other")).await;
    let chain = "fallback: [stale, { upstream: v }, \
                 { respond: { status: 203, body: \"[]\", content_type: application/json } }]";
    let sidecar = Sidecar::start(&two(&main, &other, &format!("{ALONE}, {CACHE}, {chain}")));
    let caller = sidecar.caller();
    caller.get().await;
    now_does(&main_does, status(503));
    assert_eq!(link(&caller.get().await), Some("stale"));
    assert_eq!(other.hits(), 0);
    let got = caller.send(request("GET", "/unknown")).await;
    assert_eq!((got.status, link(&got), &got.body[..]), (200, Some("upstream:v"), &b"other"[..]));
    now_does(&other_does, status(502));
    let got = caller.send(request("GET", "/third")).await;
    assert_eq!((got.status, link(&got), &got.body[..]), (203, Some("respond"), &b"[]"[..]));
    assert_eq!(got.header("content-type"), Some("application/json"));
    assert_eq!((got.header("cache-control"), got.reason()), (Some("no-store"), None));
    let got = caller.send(request("GET", "/unknown")).await;
    assert_eq!(link(&got), Some("stale"), "what the other upstream answered was good as well");
    let head = caller.send(request("HEAD", "/third")).await;
    assert_eq!((head.status, head.body.len(), head.header("content-length")), (203, 0, Some("2")));
    now_does(&main_does, Act::Drop);
    let got = caller.send(with_body("POST", "/third", "x")).await;
    assert_eq!((link(&got), got.reason()), (Some("respond"), Some("upstream_reset")));
    let links = ["stale", "upstream", "respond", "none"].map(|link| counted(&sidecar, link));
    assert_eq!(links, [2.0, 1.0, 3.0, 0.0]);
}

#[tokio::test]
async fn another_upstream_gets_the_whole_body_but_nothing_that_may_have_been_done() {
    let (main, main_does) = switched(status(503)).await;
    let other = Service::start(|_| status(200)).await;
    let text = two(&main, &other, "retry: { mode: off }, fallback: [{ upstream: v }]");
    let sidecar = Sidecar::start(&text);
    let caller = sidecar.caller();
    let put = caller.send(with_body("PUT", "/", "the body")).await;
    assert_eq!((put.status, link(&put)), (200, Some("upstream:v")));
    assert_eq!(&other.seen()[0].body[..], b"the body");
    assert_eq!(other.seen()[0].header("x-retry-attempt"), Some("1"), "it was sent before");
    let post = caller.send(with_body("POST", "/", "x")).await;
    assert_eq!((post.status, link(&post), other.hits()), (503, None, 1), "it may be done");
    now_does(&main_does, Act::Drop);
    let post = caller.send(with_body("POST", "/", "x")).await;
    assert_eq!((post.reason(), other.hits()), (Some("upstream_reset"), 1), "it may be done");
    assert_eq!(counted(&sidecar, "none"), 2.0);
    drop(main);
    let other_caller = sidecar.caller();
    let post = other_caller.send(with_body("POST", "/", "unsent")).await;
    assert_eq!((post.status, link(&post)), (200, Some("upstream:v")), "nothing was sent");
    assert_eq!(&other.seen()[1].body[..], b"unsent");
    // The circuit of the route to this upstream is one of its own.
    let live = sidecar.app().proxy.live();
    let route = &live.snapshot.routes[0];
    let circuit = route.circuit("v").expect("it has one");
    circuit.isolate();
    let hits = other.hits();
    let got = other_caller.get().await;
    assert_eq!((got.reason(), other.hits()), (Some("connect_failure"), hits));
}

#[tokio::test]
async fn the_open_circuit_and_the_retries_of_the_main_way_come_first() {
    let main = Service::always(503).await;
    let (other, other_does) = switched(status(200)).await;
    let route = "retry: { max_attempts: 2, backoff: { base: 1ms, max: 1ms } }, \
                 circuit_breaker: { consecutive: 4, min_requests: 1000, open: 60s }, \
                 fallback: [{ upstream: v }]";
    let sidecar = Sidecar::start(&two(&main, &other, route));
    let caller = sidecar.caller();
    for _ in 0..2 {
        assert_eq!(link(&caller.get().await), Some("upstream:v"));
    }
    assert_eq!((main.hits(), other.hits()), (4, 2));
    assert_eq!(sidecar.circuit_state(), State::Open);
    assert_eq!(link(&caller.send(with_body("POST", "/", "x")).await), Some("upstream:v"));
    assert_eq!((main.hits(), other.hits()), (4, 3), "nothing was sent to the open circuit");
    now_does(&other_does, status(503));
    let got = caller.get().await;
    assert_eq!((got.status, got.reason()), (503, Some("circuit_open")));
    assert_eq!(other.hits(), 5, "it has attempts of its own");
}

#[tokio::test]
async fn what_the_client_did_is_answered_as_it_is() {
    let (service, doing) = switched(status(404)).await;
    let route = format!(
        "{ALONE}, fallback: [{{ respond: {{ status: 200 }} }}], \
         rate_limit: {{ rate: 1/h, burst: 4 }}"
    );
    let sidecar = Sidecar::start(&config(&[&service], STAYS, &route));
    let caller = sidecar.caller();
    for code in [404, 429, 501] {
        now_does(&doing, status(code));
        let got = caller.get().await;
        assert_eq!((got.status, link(&got)), (code, None));
    }
    now_does(&doing, status(500));
    assert_eq!(caller.get().await.status, 200);
    let got = caller.get().await;
    assert_eq!((got.status, got.reason(), link(&got)), (429, Some("rate_limited"), None));
    assert_eq!((counted(&sidecar, "respond"), counted(&sidecar, "none")), (1.0, 0.0));
}

#[tokio::test]
async fn a_reload_keeps_the_answers_and_fits_them_into_the_new_bound() {
    let (service, doing) = switched(good(&[])).await;
    let text = cached(&service);
    let sidecar = Sidecar::start(&text);
    let caller = sidecar.caller();
    for path in ["/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h"] {
        caller.send(request("GET", path)).await;
    }
    let answers = "outrigger_route_cache_answers{route=\"r\"}";
    assert_eq!(sidecar.metric(answers), 8.0);
    now_does(&doing, status(503));
    let reload = |text: &str| sidecar.app().proxy.reload(text).unwrap();
    assert!(reload(&text.replace("5m", "6m")).changed);
    assert_eq!(link(&caller.send(request("GET", "/a")).await), Some("stale"));
    assert!(reload(&text.replace("16MiB", "4KiB")).changed);
    assert!(sidecar.metric("outrigger_route_cache_bytes{route=\"r\"}") <= 4096.0);
    let left = sidecar.metric(answers);
    assert!((1.0..8.0).contains(&left), "{left}");
    assert_eq!(event(&sidecar, "evicted"), 8.0 - left);
    assert_eq!(link(&caller.send(request("GET", "/a")).await), Some("stale"), "used last");
    assert_eq!(caller.send(request("GET", "/b")).await.status, 503);
    let other = text.replace("16MiB", "16MiB, vary: [x-tenant]");
    assert!(reload(&other).changed);
    assert_eq!(caller.send(request("GET", "/a")).await.status, 503, "selected by less than now");
    assert_eq!(sidecar.metric(answers), 0.0);
}

#[tokio::test]
async fn an_answer_streams_while_it_is_copied_and_one_that_breaks_off_is_not_kept() {
    let (service, doing) = switched(Act::Stall("text/plain")).await;
    let route = format!("{ALONE}, {CACHE}, timeouts: {{ idle: 30ms }}");
    let sidecar = Sidecar::start(&config(&[&service], STAYS, &route));
    let caller = sidecar.caller();
    let (_sender, response) = caller.head(request("GET", "/")).await.unwrap();
    assert_eq!(response.status(), 200, "the head came while the body stalls");
    let cut = http_body_util::BodyExt::collect(response.into_body()).await;
    assert!(cut.is_err(), "it broke off");
    now_does(&doing, status(503));
    assert_eq!(caller.get().await.status, 503);
    assert_eq!(event(&sidecar, "kept"), 0.0);
}

#[tokio::test]
async fn a_body_over_the_bound_passes_and_is_not_kept() {
    let (service, doing) = switched(Act::Answer(200, Vec::new(), "more than ten bytes")).await;
    let route = format!("{ALONE}, cache: {{ max_body: 10B }}");
    let sidecar = Sidecar::start(&config(&[&service], STAYS, &route));
    let caller = sidecar.caller();
    assert_eq!(&caller.get().await.body[..], b"more than ten bytes");
    now_does(&doing, status(503));
    assert_eq!(caller.get().await.status, 503);
    assert_eq!((event(&sidecar, "kept"), event(&sidecar, "too_large")), (0.0, 1.0));
}

#[tokio::test]
async fn grpc_gets_no_fixed_answer() {
    let nobody = config_to(
        &["127.0.0.1:1".parse().unwrap()],
        STAYS,
        &format!("{ALONE}, fallback: [{{ respond: {{ body: \"[]\" }} }}]"),
    );
    let sidecar = Sidecar::start(&nobody);
    let mut call = with_body("POST", "/a.B/C", "");
    call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let got = sidecar.caller().send(call).await;
    assert_eq!((got.header("grpc-status"), link(&got)), (Some("14"), None));
}

#[tokio::test]
async fn a_full_bulkhead_leads_to_the_chain_and_the_chain_needs_no_second_place() {
    let main = Service::start(|seen| match seen.path.as_str() {
        "/hang" => Act::Hang,
        _ => status(503),
    })
    .await;
    let other = Service::always(200).await;
    let route = format!(
        "{ALONE}, bulkhead: {{ max_concurrent: 1, queue: {{ max: 0 }} }}, \
         fallback: [{{ upstream: v }}, {{ respond: {{ status: 299 }} }}]"
    );
    let sidecar = Sidecar::start(&two(&main, &other, &route));
    let caller = sidecar.caller();
    assert_eq!(link(&caller.get().await), Some("upstream:v"), "the place of the first is free");
    let hangs = tokio::spawn({
        let caller = caller.clone();
        async move { caller.send(request("GET", "/hang")).await }
    });
    main.reached(2).await;
    let got = caller.get().await;
    assert_eq!((got.status, got.reason()), (299, Some("bulkhead_full")));
    assert_eq!((link(&got), main.hits(), other.hits()), (Some("respond"), 2, 1));
    hangs.abort();
}
