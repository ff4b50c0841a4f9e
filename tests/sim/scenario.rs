//! Scenario files: what the clients do, what befalls the upstream, and what must come of it.

use std::path::Path;
use std::time::Duration;

use outrigger::config::{self, Loaded, ProcessEnvironment};
use outrigger::units::Period;
use serde::Deserialize;
use serde_yaml::{Mapping, Value};

/// One scenario. Times count from its start.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// What it shows, in a sentence.
    #[expect(dead_code, reason = "for the reader of the file; required, so that each has one")]
    pub(crate) about: String,
    /// Until then clients come; afterwards everything drains.
    pub(crate) length: Period,
    pub(crate) endpoints: usize,
    /// How many proxies there are before the endpoints, each of which knows nothing of the others.
    #[serde(default = "one")]
    pub(crate) sidecars: usize,
    /// How many seeds it is run under, if not as many as others: long ones do with fewer, and what
    /// depends on a few first answers wants more.
    #[serde(default)]
    pub(crate) seeds: Option<u64>,
    #[serde(default)]
    pub(crate) config: Overrides,
    /// The routes; if there are none, one named `r`.
    #[serde(default)]
    pub(crate) routes: Vec<Way>,
    pub(crate) service: Service,
    pub(crate) clients: Clients,
    #[serde(default)]
    pub(crate) faults: Vec<Fault>,
    /// When the proxies themselves run short of something.
    #[serde(default)]
    pub(crate) shortages: Vec<Shortage>,
    #[serde(default)]
    pub(crate) reloads: Option<Reloads>,
    #[serde(default)]
    pub(crate) buggify: Buggify,
    pub(crate) expect: Vec<Expect>,
}

const fn one() -> usize {
    1
}

/// A route to the one upstream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Way {
    pub(crate) name: String,
    /// The mean time of work on one of its requests, if not the service's.
    #[serde(default)]
    pub(crate) time: Option<Period>,
    /// Its keys, beside those of all routes.
    #[serde(default)]
    pub(crate) config: Mapping,
}

/// Keys of the file, of every route and of the one upstream, as in the proxy's own file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Overrides {
    pub(crate) file: Mapping,
    pub(crate) route: Mapping,
    pub(crate) upstream: Mapping,
}

/// What one endpoint can do: its capacity is `at_once / time`, unless it has a knee.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    /// The mean time of work on one request.
    pub(crate) time: Period,
    /// Requests worked on at once; the others queue, and are worked on even if nobody waits for
    /// them any more.
    pub(crate) at_once: usize,
    /// A request that would queue for longer is answered 503.
    pub(crate) backlog: Period,
    /// The share of the time that is random, with an exponential distribution.
    #[serde(default = "half")]
    pub(crate) jitter: f64,
    /// How much work suffers from being much.
    #[serde(default)]
    pub(crate) knee: Option<Knee>,
    /// When it stands still, such as to collect garbage.
    #[serde(default)]
    pub(crate) pauses: Option<Pauses>,
}

const fn half() -> f64 {
    0.5
}

/// Beyond `above` requests in an endpoint, each more makes the work on one take `slows` longer, as
/// a share of its time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Knee {
    pub(crate) above: usize,
    pub(crate) slows: f64,
}

/// Each endpoint stands still for `length`, again and again; not all at the same time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pauses {
    pub(crate) every: Period,
    pub(crate) length: Period,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Clients {
    /// Requests a second, as a Poisson process.
    pub(crate) rate: f64,
    /// The share of clients that leave early, and the mean time until they do.
    #[serde(default)]
    pub(crate) abandon: f64,
    #[serde(default)]
    pub(crate) patience: Period,
    /// The share of methods that are not safe to repeat.
    #[serde(default)]
    pub(crate) not_repeatable: f64,
    /// The share of requests that are a retry of the caller's already.
    #[serde(default)]
    pub(crate) already_retried: f64,
    #[serde(default)]
    pub(crate) surges: Vec<Surge>,
    /// An answer that comes later than this is none.
    #[serde(default)]
    pub(crate) deadline: Option<Deadline>,
    /// Who they are; if nothing is said, all are alike.
    #[serde(default)]
    pub(crate) kinds: Vec<Kind>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deadline {
    pub(crate) within: Period,
    /// Whether the proxy is told of it.
    pub(crate) told: bool,
}

/// Clients that are alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kind {
    pub(crate) name: String,
    /// Their share of the requests, relative to those of the others.
    pub(crate) share: f64,
    /// Their shares later on.
    #[serde(default)]
    pub(crate) then: Vec<Turn>,
    /// The name of their route; the first if nothing is said.
    #[serde(default)]
    pub(crate) route: Option<String>,
    #[serde(default)]
    pub(crate) tier: Option<String>,
    #[serde(default)]
    pub(crate) caller: Option<u64>,
    /// Theirs, if it is not that of all.
    #[serde(default)]
    pub(crate) deadline: Option<Deadline>,
}

