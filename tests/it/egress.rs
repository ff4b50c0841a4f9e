//! A rate that is learned from a third party, between real sockets: it counts by a bucket of tokens
//! and says 429.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use outrigger::clock;
use outrigger::policy::learned_rate::View;

use crate::support::caller::Caller;
use crate::support::service::{Act, Service, status};
use crate::support::sidecar::{Sidecar, config, eventually};

const LEARN: &str = "rate_limit: { learn_from_429: true, on_limit: wait, max_wait: 200ms }, \
                     retry: { mode: off }, circuit_breaker: { mode: off }";
const THROTTLES: &str = "outrigger_route_throttled_total{route=\"r\"}";

/// A bucket of tokens that fills by the clock.
struct Bucket {
    rate: f64,
    size: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn new(rate: f64, size: f64) -> Self {
        Self { rate, size, tokens: size, at: clock::now() }
    }

    fn take(&mut self) -> bool {
        let now = clock::now();
        let fresh = now.saturating_duration_since(self.at).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + fresh).min(self.size);
        self.at = now;
        let has = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(has));
        has
    }
}

/// A third party, and how many it has accepted and throttled.
struct ThirdParty {
    service: Service,
    accepted: Arc<AtomicUsize>,
    throttled: Arc<AtomicUsize>,
}

impl ThirdParty {
    async fn new(rate: f64, size: f64) -> Self {
        let bucket = Mutex::new(Bucket::new(rate, size));
        let (accepted, throttled) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = (Arc::clone(&accepted), Arc::clone(&throttled));
        let service = Service::start(move |_| {
            let has = bucket.lock().unwrap().take();
            let (count, code) = if has { (&counts.0, 200) } else { (&counts.1, 429) };
            count.fetch_add(1, Ordering::SeqCst);
            status(code)
        });
        Self { service: service.await, accepted, throttled }
    }

    fn counts(&self) -> (usize, usize) {
        (self.accepted.load(Ordering::SeqCst), self.throttled.load(Ordering::SeqCst))
    }
}

/// What the route has learned.
fn view(sidecar: &Sidecar) -> View {
    let live = sidecar.app().proxy.live();
    let route = &live.snapshot.routes[0];
    let settings = route.settings.rate_limit.as_ref().unwrap();
    route.learning.as_ref().unwrap().view(settings, clock::now())
}

/// Offers 100 requests a second for a time.
async fn offer(caller: &Caller, seconds: u64) {
    caller.load(100, Duration::from_secs(seconds)).await;
}

/// The promise in full takes minutes, and is played in simulated time by the policy's own tests.
/// This is its beginning: what is found within seconds, and that throttles get few.
#[tokio::test]
async fn a_third_partys_limit_is_found_within_seconds() {
    let third = ThirdParty::new(50.0, 10.0).await;
    let sidecar = Sidecar::start(&config(&[&third.service], "", LEARN));
    let caller = sidecar.caller();
    assert_eq!(view(&sidecar).rate, None, "nothing is limited before the first throttle");
    offer(&caller, 8).await;
    let before = third.counts();
    offer(&caller, 6).await;
    let after = third.counts();
    let (accepted, throttled) = (after.0 - before.0, after.1 - before.1);
    // Of 600 that were offered 300 can pass.
    assert!((210..=320).contains(&accepted), "{accepted}");
    assert!(throttled <= 12, "{throttled} of {accepted} after 8 seconds");
    assert_eq!(sidecar.metric(THROTTLES), after.1 as f64);
    let view = view(&sidecar);
    assert!((25.0..=70.0).contains(&view.ceiling.unwrap()), "{view:?}");
}

#[tokio::test]
async fn retry_after_stops_what_is_sent_and_is_told_to_callers() {
    let service = Service::start(|seen| match seen.number {
        3 => Act::Answer(429, vec![("retry-after", "3600".to_owned())], ""),
        _ => status(200),
    });
    let service = service.await;
    let sidecar = Sidecar::start(&config(&[&service], "", LEARN));
    let caller = sidecar.caller();
    for expected in [200, 200, 200, 429] {
        assert_eq!(caller.get().await.status, expected);
    }
    let got = caller.get().await;
    assert_eq!((got.status, got.reason()), (429, Some("rate_limited")));
    let wait: u64 = got.header("retry-after").unwrap().parse().unwrap();
    // An hour is taken as five minutes, and told with up to a quarter more.
    assert!((290..=380).contains(&wait), "{wait}");
    assert_eq!(service.hits(), 4);
}

