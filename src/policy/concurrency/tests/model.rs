//! A model of an upstream behind the limiter and its queue: requests arrive at random, a fixed
//! number of workers serve them in order of arrival, and time is a number that jumps from event to
//! event.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use super::super::*;
use crate::policy::queue::{Arrival, Discipline, Entered, Leave, Next, Pace, Ticket, WaitQueue};
use crate::policy::shedding::{Line, Lot, Shedding, Standing};

/// How many tiers of importance there are.
const TIERS: usize = 4;

/// A seeded generator of numbers in `[0, 1)` (xorshift64*).
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// An exponential time of this mean.
    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        -(1.0 - self.unit()).ln() * mean
    }
}

/// What a request asks of the upstream. Times are in seconds.
#[derive(Clone, Copy)]
pub(super) struct Work {
    pub(super) route: usize,
    pub(super) service: f64,
    /// The upstream says at once that it has too much to do.
    pub(super) refused: bool,
    pub(super) tier: usize,
    /// Whose it is: the heaviest caller is served last. Without one, anyone's.
    pub(super) caller: Option<u64>,
}

impl Work {
    pub(super) fn of(service: f64) -> Self {
        Self { route: 0, service, refused: false, tier: 1, caller: None }
    }
}

type Load<'a> = Box<dyn Fn(f64) -> f64 + 'a>;
type Draw<'a> = Box<dyn Fn(f64, &mut Rng) -> Work + 'a>;

/// A story of an upstream and its load.
pub(super) struct Scenario<'a> {
    pub(super) seed: u64,
    pub(super) slots: usize,
    /// Requests a second at a time.
    pub(super) rate: Load<'a>,
    /// The work of a request that is sent at a time.
    pub(super) work: Draw<'a>,
    pub(super) deadline: f64,
    /// Between these times the upstream stands still.
    pub(super) stall: (f64, f64),
    pub(super) length: f64,
    /// Nothing stands in front of the upstream if there is none.
    pub(super) settings: Option<Settings>,
}

impl<'a> Scenario<'a> {
    pub(super) fn new(slots: usize, service: f64) -> Self {
        Self {
            seed: 1,
            slots,
            rate: Box::new(|_| 1.0),
            work: Box::new(move |_, _| Work::of(service)),
            deadline: service * 20.0,
            stall: (0.0, 0.0),
            length: 10.0,
            settings: Some(Settings::default()),
        }
    }

    pub(super) fn rate(mut self, rate: impl Fn(f64) -> f64 + 'a) -> Self {
        self.rate = Box::new(rate);
        self
    }

    pub(super) fn work(mut self, work: impl Fn(f64, &mut Rng) -> Work + 'a) -> Self {
        self.work = Box::new(work);
        self
    }

    pub(super) fn lasting(mut self, length: f64) -> Self {
        self.length = length;
        self
    }

    pub(super) fn run(&self) -> Report {
        World::new(self).run()
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Good,
    /// It was too late, or the upstream refused it.
    Bad,
    /// The queue was full, or it waited too long, or its deadline could not be met.
    Rejected,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) arrived: f64,
    pub(super) ended: f64,
    pub(super) fate: Fate,
    pub(super) tier: usize,
    pub(super) caller: Option<u64>,
}

/// What happened.
#[derive(Default)]
pub(super) struct Report {
    pub(super) ends: Vec<Ended>,
    /// The time and the limit, at each change.
    pub(super) limits: Vec<(f64, u32)>,
}

impl Report {
    /// Good answers a second between two times.
    pub(super) fn goodput(&self, from: f64, to: f64) -> f64 {
        let good = self.ends.iter().filter(|end| end.fate == Fate::Good);
        good.filter(|end| end.ended >= from && end.ended < to).count() as f64 / (to - from)
    }

    /// How many requests that arrived between two times ended so.
    pub(super) fn count(&self, fate: Fate, from: f64, to: f64) -> usize {
        let ends = self.ends.iter().filter(|end| end.arrived >= from && end.arrived < to);
        ends.filter(|end| end.fate == fate).count()
    }

    /// The share of some requests, of those that arrived between two times, with good answers.
    pub(super) fn share(&self, of: impl Fn(&Ended) -> bool, from: f64, to: f64) -> f64 {
        let ends = self.ends.iter().filter(|end| end.arrived >= from && end.arrived < to);
        let some: Vec<_> = ends.filter(|end| of(end)).collect();
        let good = some.iter().filter(|end| end.fate == Fate::Good).count();
        good as f64 / some.len().max(1) as f64
    }

    /// A quantile of the latency of good answers between two times, in seconds.
    pub(super) fn quantile(&self, q: f64, from: f64, to: f64) -> f64 {
        let good = self.ends.iter().filter(|end| end.fate == Fate::Good);
        let within = good.filter(|end| end.ended >= from && end.ended < to);
        let mut times: Vec<f64> = within.map(|end| end.ended - end.arrived).collect();
        times.sort_unstable_by(f64::total_cmp);
        times.get((times.len() as f64 * q) as usize).copied().unwrap_or(0.0)
    }