/// A share from a time on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Turn {
    pub(crate) from: Period,
    pub(crate) share: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Surge {
    pub(crate) from: Period,
    pub(crate) until: Period,
    pub(crate) factor: f64,
    /// Whether it is only at the end that it is so high, and rises to there in a line.
    #[serde(default)]
    pub(crate) rises: bool,
}

/// Something that befalls endpoints for a time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) from: Period,
    pub(crate) until: Period,
    /// Which endpoints; empty = all.
    #[serde(default)]
    pub(crate) endpoints: Vec<usize>,
    /// On for this long, then off for as long, and so on.
    #[serde(default)]
    pub(crate) flap: Option<Period>,
    #[serde(with = "serde_yaml::with::singleton_map")]
    pub(crate) does: Does,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Does {
    /// Refuses connections.
    Refuse,
    /// Answers no connection attempt.
    Vanish,
    /// Takes requests and works on none of them.
    Hang,
    /// Breaks what is under way, forgets the queue, and refuses connections.
    Restart,
    /// Answers a share of requests at once with this status.
    Errors { status: u16, share: f64, retry_after: Option<Period> },
    /// Breaks a share of the connections.
    Resets { share: f64 },
    /// Refuses a share of the streams unprocessed.
    Streams { share: f64 },
    /// A share is answered by the overload protection of a proxy in front of it.
    Shed { share: f64 },
    /// Work takes this many times as long.
    Slow { factor: f64 },
}

/// A time in which a proxy is short of what it lives on itself, by a pressure of 0 to 1.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shortage {
    pub(crate) from: Period,
    pub(crate) until: Period,
    pub(crate) pressure: f64,
}

/// The settings are replaced again and again, each set in its turn.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reloads {
    pub(crate) every: Period,
    pub(crate) variants: Vec<Overrides>,
}

/// Shares of events at which the dice make trouble.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Buggify {
    /// An outcome or a timer is handled late, by up to `late_max`.
    pub(crate) late: f64,
    pub(crate) late_max: Period,
    /// The proxy itself refuses an attempt after its admission (connection limit, broken body).
    pub(crate) local: f64,
    /// A client's leaving is told twice.
    pub(crate) twice: f64,
}

/// What must be seen of the requests that arrive, and the attempts that are sent, in a time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    pub(crate) from: Period,
    pub(crate) until: Period,
    /// Only of the clients of this kind; load, share and what the gate shows are of all.
    pub(crate) kind: Option<String>,
    /// The share of requests that are answered well.
    pub(crate) success: Option<[f64; 2]>,
    /// Good answers a second.
    pub(crate) goodput: Option<[f64; 2]>,
    /// Attempts for each request.
    pub(crate) amplification: Option<[f64; 2]>,
    /// Attempts a second.
    pub(crate) load: Option<[f64; 2]>,
    /// The share of requests that the proxy answers itself.
    pub(crate) local: Option<[f64; 2]>,
    /// The share of requests that get no place: the bulkhead's or the limit's refusals.
    pub(crate) no_place: Option<[f64; 2]>,
    /// The limits of all proxies together, at any time.
    pub(crate) limit: Option<[f64; 2]>,
    /// The amplitude of the threshold of the first proxy: half of what is between its lowest and
    /// its highest, as a share of the levels.
    pub(crate) swing: Option<[f64; 2]>,
    /// The share of attempts that one endpoint gets.
    pub(crate) share: Option<Share>,
    /// Percentiles of the time to a good answer, in milliseconds.
    pub(crate) p95_ms: Option<[f64; 2]>,
    pub(crate) p99_ms: Option<[f64; 2]>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Share {
    pub(crate) endpoint: usize,
    pub(crate) of: [f64; 2],
}

impl Fault {
    pub(crate) fn active(&self, endpoint: usize, at: Duration) -> bool {
        self.active_until(endpoint, at).is_some()
    }

    /// When the fault ends that is active at this time.
    pub(crate) fn active_until(&self, endpoint: usize, at: Duration) -> Option<Duration> {
        if at < *self.from || at >= *self.until {
            return None;
        }
        if !self.endpoints.is_empty() && !self.endpoints.contains(&endpoint) {
            return None;
        }
        let Some(flap) = self.flap else { return Some(*self.until) };
        let turn = (at - *self.from).as_nanos() / flap.as_nanos();
        let end = *self.from + *flap * (u32::try_from(turn).unwrap_or(u32::MAX - 1) + 1);
        turn.is_multiple_of(2).then(|| end.min(*self.until))
    }
}

