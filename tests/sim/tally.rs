//! What clients and upstream have seen, second by second, and whether it is what was expected.

use std::time::Duration;

use super::scenario::{Expect, Scenario};

/// What was seen of the requests of one kind that came in one second.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    arrived: u32,
    good: u32,
    bad: u32,
    /// Answered by the proxy itself; part of `bad`.
    local: u32,
    /// Refused a place; part of `local`.
    no_place: u32,
    left: u32,
    /// Times to a good answer.
    times: Vec<Duration>,
}

/// What was seen of the requests that came in one second, by kind, of the attempts sent in it, by
/// endpoint, and of the gates.
#[derive(Clone, Debug, Default, PartialEq)]
struct Second {
    kinds: Vec<Seen>,
    attempts: Vec<u32>,
    gates: Vec<Gauge>,
}

/// A request as the tally knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) born: Duration,
    pub(crate) kind: usize,
}

/// What an operator sees of the gates at some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gauge {
    /// The limits of all proxies together.
    pub(crate) limit: u32,
    /// The threshold of the first proxy, counted in levels from the bottom.
    pub(crate) threshold: usize,
}

/// Why the proxy itself answered, as far as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The last attempt brought nothing.
    Upstream,
    /// There was no place.
    NoPlace,
    /// Another policy.
    Other,
}

/// A run, second by second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    seconds: Vec<Second>,
    /// The names of the kinds.
    kinds: Vec<String>,
    /// The time after which an answer is none.
    within: Option<Duration>,
    pub(crate) steps: u64,
}

/// The sums of a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) arrived: f64,
    pub(crate) good: f64,
    pub(crate) bad: f64,
    pub(crate) local: f64,
    pub(crate) no_place: f64,
    pub(crate) attempts: Vec<f64>,
    times: Vec<Duration>,
    gates: Vec<Gauge>,
}

impl Sums {
    /// The share of the requests that were waited for and answered well.
    pub(crate) fn success(&self) -> f64 {
        self.good / (self.good + self.bad)
    }

    pub(crate) fn amplification(&self) -> f64 {
        self.attempts.iter().sum::<f64>() / self.arrived
    }

    /// A percentile of the times to a good answer, in milliseconds.
    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        let at = (self.times.len() * percent / 100).min(self.times.len().saturating_sub(1));
        self.times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }

    fn limits(&self) -> [f64; 2] {
        let limits = self.gates.iter().map(|gauge| f64::from(gauge.limit));
        limits.fold([f64::INFINITY, 0.0], |[least, most], at| [least.min(at), most.max(at)])
    }

    /// How far the threshold went from the middle of where it was, as a share of so many levels.
    fn swing(&self, levels: usize) -> f64 {
        let heights = self.gates.iter().map(|gauge| gauge.threshold);
        let most = heights.clone().max().unwrap_or_default();
        (most - heights.min().unwrap_or_default()) as f64 / 2.0 / levels as f64
    }
}

/// So many levels there are under the default tiers.
const LEVELS: usize = 4 * outrigger::policy::priority::COHORTS;