    /// The share of the capacity that good answers made use of.
    pub(super) fn used(&self, capacity: f64, from: f64, to: f64) -> f64 {
        self.goodput(from, to) / capacity
    }

    /// The limit at a time, as of the last change that was decided on an answer.
    pub(super) fn limit(&self, at: f64) -> u32 {
        let before = self.limits.iter().rev().find(|(time, _)| *time <= at);
        before.map_or(0, |(_, limit)| *limit)
    }
}

/// When, in which order of those at one time, and what.
type Due = (u64, u64, Event);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive,
    /// A worker is done with a request.
    Done(usize),
    /// A request's wait is over.
    Leave(usize),
    /// A request's deadline.
    Deadline(usize),
}

struct Request {
    arrived: f64,
    work: Work,
    attempt: Option<(Attempt, f64)>,
    ticket: Option<Ticket>,
    why: Leave,
    ended: bool,
}

struct World<'a> {
    scenario: &'a Scenario<'a>,
    rng: Rng,
    /// Apart, so that the load is the same whoever draws lots.
    lots: Rng,
    start: Instant,
    now: u64,
    events: BinaryHeap<Reverse<Due>>,
    sequence: u64,
    requests: Vec<Request>,
    /// Who waits, by the index of the ticket.
    waiting: Vec<usize>,
    backlog: VecDeque<usize>,
    busy: usize,
    limiter: Limiter,
    queue: WaitQueue,
    shedding: Shedding,
    routes: Vec<RouteSlot>,
    report: Report,
}

impl<'a> World<'a> {
    #[expect(clippy::disallowed_methods, reason = "the fixed point that time is counted from")]
    fn new(scenario: &'a Scenario<'a>) -> Self {
        let start = Instant::now();
        let settings = scenario.settings.clone().unwrap_or_default();
        let mut limiter = Limiter::new(&settings, start);
        let routes = (0..8).map(|key| limiter.route(key)).collect();
        let mut report = Report::default();
        report.limits.push((0.0, limiter.limit(&settings)));
        Self {
            scenario,
            rng: Rng::new(scenario.seed),
            lots: Rng::new(!scenario.seed),
            start,
            now: 0,
            events: BinaryHeap::new(),
            sequence: 0,
            requests: Vec::new(),
            waiting: Vec::new(),
            backlog: VecDeque::new(),
            busy: 0,
            limiter,
            queue: WaitQueue::new(start),
            shedding: Shedding::new(start),
            routes,
            report,
        }
    }