#[tokio::test]
async fn a_retry_is_not_sent_while_the_third_party_wants_none() {
    let service = Service::start(|seen| match seen.path.as_str() {
        "/slow" => Act::Late(Duration::from_millis(300), 503),
        _ => Act::Answer(429, vec![("retry-after", "60".to_owned())], ""),
    });
    let service = service.await;
    let retrying = "rate_limit: { learn_from_429: true }, circuit_breaker: { mode: off }, \
                    retry: { max_attempts: 2, backoff: { base: 1ms, max: 1ms } }";
    let sidecar = Sidecar::start(&config(&[&service], "", retrying));
    let (slow, quick) = (sidecar.caller(), sidecar.caller());
    let slow =
        tokio::spawn(
            async move { slow.send(crate::support::caller::request("GET", "/slow")).await },
        );
    service.reached(1).await;
    assert_eq!(quick.get().await.status, 429);
    let got = slow.await.unwrap();
    assert_eq!((got.status, got.reason()), (503, None), "the upstream's own answer stands");
    assert_eq!(sidecar.suppressed("rate_limit"), 1.0);
    assert_eq!(service.hits(), 2);
}

#[tokio::test]
async fn what_is_advertised_is_kept_without_a_throttle() {
    let service = Service::start(|_| {
        let policy = "\"default\";q=600;w=60".to_owned();
        let left = "\"default\";r=300;t=60".to_owned();
        Act::Answer(200, vec![("ratelimit-policy", policy), ("ratelimit", left)], "")
    });
    let service = service.await;
    let sidecar = Sidecar::start(&config(&[&service], "", LEARN));
    offer(&sidecar.caller(), 3).await;
    // Five a second; what was under way when the first answer came is not held back.
    assert!((10..=25).contains(&service.hits()), "{}", service.hits());
    assert_eq!(sidecar.sample(THROTTLES), Some(0.0));
}

#[tokio::test]
async fn one_that_waits_and_goes_away_leaves_the_line() {
    let service = Service::always(200).await;
    let limit = "rate_limit: { learn_from_429: true, rate: 1/h, burst: 1, on_limit: wait, \
                 max_wait: 24h }, timeouts: { total: 24h }";
    let sidecar = Sidecar::start(&config(&[&service], "", limit));
    let caller = sidecar.caller();
    assert_eq!(caller.get().await.status, 200);
    let live = sidecar.app().proxy.live();
    let route = Arc::clone(&live.snapshot.routes[0]);
    let settings = route.settings.rate_limit.clone().unwrap();
    let waiting = move || route.learning.as_ref().unwrap().view(&settings, clock::now()).waiting;
    let one = tokio::spawn(async move { caller.get().await });
    eventually("it waits", async || waiting() == 1).await;
    one.abort();
    eventually("it left", async || waiting() == 0).await;
    assert_eq!(service.hits(), 1);
}

#[tokio::test]
async fn observing_sends_everything_and_learns() {
    let third = ThirdParty::new(20.0, 5.0).await;
    let observe = LEARN.replace("{ learn", "{ mode: observe, learn");
    let sidecar = Sidecar::start(&config(&[&third.service], "", &observe));
    offer(&sidecar.caller(), 4).await;
    let (accepted, throttled) = third.counts();
    assert_eq!(accepted + throttled, 400);
    assert!(sidecar.would("rate_limit") > 50.0);
    let view = view(&sidecar);
    assert!((8.0..=40.0).contains(&view.ceiling.unwrap()), "{view:?}");
}

#[tokio::test]
async fn what_was_learned_outlives_a_reload() {
    let third = ThirdParty::new(50.0, 5.0).await;
    let text = config(&[&third.service], "", LEARN);
    let sidecar = Sidecar::start(&text);
    offer(&sidecar.caller(), 2).await;
    let learned = |sidecar: &Sidecar| {
        let live = sidecar.app().proxy.live();
        live.snapshot.routes[0].learning.clone()
    };
    let before = learned(&sidecar).unwrap();
    let other = text.replace("max_wait: 200ms", "rate: 40/s, max_wait: 100ms");
    sidecar.app().proxy.reload(&other).unwrap();
    assert!(Arc::ptr_eq(&before, &learned(&sidecar).unwrap()));
    let fixed = text.replace("learn_from_429: true", "rate: 40/s");
    sidecar.app().proxy.reload(&fixed).unwrap();
    assert!(learned(&sidecar).is_none());
    assert_eq!(sidecar.sample(THROTTLES), None, "its numbers are gone with it");
}
