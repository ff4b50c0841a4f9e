//! The numbers of one route, circuit, upstream or endpoint.
//!
//! Each is resolved by name once, when a configuration is compiled, and is then plain atomics
//! behind an `Arc`: places in fixed arrays, no map, no hash, no lock. A request costs a route five
//! atomic instructions (in flight twice, class, histogram's bucket and sum) and a sixth for a
//! reason; an attempt costs the upstream five and the endpoint five.
//!
//! Array elements are found with `get`, so that a place out of range counts nothing and cannot
//! fail.

use std::time::Duration;

use super::calls::CallMetrics;
use super::cell::{Counter, Level, Measure};
use super::fallback::FallbackMetrics;
use super::family::Family;
use super::hedge::HedgeMetrics;
use super::latency::{Latency, NARROW, WIDE};
use super::places::{BulkheadMetrics, LimitMetrics};
use super::samples::Samples;
use super::tls::HandshakesOut;
use super::tunnels::TunnelMetrics;
use crate::policy::mirror::Copied;
use crate::policy::outcome::{End, Outcome};
use crate::telemetry::reason::Reason;

/// Writes the samples of one metric that belong to one owner, whose label values are given.
pub(super) trait Emit {
    fn emit(&self, owner: &[&str], samples: &mut Samples);
}

/// The classes of a status, in label form; `none` stands for no status at all.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The place of a status in [`CLASSES`].
const fn class(status: u16) -> usize {
    match status {
        100..=599 => (status / 100) as usize,
        _ => 0,
    }
}

/// Policies that can be in observe mode and count per route what they would have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Would {
    /// The circuit would have refused the attempt.
    CircuitBreaker,
    /// The rate limit would have refused the request.
    RateLimit,
    /// The attempt would have been made again.
    Retry,
    /// The upstream's limit would have made the request wait, or refused it.
    Concurrency,
    /// A second copy would have been sent.
    Hedge,
    /// The route's bulkhead would have made the request wait, or refused it.
    Bulkhead,
}

impl Would {
    /// Every policy, in the order of declaration.
    pub const ALL: [Self; 6] = [
        Self::CircuitBreaker,
        Self::RateLimit,
        Self::Retry,
        Self::Concurrency,
        Self::Hedge,
        Self::Bulkhead,
    ];

    /// The spelling in labels and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CircuitBreaker => "circuit_breaker",
            Self::RateLimit => "rate_limit",
            Self::Retry => "retry",
            Self::Concurrency => "concurrency",
            Self::Hedge => "hedge",
            Self::Bulkhead => "bulkhead",
        }
    }
}

/// The numbers of a route.
#[derive(Debug)]
pub struct RouteMetrics {
    /// Requests that have not ended yet.
    pub in_flight: Level,
    /// Attempts beyond the first of a request.
    pub retries: Counter,
    /// The fallback chain and what is kept for it.
    pub fallback: FallbackMetrics,
    /// Its calls of gRPC, by method.
    pub calls: CallMetrics,
    /// Its bulkhead.
    pub bulkhead: BulkheadMetrics,
    /// Its second copies.
    pub hedge: HedgeMetrics,
    /// Its tunnels.
    pub tunnels: TunnelMetrics,
    classes: [Counter; CLASSES.len()],
    reasons: [Counter; Reason::COUNT],
    would: [Counter; Would::ALL.len()],
    suppressions: &'static [&'static str],
    suppressed: Box<[Counter]>,
    copies: [Counter; Copied::ALL.len()],
    duration: Latency<15>,
}

impl RouteMetrics {
    pub(super) fn new(suppressions: &'static [&'static str]) -> Self {
        Self {
            in_flight: Level::default(),
            retries: Counter::default(),
            fallback: FallbackMetrics::default(),
            calls: CallMetrics::default(),
            bulkhead: BulkheadMetrics::default(),
            hedge: HedgeMetrics::default(),
            tunnels: TunnelMetrics::default(),
            classes: Default::default(),
            reasons: std::array::from_fn(|_| Counter::default()),
            would: Default::default(),
            suppressions,
            suppressed: suppressions.iter().map(|_| Counter::default()).collect(),
            copies: Default::default(),
            duration: Latency::new(&WIDE),
        }
    }

    /// Counts a request that ended, with the status that was sent, if one was, and the time from
    /// its head to the last byte of the answer. The level of requests in flight is not touched.
    pub fn ended(&self, status: Option<u16>, duration: Duration) {
        count(&self.classes, status.map_or(0, class));
        self.duration.observe(duration);
    }

    /// Counts an answer of our own or a cut-off.
    pub fn reason(&self, reason: Reason) {
        count(&self.reasons, reason.index());
    }

    /// Counts a failure that was not tried again, by the place of its cause in the slice that was
    /// given to [`super::Metrics::new`].
    pub fn retry_suppressed(&self, place: usize) {
        count(&self.suppressed, place);
    }

    /// Counts what became of a request that was drawn for a copy.
    pub fn copied(&self, result: Copied) {
        count(&self.copies, result.index());
    }

    /// Counts a decision of a policy in observe mode.
    pub fn would(&self, policy: Would) {
        count(&self.would, policy as usize);
    }
}