    fn at(&mut self, nanos: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((nanos, self.sequence, event)));
    }

    fn after(&mut self, seconds: f64, event: Event) {
        self.at(self.now + (seconds * 1e9) as u64, event);
    }

    fn seconds(&self) -> f64 {
        self.now as f64 / 1e9
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_nanos(self.now)
    }

    fn pace(&self, settings: &Settings) -> Pace {
        Pace {
            limit: self.limiter.limit(settings),
            latency: self.limiter.baseline().unwrap_or_default(),
        }
    }

    fn run(mut self) -> Report {
        self.after(0.0, Event::Arrive);
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            self.now = at;
            match event {
                Event::Arrive => self.arrive(),
                Event::Done(id) => self.done(id),
                Event::Leave(id) => self.leave(id),
                Event::Deadline(id) => self.deadline(id),
            }
        }
        self.report
    }

    fn arrive(&mut self) {
        let now = self.seconds();
        if now >= self.scenario.length {
            return;
        }
        let gap = self.rng.exponential(1.0 / (self.scenario.rate)(now));
        self.after(gap, Event::Arrive);
        let work = (self.scenario.work)(now, &mut self.rng);
        let id = self.requests.len();
        let request = Request {
            arrived: now,
            work,
            attempt: None,
            ticket: None,
            why: Leave::Waited,
            ended: false,
        };
        self.requests.push(request);
        self.after(self.scenario.deadline, Event::Deadline(id));
        let Some(settings) = &self.scenario.settings else { return self.send(id) };
        if self.queue.is_empty() && self.limiter.try_acquire(settings, self.instant()) {
            self.shedding.passed();
            return self.send(id);
        }
        let lot = work.caller.map_or_else(|| Lot::Drawn(self.draw()), Lot::Caller);
        let level = self.shedding.level(Standing { tier: work.tier, lot });
        let pace = self.pace(settings);
        let line = Line { waiting: self.queue.len(), limit: pace.limit };
        let priority = settings.queue.discipline == Discipline::Priority;
        if priority && !self.shedding.admit(level, TIERS, line, self.instant()) {
            self.queue.note_refused(level, pace, self.instant());
            return self.end(id, Fate::Rejected);
        }
        let arrival = Arrival {
            level,
            deadline: Some(self.instant() + Duration::from_secs_f64(self.scenario.deadline)),
            expected: self
                .routes
                .get(work.route)
                .and_then(|r| self.limiter.expected(*r))
                .unwrap_or_default(),
            admitted: false,
        };
        match self.queue.enter(&settings.queue, pace, arrival, self.instant()) {
            Entered::Waiting { ticket, until, why, displaced } => {
                if let Some(displaced) = displaced {
                    self.shedding.refused();
                    self.end(self.waiting[displaced.index()], Fate::Rejected);
                }
                self.waiting.resize(self.waiting.len().max(ticket.index() + 1), 0);
                self.waiting[ticket.index()] = id;
                self.requests[id].ticket = Some(ticket);
                self.requests[id].why = why;
                let until = until.saturating_duration_since(self.start).as_nanos() as u64;
                self.at(until, Event::Leave(id));
            }
            Entered::Full => {
                self.shedding.refused();
                self.end(id, Fate::Rejected);
            }
            Entered::Hopeless => self.end(id, Fate::Rejected),
        }
    }

    fn draw(&mut self) -> u64 {
        (self.lots.unit() * (1u64 << 53) as f64) as u64
    }

    fn send(&mut self, id: usize) {
        let now = self.seconds();
        if let Some(settings) = &self.scenario.settings {
            self.requests[id].attempt = Some((self.limiter.start(settings), now));
        }
        let work = self.requests[id].work;
        if work.refused {
            return self.after(0.000_1, Event::Done(id));
        }
        if self.busy < self.scenario.slots {
            self.busy += 1;
            self.work(id);
        } else {
            self.backlog.push_back(id);
        }
    }

    /// A worker begins.
    fn work(&mut self, id: usize) {
        let (now, service) = (self.seconds(), self.requests[id].work.service);
        let (from, to) = self.scenario.stall;
        // What is under way when the upstream stops goes on afterwards.
        let stalled = if now < to && now + service > from { to - now.max(from) } else { 0.0 };
        self.after(service + stalled, Event::Done(id));
    }

    fn done(&mut self, id: usize) {
        let work = self.requests[id].work;
        if !work.refused {
            self.busy -= 1;
            if let Some(next) = self.backlog.pop_front() {
                self.busy += 1;
                self.work(next);
            }
        }
        if self.requests[id].ended {
            return;
        }
        let took = self.requests[id].attempt.map_or(0.0, |(_, sent)| self.seconds() - sent);
        let answered = Sample::Answered(Duration::from_secs_f64(took));
        self.learn(id, if work.refused { Sample::Dropped } else { answered });
        self.end(id, if work.refused { Fate::Bad } else { Fate::Good });
        self.serve();
    }

    /// Records an attempt and gives its place back.
    fn learn(&mut self, id: usize, sample: Sample) {
        let Some(settings) = &self.scenario.settings else { return };
        let Some((attempt, _)) = self.requests[id].attempt else { return };
        self.limiter.release();
        let (route, now) = (self.routes[self.requests[id].work.route], self.instant());
        if let Some(change) = self.limiter.record(settings, attempt, route, sample, now) {
            assert_ne!(change.from, change.to);
            self.report.limits.push((self.seconds(), change.to));
        }
    }

    /// Lets waiting requests through while there is room.
    fn serve(&mut self) {
        let Some(settings) = &self.scenario.settings else { return };
        let now = self.instant();
        while !self.queue.is_empty() && self.limiter.try_acquire(settings, now) {
            let pace = self.pace(settings);
            match self.queue.next(&settings.queue, pace, now) {
                Some(Next::Serve(ticket)) => {
                    let id = self.waiting[ticket.index()];
                    self.requests[id].ticket = None;
                    self.send(id);
                }
                Some(Next::Hopeless(ticket)) => {
                    self.limiter.release();
                    self.end(self.waiting[ticket.index()], Fate::Rejected);
                }
                None => self.limiter.release(),
            }
        }
    }

    fn leave(&mut self, id: usize) {
        let (Some(settings), Some(ticket)) = (&self.scenario.settings, self.requests[id].ticket)
        else {
            return;
        };
        let (why, pace, now) = (self.requests[id].why, self.pace(settings), self.instant());
        if !self.requests[id].ended && self.queue.expire(ticket, why, pace, now) {
            if why == Leave::Waited {
                self.shedding.refused();
            }
            self.end(id, Fate::Rejected);
        }
    }

    /// The client's time is over; the upstream, which does not know, works on.
    fn deadline(&mut self, id: usize) {
        if self.requests[id].ended {
            return;
        }
        self.leave(id);
        if !self.requests[id].ended {
            self.learn(id, Sample::Dropped);
            self.end(id, Fate::Bad);
            self.serve();
        }
    }

    fn end(&mut self, id: usize, fate: Fate) {
        let ended = self.seconds();
        let request = &mut self.requests[id];
        request.ended = true;
        let (arrived, Work { tier, caller, .. }) = (request.arrived, request.work);
        self.report.ends.push(Ended { arrived, ended, fate, tier, caller });
        if let (Some(caller), Fate::Good) = (caller, fate) {
            let standing = Standing { tier, lot: Lot::Caller(caller) };
            let busy = Duration::from_secs_f64(request.work.service);
            let now = self.start + Duration::from_nanos(self.now);
            self.shedding.used(standing, busy, now);
        }
    }
}