impl Surge {
    pub(crate) fn at(&self, now: Duration) -> Option<f64> {
        if !(*self.from..*self.until).contains(&now) {
            return None;
        }
        let part = (now - *self.from).as_secs_f64() / (*self.until - *self.from).as_secs_f64();
        Some(if self.rises { 1.0 + (self.factor - 1.0) * part } else { self.factor })
    }
}

impl Kind {
    pub(crate) fn share(&self, now: Duration) -> f64 {
        self.then.iter().rfind(|turn| *turn.from <= now).map_or(self.share, |turn| turn.share)
    }
}

impl Overrides {
    /// These with others laid over them, mapping by mapping.
    pub(crate) fn with(&self, other: &Self) -> Self {
        let mut all = self.clone();
        lay(&mut all.file, &other.file);
        lay(&mut all.route, &other.route);
        lay(&mut all.upstream, &other.upstream);
        all
    }
}

fn lay(below: &mut Mapping, above: &Mapping) {
    for (key, value) in above {
        match (below.get_mut(key), value) {
            (Some(Value::Mapping(below)), Value::Mapping(above)) => lay(below, above),
            _ => {
                below.insert(key.clone(), value.clone());
            }
        }
    }
}

impl Scenario {
    pub(crate) fn load(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/scenarios");
        let text = std::fs::read_to_string(path.join(format!("{name}.yaml"))).expect("a scenario");
        serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{name}.yaml: {error}"))
    }

    /// The same with nothing but retries: no breaker, no ejection, no limit, and a budget without
    /// end.
    pub(crate) fn without_policies(mut self) -> Self {
        let off: Overrides = serde_yaml::from_str(
            "route: { circuit_breaker: { mode: off } }\n\
             upstream:\n  ejection: { mode: off }\n  concurrency: { mode: off }\n  \
             retry_budget: { ratio: 1000%, min_per_second: 100000 }",
        )
        .expect("overrides");
        self.config = self.config.with(&off);
        self
    }

    /// The configurations: the first, and those that reloads bring.
    pub(crate) fn configurations(&self) -> Vec<Loaded> {
        let variants = self.reloads.iter().flat_map(|reloads| &reloads.variants);
        let all = [self.config.clone()].into_iter();
        all.chain(variants.map(|v| self.config.with(v))).map(|o| self.file(&o)).collect()
    }

    /// How short the proxies themselves are at a time.
    pub(crate) fn pressure(&self, now: Duration) -> f64 {
        let lasts = |shortage: &&Shortage| (*shortage.from..*shortage.until).contains(&now);
        self.shortages.iter().filter(lasts).map(|shortage| shortage.pressure).fold(0.0, f64::max)
    }

    /// The place of a route by its name; the first without one.
    pub(crate) fn route(&self, name: Option<&str>) -> usize {
        let Some(name) = name else { return 0 };
        self.routes.iter().position(|way| way.name == name).expect("a known route")
    }

    /// The mean time of work on a request of a route.
    pub(crate) fn time(&self, route: usize) -> Duration {
        *self.routes.get(route).and_then(|way| way.time).unwrap_or(self.service.time)
    }

    /// Overrides as a file of the proxy, read as the proxy reads it.
    fn file(&self, overrides: &Overrides) -> Loaded {
        let Overrides { mut file, route, upstream } = overrides.clone();
        let endpoints: Vec<String> =
            (0..self.endpoints).map(|n| format!("127.0.0.1:{}", 1000 + n)).collect();
        let upstream = with(yaml(&format!("endpoints: {endpoints:?}")), &upstream);
        let upstreams = Mapping::from_iter([("u".into(), Value::Mapping(upstream))]);
        let one = Way { name: "r".to_owned(), time: None, config: Mapping::new() };
        let ways = if self.routes.is_empty() { std::slice::from_ref(&one) } else { &self.routes };
        let routes: Vec<Value> = ways
            .iter()
            .map(|Way { name, config, .. }| {
                let base =
                    format!("{{ name: {name}, upstream: u, match: {{ path_prefix: /{name} }} }}");
                Value::Mapping(with(with(yaml(&base), &route), config))
            })
            .collect();
        lay(&mut file, &yaml("listeners: [{ name: l, bind: '127.0.0.1:1' }]"));
        file.insert("upstreams".into(), Value::Mapping(upstreams));
        file.insert("routes".into(), Value::Sequence(routes));
        let file = serde_yaml::to_string(&file).expect("YAML");
        config::read(&file, &ProcessEnvironment).unwrap_or_else(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            panic!("{file}\n{}", problems.join("\n"))
        })
    }
}

fn yaml(text: &str) -> Mapping {
    serde_yaml::from_str(text).expect("YAML")
}

fn with(mut base: Mapping, over: &Mapping) -> Mapping {
    lay(&mut base, over);
    base
}