impl Tally {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let kinds: Vec<String> =
            scenario.clients.kinds.iter().map(|kind| kind.name.clone()).collect();
        let second = Second {
            kinds: vec![Seen::default(); kinds.len().max(1)],
            attempts: vec![0; scenario.endpoints],
            gates: Vec::new(),
        };
        // What is under way at the end is answered later.
        let length = usize::try_from(scenario.length.as_secs()).expect("a length") + 120;
        let within = scenario.clients.deadline.map(|deadline| *deadline.within);
        Self { seconds: vec![second; length], kinds, within, steps: 0 }
    }

    fn at(&mut self, time: Duration) -> &mut Second {
        let last = self.seconds.len() - 1;
        &mut self.seconds[usize::try_from(time.as_secs()).unwrap_or(last).min(last)]
    }

    fn of(&mut self, who: Who) -> &mut Seen {
        &mut self.at(who.born).kinds[who.kind]
    }

    pub(crate) fn arrived(&mut self, who: Who) {
        self.of(who).arrived += 1;
    }

    pub(crate) fn answered(&mut self, who: Who, now: Duration, good: bool) {
        let time = now - who.born;
        let good = good && self.within.is_none_or(|within| time <= within);
        let seen = self.of(who);
        if good {
            seen.good += 1;
            seen.times.push(time);
        } else {
            seen.bad += 1;
        }
    }

    pub(crate) fn refused(&mut self, who: Who, why: Refused) {
        let seen = self.of(who);
        seen.bad += 1;
        seen.local += u32::from(why != Refused::Upstream);
        seen.no_place += u32::from(why == Refused::NoPlace);
    }

    pub(crate) fn left(&mut self, who: Who) {
        self.of(who).left += 1;
    }

    pub(crate) fn attempt(&mut self, now: Duration, endpoint: usize) {
        self.at(now).attempts[endpoint] += 1;
    }

    pub(crate) fn gauge(&mut self, now: Duration, gauge: Gauge) {
        self.at(now).gates.push(gauge);
    }

    pub(crate) fn sums(&self, from: Duration, until: Duration) -> Sums {
        self.sums_of(from, until, None)
    }

    fn sums_of(&self, from: Duration, until: Duration, kind: Option<usize>) -> Sums {
        let place = |time: Duration| usize::try_from(time.as_secs()).expect("a time");
        let mut sums = Sums::default();
        for second in &self.seconds[place(from)..place(until)] {
            let kinds = kind.map_or(&*second.kinds, |kind| &second.kinds[kind..=kind]);
            for seen in kinds {
                sums.arrived += f64::from(seen.arrived);
                sums.good += f64::from(seen.good);
                sums.bad += f64::from(seen.bad);
                sums.local += f64::from(seen.local);
                sums.no_place += f64::from(seen.no_place);
                sums.times.extend(&seen.times);
            }
            sums.attempts.resize(second.attempts.len(), 0.0);
            for (sum, attempts) in sums.attempts.iter_mut().zip(&second.attempts) {
                *sum += f64::from(*attempts);
            }
            sums.gates.extend(&second.gates);
        }
        sums.times.sort_unstable();
        sums
    }

    fn kind(&self, name: &str) -> usize {
        self.kinds.iter().position(|kind| kind == name).expect("a known kind")
    }

    /// What is not as expected, a line each.
    pub(crate) fn judge(&self, expected: &[Expect]) -> Vec<String> {
        let mut wrong = Vec::new();
        for expect in expected {
            let kind = expect.kind.as_deref();
            let sums = self.sums_of(*expect.from, *expect.until, kind.map(|kind| self.kind(kind)));
            let of = kind.map(|kind| format!(" of {kind}")).unwrap_or_default();
            let span = format!("{} to {}", expect.from, expect.until);
            let mut within = |what: &str, seen: f64, range: Option<[f64; 2]>| {
                if let Some([least, most]) = range
                    && !(least..=most).contains(&seen)
                {
                    wrong.push(format!("{span}: {what}{of} is {seen:.4}, not {least} to {most}"));
                }
            };
            let seconds = (*expect.until - *expect.from).as_secs_f64();
            let attempts: f64 = sums.attempts.iter().sum();
            let ended = sums.good + sums.bad;
            within("success", sums.success(), expect.success);
            within("goodput", sums.good / seconds, expect.goodput);
            within("amplification", sums.amplification(), expect.amplification);
            within("load", attempts / seconds, expect.load);
            within("local", sums.local / ended, expect.local);
            within("no_place", sums.no_place / ended, expect.no_place);
            if let Some(share) = &expect.share {
                let of = sums.attempts[share.endpoint] / attempts.max(1.0);
                within(&format!("share of endpoint {}", share.endpoint), of, Some(share.of));
            }
            within("p95_ms", sums.percentile_ms(95), expect.p95_ms);
            within("p99_ms", sums.percentile_ms(99), expect.p99_ms);
            sums.limits().into_iter().for_each(|limit| within("limit", limit, expect.limit));
            within("swing", sums.swing(LEVELS), expect.swing);
        }
        wrong
    }

    /// A table for whoever looks for the cause, one line for each `step` seconds.
    pub(crate) fn table(&self, length: Duration, step: u64) -> String {
        let mut lines = String::from(
            "second  arrived  good  bad  local no_place  p50  p99      limits  heights  attempts\n",
        );
        let end = length.as_secs();
        for from in (0..end).step_by(usize::try_from(step).unwrap_or(1)) {
            let span = [from, (from + step).min(end)].map(Duration::from_secs);
            let sums = self.sums(span[0], span[1]);
            let heights = sums.gates.iter().map(|gauge| gauge.threshold);
            let heights = (heights.clone().min(), heights.max());
            let all = if sums.attempts.len() > 4 { &sums.attempts[..4] } else { &sums.attempts };
            lines += &format!(
                "{from:>6} {:>8} {:>5} {:>4} {:>6} {:>8} {:>4.0} {:>4.0} {:>11?} {:>8} {all:?}",
                sums.arrived,
                sums.good,
                sums.bad,
                sums.local,
                sums.no_place,
                sums.percentile_ms(50),
                sums.percentile_ms(99),
                sums.limits(),
                format!("{}-{}", heights.0.unwrap_or_default(), heights.1.unwrap_or_default()),
            );
            for (kind, name) in self.kinds.iter().enumerate() {
                let sums = self.sums_of(span[0], span[1], Some(kind));
                lines += &format!("  {name} {}/{}", sums.good, sums.arrived);
            }
            lines.push('\n');
        }
        lines
    }
}
