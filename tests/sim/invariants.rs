//! What must hold at every step, whatever happens. Each rule is reported by its number:
//!
//! 1. For every window: the retries that were paid for are at most `ratio` of the first attempts,
//!    what can be saved up, and the floor's `min_per_second * (w + 1)`.
//! 2. A half-open circuit has no more trials than its settings allow, and the outcome of an attempt
//!    that was admitted in an earlier state changes nothing.
//! 3. Nothing is lost: every pass is recorded or cancelled once, the trials that the circuit counts
//!    are those under way, and what endpoints have in flight is what requests hold.
//! 4. No attempt starts after the request's deadline, nor is given time beyond it.
//! 5. Ejection leaves an endpoint, and does not exceed its share.
//! 6. What the proxy refuses itself is no failure of the circuit or of an endpoint.
//! 7. A trial is not retried.
//! 8. A reload replaces no state.
//! 9. A wait before a retry is as the settings bound it, and ends before the deadline.
//!
//! Those of limits and their queues follow in [`places`](super::places).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger::policy::circuit_breaker::{self, LEASE_MIN, State, View};
use outrigger::policy::concurrency::{Cause, Change};
use outrigger::policy::ejection;
use outrigger::policy::outcome::Hint;
use outrigger::policy::retry::{self, Jitter};
use outrigger::policy::retry_budget::{self, Cost};
use outrigger::snapshot::circuit::{Circuit, Pass};
use outrigger::snapshot::route::{Route, Target};

/// A rule that does not hold.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) rule: u8,
    pub(crate) what: String,
}

pub(crate) type Step<T = ()> = Result<T, Broken>;

/// Fails with this rule unless the condition holds.
pub(crate) fn check(rule: u8, holds: bool, what: impl FnOnce() -> String) -> Step {
    if holds { Ok(()) } else { Err(Broken { rule, what: what() }) }
}

/// Rule 1, for all windows in one pass. Let `g` be the cost of the retries so far less what the
/// first attempts and the floor have earned so far. In the window since `s` the rule says that `g`
/// has risen by no more than could be saved at `s` and a second of the floor; so the least of
/// `g + savings` of all times past is all that has to be remembered.
#[derive(Debug)]
pub(crate) struct Budget {
    ratio: f64,
    burst: f64,
    floor: f64,
    firsts: f64,
    cost: f64,
    /// First attempts of the last second, and the most that there ever were in one.
    second: VecDeque<Duration>,
    peak: f64,
    least: f64,
}

impl Budget {
    /// Under the most generous of these settings.
    pub(crate) fn new<'a>(all: impl Iterator<Item = &'a retry_budget::Settings>) -> Self {
        let mut budget = Self {
            ratio: 0.0,
            burst: 0.0,
            floor: 0.0,
            firsts: 0.0,
            cost: 0.0,
            second: VecDeque::new(),
            peak: 0.0,
            least: 0.0,
        };
        for s in all {
            budget.ratio = budget.ratio.max(s.ratio.get());
            budget.burst = budget.burst.max(s.burst.as_secs_f64());
            budget.floor = budget.floor.max(f64::from(s.min_per_second));
        }
        budget.least = budget.savings();
        budget
    }

    fn savings(&self) -> f64 {
        (self.ratio * self.burst * self.peak).max(1.0 + self.ratio)
    }

    fn g(&self, now: Duration) -> f64 {
        self.cost - self.ratio * self.firsts - self.floor * now.as_secs_f64()
    }

    pub(crate) fn first(&mut self, now: Duration) {
        self.least = self.least.min(self.g(now) + self.savings());
        self.firsts += 1.0;
        self.second.push_back(now);
        while self.second.front().is_some_and(|at| *at + Duration::from_secs(1) < now) {
            self.second.pop_front();
        }
        self.peak = self.peak.max(self.second.len() as f64);
    }

    pub(crate) fn retry(&mut self, now: Duration, cost: Cost) -> Step {
        self.least = self.least.min(self.g(now) + self.savings());
        self.cost += if cost == Cost::Half { 0.5 } else { 1.0 };
        let (spent, may) = (self.g(now), self.least + self.floor);
        check(1, spent <= may + 1e-6, || {
            format!("retries cost {:.1} more than a window allows", spent - may)
        })
    }
}

/// Leave to send, with what is known of it here.
pub(crate) struct Ticket {
    pub(crate) pass: Pass,
    epoch: u64,
    serial: u64,
}