/// Counts one event at a place; nothing where there is no such place.
pub(super) fn count(counters: &[Counter], place: usize) {
    if let Some(counter) = counters.get(place) {
        counter.inc();
    }
}

impl Emit for RouteMetrics {
    fn emit(&self, owner: &[&str], samples: &mut Samples) {
        match samples.family() {
            Family::RouteRequests => {
                for (counter, class) in self.classes.iter().zip(CLASSES).skip(1) {
                    samples.counter(owner, Some(class), counter.get() as f64);
                }
                let none = self.classes.first().map_or(0, Counter::get);
                samples.occurred(owner, "none", none);
            }
            Family::RouteReasons => {
                for (counter, reason) in self.reasons.iter().zip(Reason::ALL) {
                    samples.occurred(owner, reason.as_str(), counter.get());
                }
            }
            Family::RouteDuration => samples.histogram(owner, &self.duration.read()),
            Family::RouteInFlight => samples.gauge(owner, None, self.in_flight.get() as f64),
            Family::RouteRetries => samples.counter(owner, None, self.retries.get() as f64),
            Family::RouteRetriesSuppressed => {
                for (counter, cause) in self.suppressed.iter().zip(self.suppressions) {
                    samples.occurred(owner, cause, counter.get());
                }
            }
            Family::Mirrored => {
                for (counter, result) in self.copies.iter().zip(Copied::ALL) {
                    samples.occurred(owner, result.as_str(), counter.get());
                }
            }
            Family::RouteWouldAct => {
                for (counter, policy) in self.would.iter().zip(Would::ALL) {
                    samples.occurred(owner, policy.as_str(), counter.get());
                }
            }
            _ => {
                self.bulkhead.emit(owner, samples);
                self.hedge.emit(owner, samples);
                self.tunnels.emit(owner, samples);
                self.fallback.emit(owner, samples);
                self.calls.emit(owner, samples);
            }
        }
    }
}

/// The state of a circuit, as it is exposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Every attempt is admitted.
    Closed,
    /// No attempt is admitted.
    Open,
    /// Trial attempts are admitted.
    HalfOpen,
    /// A rising share of the attempts is admitted.
    Ramping,
    /// Held open by an operator.
    Isolated,
}

impl BreakerState {
    /// Every state; its place is its value in the gauge.
    pub const ALL: [Self; 5] =
        [Self::Closed, Self::Open, Self::HalfOpen, Self::Ramping, Self::Isolated];

    /// The spelling in labels and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Ramping => "ramping",
            Self::Isolated => "isolated",
        }
    }
}

/// The numbers of the circuit between a route and an upstream.
#[derive(Debug, Default)]
pub struct BreakerMetrics {
    state: Level,
    to: [Counter; BreakerState::ALL.len()],
}

impl BreakerMetrics {
    /// Counts a change of state and shows the new one.
    pub fn entered(&self, state: BreakerState) {
        self.show(state);
        count(&self.to, state as usize);
    }

    /// Shows a state without a change, as when a reload kept the circuit.
    pub fn show(&self, state: BreakerState) {
        self.state.set(state as usize);
    }
}

impl Emit for BreakerMetrics {
    fn emit(&self, owner: &[&str], samples: &mut Samples) {
        match samples.family() {
            Family::BreakerState => samples.gauge(owner, None, self.state.get() as f64),
            Family::BreakerTransitions => {
                for (counter, state) in self.to.iter().zip(BreakerState::ALL) {
                    samples.occurred(owner, state.as_str(), counter.get());
                }
            }
            _ => {}
        }
    }
}

/// How an attempt can end, in label form: a class of status, or a kind of failure.
const RESULTS: [&str; 13] = [
    "other",
    "1xx",
    "2xx",
    "3xx",
    "4xx",
    "5xx",
    "connect_failure",
    "connect_timeout",
    "refused",
    "reset",
    "per_try_timeout",
    "deadline",
    "cancelled",
];

/// The place in [`RESULTS`] of an attempt that was given up because nobody waits for it.
const CANCELLED: usize = RESULTS.len() - 1;

/// The place of an end in [`RESULTS`].
const fn result(end: End) -> usize {
    match end {
        End::Answer { status, .. } => class(status),
        End::ConnectFailure => 6,
        End::ConnectTimeout => 7,
        End::Refused => 8,
        End::Reset => 9,
        End::PerTryTimeout => 10,
        End::DeadlineExceeded => 11,
    }
}

/// The numbers of an upstream.
#[derive(Debug)]
pub struct UpstreamMetrics {
    /// Attempts that have not ended yet.
    pub in_flight: Level,
    /// Open connections.
    pub connections: Level,
    /// Connections that were made.
    pub connections_opened: Counter,
    /// The most connections that may be open.
    pub connection_limit: Level,
    /// Retries that the budget would pay for now.
    pub retry_budget: Measure,
    /// Endpoints that can be chosen.
    pub endpoints_available: Level,
    /// Endpoints that are ejected for their failures.
    pub endpoints_ejected: Level,
    /// Endpoints that fail their health checks.
    pub endpoints_unhealthy: Level,
    /// Ejections that were made.
    pub ejections: Counter,
    /// Ejections that observe mode would have made.
    pub would_eject: Counter,
    /// Its adaptive limit.
    pub places: LimitMetrics,
    /// How its TLS handshakes ended.
    pub handshakes: HandshakesOut,
    results: [Counter; RESULTS.len()],
    duration: Latency<15>,
}

