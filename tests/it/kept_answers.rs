//! What happens to kept answers while they are kept: a 304 renews them, a change takes them, time
//! ends them.

use std::sync::{Arc, Mutex};

use http::{HeaderValue, header};
use outrigger::app::Address;

use crate::support::caller::{Caller, request, with_body};
use crate::support::service::{Act, Service, status};
use crate::support::sidecar::{Sidecar, config, eventually};

const STAYS: &str = "ejection: { mode: off }";
const ROUTE: &str = "retry: { mode: off }, circuit_breaker: { mode: off }";

fn keeping(service: &Service, window: &str) -> String {
    let cache = format!("cache: {{ stale_if_error: {window}, max_bytes: 1MiB }}");
    config(&[service], STAYS, &format!("{ROUTE}, {cache}"))
}

fn event(sidecar: &Sidecar, event: &str) -> f64 {
    let name = "outrigger_route_cache_events_total";
    sidecar.metric(&format!("{name}{{route=\"r\",event=\"{event}\"}}"))
}

fn answer(code: u16, fields: &[(&'static str, &str)]) -> Act {
    let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Act::Answer(code, fields, if code == 200 { "good" } else { "" })
}

/// A service that answers with what is set at each moment.
async fn set(first: Act) -> (Service, Arc<Mutex<Act>>) {
    let act = Arc::new(Mutex::new(first));
    let now = Arc::clone(&act);
    (Service::start(move |_| now.lock().unwrap().clone()).await, act)
}

/// A GET of a client that has the answer of this tag.
async fn is_it_still(caller: &Caller, tag: &str) -> u16 {
    let mut get = request("GET", "/");
    get.headers_mut().insert(header::IF_NONE_MATCH, HeaderValue::from_str(tag).unwrap());
    caller.send(get).await.status
}

#[tokio::test]
async fn a_304_renews_the_answer_that_has_its_tag() {
    let first = [("etag", "\"a\""), ("age", "500"), ("x-of", "first"), ("content-type", "a/b")];
    let (service, act) = set(answer(200, &first)).await;
    let sidecar = Sidecar::start(&keeping(&service, "5m"));
    let caller = sidecar.caller();
    assert_eq!(caller.get().await.status, 200);
    *act.lock().unwrap() = status(503);
    assert_eq!(caller.get().await.status, 503, "500 s old, and 300 s is the window");
    let other = [("etag", "\"b\""), ("x-of", "other")];
    *act.lock().unwrap() = answer(304, &other);
    assert_eq!(is_it_still(&caller, "\"b\"").await, 304);
    *act.lock().unwrap() = status(503);
    assert_eq!(caller.get().await.status, 503, "another version was confirmed");
    let same = [("etag", "\"a\""), ("x-of", "second"), ("cache-control", "max-age=60")];
    *act.lock().unwrap() = answer(304, &same);
    assert_eq!(is_it_still(&caller, "\"a\"").await, 304);
    *act.lock().unwrap() = status(503);
    let got = caller.get().await;
    assert_eq!((got.status, &got.body[..]), (200, &b"good"[..]));
    assert_eq!((got.header("x-of"), got.header("content-type")), (Some("second"), Some("a/b")));
    assert!(got.header("age").unwrap().parse::<u64>().unwrap() < 60);
    assert_eq!(event(&sidecar, "confirmed"), 1.0);
    *act.lock().unwrap() = answer(304, &[("etag", "\"a\""), ("cache-control", "no-store")]);
    assert_eq!(is_it_still(&caller, "\"a\"").await, 304);
    *act.lock().unwrap() = status(503);
    assert_eq!(caller.get().await.status, 503, "it may not be kept any longer");
}

#[tokio::test]
async fn a_change_takes_what_its_location_names_on_this_host() {
    let (service, act) = set(answer(200, &[])).await;
    let sidecar = Sidecar::start(&keeping(&service, "5m"));
    let caller = sidecar.caller();
    for path in ["/a/list", "/a/one", "/a/two"] {
        assert_eq!(caller.send(request("GET", path)).await.status, 200);
    }
    let named = [("location", "one?x#y"), ("content-location", "http://elsewhere/a/two")];
    *act.lock().unwrap() = answer(201, &named);
    caller.send(with_body("POST", "/a/new", "x")).await;
    assert_eq!(event(&sidecar, "invalidated"), 0.0, "another query, another host");
    *act.lock().unwrap() = answer(201, &[("location", "one"), ("content-location", "/a/list")]);
    caller.send(with_body("POST", "/a/new", "x")).await;
    assert_eq!(event(&sidecar, "invalidated"), 2.0);
    *act.lock().unwrap() = status(503);
    for (path, code) in [("/a/list", 503), ("/a/one", 503), ("/a/two", 200)] {
        assert_eq!(caller.send(request("GET", path)).await.status, code, "{path}");
    }
}

#[tokio::test]
async fn what_is_over_leaves_although_nobody_asks() {
    let service = Service::start(|_| answer(200, &[])).await;
    let sidecar = Sidecar::start(&keeping(&service, "10ms"));
    assert_eq!(sidecar.caller().get().await.status, 200);
    eventually("it is gone", async || event(&sidecar, "expired") == 1.0).await;
    assert_eq!(sidecar.sample("outrigger_route_cache_answers{route=\"r\"}"), Some(0.0));
    assert_eq!(sidecar.sample("outrigger_route_cache_bytes{route=\"r\"}"), Some(0.0));
}

#[tokio::test]
async fn bodies_that_are_kept_for_another_attempt_are_counted() {
    let service = Service::start(|_| Act::Hang).await;
    let route = "retry: { max_attempts: 2, on: [reset] }";
    let sidecar = Sidecar::start(&config(&[&service], STAYS, route));
    let Address::Tcp(admin) = sidecar.app().admin.clone() else { panic!("no admin address") };
    let admin = Caller::new(admin);
    let shown = async |name: &str| {
        let mut get = request("GET", "/metrics");
        get.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
        let page = admin.send(get).await.body;
        let text = String::from_utf8(page.to_vec()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
        line.unwrap().trim().parse::<f64>().unwrap()
    };
    assert_eq!(shown("outrigger_kept_body_limit_bytes ").await, 16.0 * 1024.0 * 1024.0);
    let put = sidecar.caller();
    let waiting = tokio::spawn(async move { put.send(with_body("PUT", "/", "0123456789")).await });
    eventually("kept", async || shown("outrigger_kept_body_bytes ").await == 10.0).await;
    waiting.abort();
    eventually("given back", async || shown("outrigger_kept_body_bytes ").await == 0.0).await;
}