/// Watches one circuit from outside: its transitions, and the passes that it has given.
#[derive(Debug)]
pub(crate) struct Passes {
    /// The most trials of all settings.
    trials: u32,
    state: State,
    /// Rises with each change of state that is seen.
    epoch: u64,
    /// The trials under way of this epoch: their serial numbers and when they began.
    live: Vec<(u64, Instant)>,
    pub(crate) given: u64,
    pub(crate) recorded: u64,
    pub(crate) cancelled: u64,
}

impl Passes {
    pub(crate) fn new<'a>(all: impl Iterator<Item = &'a circuit_breaker::Settings>) -> Self {
        Self {
            trials: all.map(|s| s.trials).max().unwrap_or(1),
            state: State::Closed,
            epoch: 0,
            live: Vec::new(),
            given: 0,
            recorded: 0,
            cancelled: 0,
        }
    }

    fn entered(&mut self, state: State) {
        if state != self.state {
            self.state = state;
            self.epoch += 1;
            self.live.clear();
        }
    }

    /// After the circuit was asked and refused.
    pub(crate) fn refused(&mut self, before: &View, after: &View) -> Step {
        let changed = after.state != self.state;
        self.entered(after.state);
        check(6, changed || same_counts(before, after), || "a refusal was counted".to_owned())
    }

    /// After the circuit was asked and let an attempt pass.
    pub(crate) fn admitted(&mut self, pass: Pass, after: &View, now: Instant) -> Step<Ticket> {
        self.entered(after.state);
        self.given += 1;
        if pass.is_trial() {
            self.live.push((self.given, now));
            let under_way = self.live.iter().filter(|(_, at)| now < *at + LEASE_MIN).count();
            let all = u32::try_from(under_way).unwrap_or(u32::MAX) + after.trials_good;
            check(2, all <= self.trials, || format!("{all} trials at once"))?;
        }
        let refusing = matches!(after.state, State::Open | State::Isolated);
        check(2, !refusing, || format!("admitted while {:?}", after.state))?;
        Ok(Ticket { pass, epoch: self.epoch, serial: self.given })
    }

    pub(crate) fn is_stale(&self, ticket: &Ticket) -> bool {
        ticket.epoch != self.epoch
    }

    /// After an outcome was recorded.
    pub(crate) fn recorded(&mut self, stale: bool, serial: u64, views: [&View; 2]) -> Step {
        let [before, after] = views;
        self.recorded += 1;
        check(2, !stale || before == after, || {
            format!("a stale outcome changed {before:?} to {after:?}")
        })?;
        self.live.retain(|(live, _)| *live != serial);
        if before.state != after.state {
            self.entered(after.state);
        }
        Ok(())
    }

    /// After a pass was dropped.
    pub(crate) fn cancelled(&mut self, serial: u64, before: &View, after: &View) -> Step {
        self.cancelled += 1;
        self.live.retain(|(live, _)| *live != serial);
        let same = same_counts(before, after) && before.state == after.state;
        check(6, same, || "an attempt without an outcome was counted".to_owned())
    }

    /// The trials that the circuit counts are those under way. A lease lasts up to a second more
    /// than its length.
    pub(crate) fn conserved(&self, view: &View, lease: Duration, now: Instant) -> Step {
        let younger = |age: Duration| {
            let live = self.live.iter().filter(|(_, at)| now < *at + age).count();
            u32::try_from(live).unwrap_or(u32::MAX)
        };
        let least = younger(lease);
        let most = younger(lease + Duration::from_secs(1));
        let same_epoch = view.state == self.state && view.state == State::HalfOpen;
        let right = !same_epoch || (least..=most).contains(&view.trials_leased);
        check(3, right, || {
            format!("{} trials are counted, {least} are under way", view.trials_leased)
        })?;
        let open = self.given - self.recorded - self.cancelled;
        check(3, self.given >= self.recorded + self.cancelled, || format!("{open} passes are open"))
    }
}

impl Ticket {
    pub(crate) const fn serial(&self) -> u64 {
        self.serial
    }
}

fn same_counts(a: &View, b: &View) -> bool {
    a.totals == b.totals && a.consecutive == b.consecutive && a.trials_good == b.trials_good
}