impl Default for UpstreamMetrics {
    fn default() -> Self {
        Self {
            in_flight: Level::default(),
            connections: Level::default(),
            connections_opened: Counter::default(),
            connection_limit: Level::default(),
            retry_budget: Measure::default(),
            endpoints_available: Level::default(),
            endpoints_ejected: Level::default(),
            endpoints_unhealthy: Level::default(),
            ejections: Counter::default(),
            would_eject: Counter::default(),
            places: LimitMetrics::default(),
            handshakes: HandshakesOut::default(),
            results: Default::default(),
            duration: Latency::new(&WIDE),
        }
    }
}

impl UpstreamMetrics {
    /// Counts an attempt that ended. The level of attempts in flight is not touched.
    pub fn ended(&self, outcome: &Outcome) {
        count(&self.results, result(outcome.end));
        self.duration.observe(outcome.latency);
    }

    /// Counts an attempt that was given up because nobody waits for it. Its duration says nothing
    /// of the upstream and is not observed.
    pub fn cancelled(&self) {
        count(&self.results, CANCELLED);
    }
}

impl Emit for UpstreamMetrics {
    fn emit(&self, owner: &[&str], samples: &mut Samples) {
        match samples.family() {
            Family::UpstreamAttempts => {
                for (counter, result) in self.results.iter().zip(RESULTS) {
                    samples.occurred(owner, result, counter.get());
                }
            }
            Family::UpstreamDuration => samples.histogram(owner, &self.duration.read()),
            Family::UpstreamInFlight => samples.gauge(owner, None, self.in_flight.get() as f64),
            Family::UpstreamConnections => {
                samples.gauge(owner, None, self.connections.get() as f64);
            }
            Family::UpstreamConnectionsOpened => {
                samples.counter(owner, None, self.connections_opened.get() as f64);
            }
            Family::UpstreamConnectionLimit => {
                samples.gauge(owner, None, self.connection_limit.get() as f64);
            }
            Family::UpstreamRetryBudget => samples.gauge(owner, None, self.retry_budget.get()),
            Family::UpstreamEndpoints => {
                let available = self.endpoints_available.get() as f64;
                samples.gauge(owner, Some("available"), available);
                samples.gauge(owner, Some("ejected"), self.endpoints_ejected.get() as f64);
                samples.gauge(owner, Some("unhealthy"), self.endpoints_unhealthy.get() as f64);
            }
            Family::UpstreamEjections => samples.counter(owner, None, self.ejections.get() as f64),
            Family::UpstreamWouldEject => {
                samples.counter(owner, None, self.would_eject.get() as f64);
            }
            Family::UpstreamHandshakes => self.handshakes.emit(owner, samples),
            _ => self.places.emit(owner, samples),
        }
    }
}

/// The numbers of one address of an upstream.
#[derive(Debug)]
pub struct EndpointMetrics {
    /// Attempts that have not ended yet.
    pub in_flight: Level,
    /// 1 while ejected.
    pub ejected: Level,
    /// 1 while healthy, as it is at first.
    pub healthy: Level,
    /// The moving average of latency in seconds.
    pub ewma: Measure,
    success: Counter,
    failure: Counter,
    duration: Latency<5>,
}

impl Default for EndpointMetrics {
    fn default() -> Self {
        let healthy = Level::default();
        healthy.set(1);
        Self {
            in_flight: Level::default(),
            ejected: Level::default(),
            healthy,
            ewma: Measure::default(),
            success: Counter::default(),
            failure: Counter::default(),
            duration: Latency::new(&NARROW),
        }
    }
}

impl EndpointMetrics {
    /// Counts an attempt that ended. The level of attempts in flight is not touched.
    pub fn ended(&self, success: bool, latency: Duration) {
        if success {
            self.success.inc();
        } else {
            self.failure.inc();
        }
        self.duration.observe(latency);
    }
}

impl Emit for EndpointMetrics {
    fn emit(&self, owner: &[&str], samples: &mut Samples) {
        match samples.family() {
            Family::EndpointAttempts => {
                samples.counter(owner, Some("success"), self.success.get() as f64);
                samples.counter(owner, Some("failure"), self.failure.get() as f64);
            }
            Family::EndpointDuration => samples.histogram(owner, &self.duration.read()),
            Family::EndpointInFlight => samples.gauge(owner, None, self.in_flight.get() as f64),
            Family::EndpointEjected => samples.gauge(owner, None, self.ejected.get() as f64),
            Family::EndpointHealthy => samples.gauge(owner, None, self.healthy.get() as f64),
            Family::EndpointEwma => samples.gauge(owner, None, self.ewma.get()),
            _ => {}
        }
    }
}