/// Rule 5, of the one upstream. `most` is the largest share that any of the settings allows: what
/// is out when a reload lowers it stays out for its time.
pub(crate) fn ejected(s: &ejection::Settings, most: f64, target: &Target, now: Instant) -> Step {
    let set = target.upstream.state.endpoints.load();
    let all = set.endpoints.len();
    let out = set.endpoints.iter().filter(|e| e.ejected_until(now).is_some()).count();
    let most = ((most * all as f64 + 1e-9) as usize).max(1);
    check(5, out <= most && out < all.max(1), || format!("{out} of {all} are ejected"))?;
    check(5, all < 2 || ejection::may_eject(s, 0, all), || "none can be ejected".to_owned())
}

/// Rule 8: everything of a route that counts is the same object under the new settings as under the
/// old.
pub(crate) fn carried_over(old: &Route, new: &Route, views: [&View; 2]) -> Step {
    let same = |what: &str, same: bool| check(8, same, || format!("a reload replaced the {what}"));
    for (old, new) in old.targets.iter().zip(&new.targets) {
        same("circuit", Arc::ptr_eq(&old.circuit, &new.circuit))?;
        same("upstream's state", Arc::ptr_eq(&old.upstream.state, &new.upstream.state))?;
    }
    if let (Some(old), Some(running)) = (&old.limiter, &new.limiter) {
        let settings = new.settings.rate_limit.as_ref();
        let same_quota = settings.is_some_and(|settings| old.same_quota(settings));
        same("rate limiter", !same_quota || Arc::ptr_eq(old, running))?;
    }
    if let (Some(old), Some(new)) = (&old.bulkhead, &new.bulkhead) {
        same("bulkhead", Arc::ptr_eq(old, new))?;
    }
    same("counts of the circuit", views[0] == views[1])
}

/// A wait before a retry, and what it must keep to.
pub(crate) struct Wait<'a> {
    pub(crate) settings: &'a retry::Settings,
    pub(crate) attempt: u32,
    pub(crate) after: Duration,
    pub(crate) hint: Option<Hint>,
    pub(crate) remaining: Option<Duration>,
}

impl Wait<'_> {
    /// Rule 9.
    pub(crate) fn bounded(&self) -> Step {
        let s = &self.settings.backoff;
        let doubled = *s.base * 2_u32.saturating_pow(self.attempt - 1);
        let own = match s.jitter {
            Jitter::Full => Duration::ZERO..=doubled.min(*s.max),
            Jitter::Equal => doubled.min(*s.max) / 2..=doubled.min(*s.max),
            Jitter::Decorrelated => (*s.base).min(*s.max)..=*s.max,
        };
        let bounds = match self.hint.filter(|_| self.settings.retry_after.honour) {
            None => own,
            Some(Hint::Wait(asked)) => asked..=asked.min(*self.settings.retry_after.max) * 5 / 4,
            Some(Hint::Stop) => return check(9, false, || "retried against push-back".to_owned()),
        };
        let (after, remaining) = (self.after, self.remaining);
        check(9, bounds.contains(&after), || format!("waits {after:?}, not within {bounds:?}"))?;
        let fits = remaining.is_none_or(|remaining| after < remaining);
        check(9, fits, || format!("waits {after:?} of the {remaining:?} that are left"))?;
        let number = self.attempt;
        check(9, number < self.settings.max_attempts, || format!("retries attempt {number}"))
    }
}

/// What endpoints and the limit know, to be compared over something that must not change it.
#[derive(Debug, PartialEq)]
pub(crate) struct Known {
    costs: Vec<Option<f64>>,
    ejected: Vec<Option<Instant>>,
    expected: Duration,
    baseline: Option<Duration>,
    ratio: f64,
    /// The limit's last cut, and the last that was taken back. It may grow for want of room alone.
    cut: Option<(Instant, Change)>,
}

impl Known {
    pub(crate) fn of(target: &Target, now: Instant) -> Self {
        let set = target.upstream.state.endpoints.load();
        let endpoints = set.endpoints.iter();
        let gate = &target.upstream.state.gate;
        let view = gate.view(now);
        Self {
            expected: gate.expected(target.baseline),
            baseline: view.limiter.baseline,
            ratio: view.limiter.ratio,
            cut: view.changes.into_iter().rfind(|(_, change)| change.cause != Cause::Room),
            costs: endpoints.clone().map(|endpoint| endpoint.cost(now)).collect(),
            ejected: endpoints.map(|endpoint| endpoint.ejected_since(now)).collect(),
        }
    }
}

pub(crate) fn view(circuit: &Circuit, s: &circuit_breaker::Settings, now: Instant) -> View {
    circuit.view(s, now)
}
