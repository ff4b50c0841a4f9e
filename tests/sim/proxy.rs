//! The way of a request through the proxy, step by step in virtual time.
//!
//! The circuits, upstreams, endpoints, budgets, limiters and reloads are the proxy's own; what is
//! done here again is the order in which `proxy::pipeline` and `proxy::attempt` ask them, with each
//! await turned into an event. Who changes that order there has to change it here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger::policy::Mode;
use outrigger::policy::circuit_breaker::{Settings as BreakerSettings, Verdict};
use outrigger::policy::outcome::{End, Outcome};
use outrigger::policy::protection;
use outrigger::policy::rate_limit;
use outrigger::policy::retry::{self, Condition, Decision};
use outrigger::policy::retry_budget::Cost;
use outrigger::policy::timeout;
use outrigger::snapshot::circuit::Admission;
use outrigger::snapshot::route::{Route, Target};
use outrigger::upstream::Upstream;
use outrigger::upstream::endpoint::{Endpoint, InFlight};

use super::events::Event;
use super::gates::Places;
use super::invariants::{Known, Step, Ticket, Wait, check, view};
use super::model::{self, Sent};
use super::tally::{Refused, Who};
use super::world::{Mutation, World};

/// A request on its way.
pub(crate) struct Request {
    pub(crate) who: Who,
    /// Which proxy it is at, and which of its routes it follows.
    pub(crate) sidecar: usize,
    pub(crate) way: usize,
    pub(crate) route: Arc<Route>,
    /// Its tier, 0 being the highest, and whose it is.
    pub(crate) tier: usize,
    pub(crate) caller: Option<u64>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) safe: bool,
    pub(crate) inbound: u32,
    pub(crate) attempts: u32,
    pub(crate) places: Places,
    /// When it had its places.
    pub(crate) since: Instant,
    tried: Vec<u64>,
    so_far: SoFar,
    flight: Option<Flight>,
    /// The answer whose body is under way to the client.
    passing_on: Option<Answer>,
    had_trial: bool,
    /// Whether it is past the rate limit and has paid into the budget.
    deposited: bool,
}

#[derive(Default)]
struct SoFar {
    answer: Option<Answer>,
    waited: Duration,
    shed: bool,
}

struct Answer {
    status: u16,
    in_flight: InFlight,
}

/// An attempt that goes on.
struct Flight {
    upstream: Arc<Upstream>,
    in_flight: InFlight,
    ticket: Ticket,
    began: Instant,
    end: Option<Instant>,
    sent: Sent,
}

struct Tried {
    outcome: Outcome,
    trial: bool,
    answer: Option<Answer>,
}

/// Why the proxy itself answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The proxy's own protection.
    Short,
    RateLimited,
    Deadline,
    CircuitOpen,
    NoEndpoint,
    /// The connection limit, or a request body that broke off.
    Ours,
    /// A bulkhead or a limit.
    NoPlace,
    /// The last attempt brought no answer.
    Failed,
}

/// A request as it comes.
pub(crate) struct Coming {
    pub(crate) who: Who,
    pub(crate) sidecar: usize,
    pub(crate) safe: bool,
    pub(crate) inbound: u32,
}

impl Request {
    pub(crate) fn new(world: &World<'_>, coming: Coming) -> Self {
        let Coming { who, sidecar, safe, inbound } = coming;
        let clients = &world.scenario.clients;
        let kind = clients.kinds.get(who.kind);
        let way = world.scenario.route(kind.and_then(|kind| kind.route.as_deref()));
        let route = Arc::clone(&world.sidecars[sidecar].snapshot.routes[way]);
        let own = kind.and_then(|kind| kind.deadline);
        let told =
            own.or(clients.deadline).filter(|deadline| deadline.told).map(|told| *told.within);
        let deadline = timeout::deadline(&route.settings.timeouts, world.instant(), told);
        let said = kind.and_then(|kind| kind.tier.as_deref());
        let tier = world.sidecars[sidecar].tier(&route, said);
        Self {
            who,
            sidecar,
            way,
            tier,
            caller: kind.and_then(|kind| kind.caller),
            route,
            deadline,
            safe,
            inbound,
            attempts: 0,
            places: Places::default(),
            since: world.instant(),
            tried: Vec::new(),
            so_far: SoFar::default(),
            flight: None,
            passing_on: None,
            had_trial: false,
            deposited: false,
        }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.route.targets[0]
    }

    /// The endpoints at which it is counted in flight.
    pub(crate) fn holds(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        let flight = self.flight.as_ref().map(|flight| &flight.in_flight);
        let answers = [&self.so_far.answer, &self.passing_on].into_iter().flatten();
        flight.into_iter().chain(answers.map(|answer| &answer.in_flight)).map(InFlight::endpoint)
    }
}

impl World<'_> {
    /// A request has come: `admission::rate_limit`.
    pub(crate) fn admit(&mut self, id: usize, request: Request) -> Step {
        let route = Arc::clone(&request.route);
        let pressure = self.scenario.pressure(self.now);
        let short = protection::refuses(pressure, request.tier, route.importance.tiers());
        if short && !self.is(Mutation::ProtectLast) {
            return self.refuse(id, request, Refusal::Short);
        }
        if let (Some(limiter), Some(settings)) = (&route.limiter, &route.settings.rate_limit) {
            let known = Known::of(request.target(), self.instant());
            let verdict = limiter.check(settings, None);
            let now = self.instant();
            match verdict {
                rate_limit::Verdict::Pass { .. } => {}
                _ if settings.mode == Mode::Observe => {}
                rate_limit::Verdict::Wait(wait)
                    if request.deadline.is_none_or(|deadline| now + wait < deadline) =>
                {
                    self.later(wait, Event::Go(id));
                    self.requests.insert(id, request);
                    return Ok(());
                }
                _ => {
                    let same = known == Known::of(request.target(), now);
                    check(6, same, || "a rate limit was blamed on an endpoint".to_owned())?;
                    return self.refuse(id, request, Refusal::RateLimited);
                }
            }
        }
        if short {
            return self.refuse(id, request, Refusal::Short);
        }
        self.enter(id, request)
    }

    /// A wait is over: the rate limit's or one before a retry.
    pub(crate) fn go_on(&mut self, id: usize, request: Request) -> Step {
        if request.places.entered { self.proceed(id, request) } else { self.enter(id, request) }
    }

    /// `pipeline::attempts`, from the top of its loop.
    pub(crate) fn proceed(&mut self, id: usize, mut request: Request) -> Step {
        if !std::mem::replace(&mut request.deposited, true) {
            request.target().upstream.deposit(self.instant());
            self.sidecars[request.sidecar].budget.first(self.now);
        }
        match self.start(id, &mut request)? {
            Ok(flight) => {
                let end = flight.end.map_or(flight.sent.at, |end| {
                    flight.sent.at.min(end.saturating_duration_since(self.zero))
                });
                let number = request.attempts;
                self.later(end - self.now, Event::Ended { request: id, attempt: number });
                request.flight = Some(flight);
                self.requests.insert(id, request);
                Ok(())
            }
            Err(refusal) => self.finish(id, request, Err(refusal)),
        }
    }

    /// `attempt::run`, up to the send.
    fn start(&mut self, id: usize, request: &mut Request) -> Step<Result<Flight, Refusal>> {
        let route = Arc::clone(&request.route);
        let target = &route.targets[0];
        let now = self.instant();
        let timeouts = &route.settings.timeouts;
        let end = timeout::try_deadline(timeouts, route.max_attempts, now, request.deadline);
        let remaining = timeout::remaining(now, end, request.deadline);
        if remaining.is_some_and(|remaining| remaining.is_zero()) && !self.is(Mutation::LateStart) {
            return Ok(Err(Refusal::Deadline));
        }
        let breaker = &route.settings.circuit_breaker;
        let before = view(&target.circuit, breaker, now);
        let known = Known::of(target, now);
        let pass = match target.circuit.admit(breaker, now, fastrand::f64()) {
            Admission::Pass(pass) | Admission::WouldRefuse(pass) => pass,
            Admission::Refuse(_) => {
                self.sidecars[request.sidecar].passes[request.way]
                    .refused(&before, &view(&target.circuit, breaker, now))?;
                let same = known == Known::of(target, now);
                check(6, same, || "an open circuit was blamed on an endpoint".to_owned())?;
                return Ok(Err(Refusal::CircuitOpen));
            }
        };
        let ticket = self.sidecars[request.sidecar].passes[request.way].admitted(
            pass,
            &view(&target.circuit, breaker, now),
            now,
        )?;
        let upstream = &target.upstream;
        let tried: &[u64] = if route.settings.retry.other_endpoint { &request.tried } else { &[] };
        let Some(endpoint) = upstream.choose(tried, None, now) else {
            self.give_back(ticket, request)?;
            return Ok(Err(Refusal::NoEndpoint));
        };
        request.tried.push(endpoint.id);
        request.attempts += 1;
        check(7, !request.had_trial, || format!("request {id} goes on after a trial"))?;
        let late = request.deadline.is_some_and(|deadline| now >= deadline || end > Some(deadline));
        check(4, !late, || format!("request {id} starts after its deadline"))?;
        let (places, due) = (request.places.of_limit(), usize::from(request.places.limited));
        check(12, places == due, || format!("request {id} has {places} places, not {due}"))?;
        let in_flight = endpoint.enter();
        let index = self.index_of(&endpoint);
        let connect_by = timeout::connect_deadline(timeouts, now, end);
        let connect_by = connect_by.saturating_duration_since(self.zero);
        let send = model::Send { endpoint: index, route: request.way, now: self.now, connect_by };
        let sent = self.model.send(self.scenario, send, &mut self.rng);
        self.tally.attempt(self.now, index);
        let upstream = Arc::clone(upstream);
        Ok(Ok(Flight { upstream, in_flight, ticket, began: now, end, sent }))
    }

    /// The attempt of this number has ended, or its time has.
    pub(crate) fn ended(&mut self, id: usize, mut request: Request, number: u32) -> Step {
        let flight = match request.flight.take() {
            Some(flight) if request.attempts == number => flight,
            other => {
                request.flight = other;
                self.requests.insert(id, request);
                return Ok(());
            }
        };
        let tried = match self.settle(&mut request, flight)? {
            Ok(tried) => tried,
            Err(refusal) => return self.finish(id, request, Err(refusal)),
        };
        request.had_trial |= tried.trial;
        let Some(wait) = self.again(&mut request, &tried)? else {
            let answer = tried.answer.or_else(|| request.so_far.answer.take());
            return self.finish(id, request, answer.ok_or(Refusal::Failed));
        };
        if let Some(answer) = tried.answer {
            request.so_far.answer = Some(answer);
        }
        self.again_under(&mut request);
        request.so_far.waited = wait;
        if wait.is_zero() {
            return self.proceed(id, request);
        }
        self.later(wait, Event::Go(id));
        self.requests.insert(id, request);
        Ok(())
    }

    /// `attempt::classify` and `attempt::settle`.
    fn settle(&mut self, request: &mut Request, flight: Flight) -> Step<Result<Tried, Refusal>> {
        let now = self.instant();
        let Flight { upstream, in_flight, ticket, began, sent, .. } = flight;
        if self.rng.f64() < self.scenario.buggify.local {
            let known = Known::of(request.target(), now);
            self.give_back(ticket, request)?;
            drop(in_flight);
            let same = known == Known::of(request.target(), now);
            check(6, same, || "the proxy's own refusal was blamed on an endpoint".to_owned())?;
            self.blame_limit(request);
            return Ok(Err(Refusal::Ours));
        }
        // The send is looked at before its timer, so an answer that came too late but is there when
        // the worker gets to it is still an answer.
        let arrived = sent.at <= self.now;
        let end = match sent.end {
            end if arrived => end,
            _ if flight.end == request.deadline => End::DeadlineExceeded,
            _ => End::PerTryTimeout,
        };
        let outcome = Outcome {
            end,
            unsent: sent.unsent && arrived,
            latency: now.saturating_duration_since(began),
            hint: sent.hint.filter(|_| arrived),
            peer_shed: sent.shed && arrived,
        };
        self.learn(request, &outcome);
        let failure = endpoint_failure(&outcome);
        let endpoint = Arc::clone(in_flight.endpoint());
        upstream.learn(&endpoint, &outcome, failure, now);
        if failure && self.is(Mutation::EjectAll) {
            endpoint.eject(&upstream.settings, now, 0.5);
        }
        let trial = ticket.pass.is_trial();
        let breaker = &request.route.settings.circuit_breaker;
        self.record(ticket, request, breaker, verdict(breaker, &outcome))?;
        let answer = outcome.status().map(|status| Answer { status, in_flight });
        Ok(Ok(Tried { outcome, trial, answer }))
    }

    fn record(&mut self, ticket: Ticket, of: &Request, s: &BreakerSettings, v: Verdict) -> Step {
        let (circuit, now) = (&of.target().circuit, self.instant());
        let (stale, serial) =
            (self.sidecars[of.sidecar].passes[of.way].is_stale(&ticket), ticket.serial());
        let before = view(circuit, s, now);
        ticket.pass.record(s, v, now, fastrand::f64());
        if stale && self.is(Mutation::StaleMoves) {
            circuit.close();
        }
        self.sidecars[of.sidecar].passes[of.way].recorded(
            stale,
            serial,
            [&before, &view(circuit, s, now)],
        )
    }

    /// Drops a pass without an outcome.
    fn give_back(&mut self, ticket: Ticket, request: &Request) -> Step {
        let (circuit, now) = (&request.target().circuit, self.instant());
        let settings = &request.route.settings.circuit_breaker;
        let before = view(circuit, settings, now);
        let serial = ticket.serial();
        match self.mutation {
            Some(Mutation::LosePass) => std::mem::forget(ticket.pass),
            Some(Mutation::BlameOurs) => {
                let failed = Verdict { failure: true, slow: false };
                ticket.pass.record(settings, failed, now, 0.5);
            }
            _ => drop(ticket.pass),
        }
        self.sidecars[request.sidecar].passes[request.way].cancelled(
            serial,
            &before,
            &view(circuit, settings, now),
        )
    }

    /// `pipeline::again`.
    fn again(&mut self, request: &mut Request, tried: &Tried) -> Step<Option<Duration>> {
        let route = Arc::clone(&request.route);
        let settings = &route.settings.retry;
        let now = self.instant();
        let asks = retry::Request {
            safe: request.safe,
            replayable: true,
            keyed: false,
            inbound_attempt: request.inbound,
        };
        let attempt = retry::Attempt {
            number: request.attempts,
            outcome: &tried.outcome,
            has_header: &|_| false,
            previous_wait: request.so_far.waited,
            trial: tried.trial && !self.is(Mutation::RetryTrial),
            shed_before: request.so_far.shed,
            tried_there: false,
        };
        request.so_far.shed |= tried.outcome.peer_shed;
        let remaining = request.deadline.map(|d| d.saturating_duration_since(now));
        let decision = retry::decide(settings, &asks, &attempt, remaining, fastrand::f64());
        let Decision::Retry { mut after, cost_half } = decision else { return Ok(None) };
        check(7, !tried.trial, || "a trial is to be retried".to_owned())?;
        if settings.mode == Mode::Observe {
            return Ok(None);
        }
        let cost = if cost_half { Cost::Half } else { Cost::Whole };
        if !self.is(Mutation::NoBudget) && !request.target().upstream.withdraw(cost, now) {
            return Ok(None);
        }
        self.sidecars[request.sidecar].budget.retry(self.now, cost)?;
        if self.is(Mutation::LongWait) {
            after = after * 20 + Duration::from_millis(1);
        }
        let hint = tried.outcome.hint;
        let number = request.attempts;
        Wait { settings, attempt: number, after, hint, remaining }.bounded()?;
        Ok(Some(after))
    }

    /// The end of `pipeline::attempts`, and `pipeline::reply`.
    fn finish(&mut self, id: usize, mut of: Request, end: Result<Answer, Refusal>) -> Step {
        let end = end.or_else(|refusal| of.so_far.answer.take().ok_or(refusal));
        match end {
            Ok(answer) => {
                let good = answer.status < 500 && answer.status != 429;
                self.tally.answered(of.who, self.now, good);
                of.so_far = SoFar::default();
                self.give_place_back(&mut of);
                of.passing_on = Some(answer);
                let body = Duration::from_micros(self.rng.u64(50..2000));
                self.later(body, Event::Done(id));
                self.requests.insert(id, of);
                Ok(())
            }
            Err(refusal) => self.refuse(id, of, refusal),
        }
    }

    pub(crate) fn refuse(&mut self, _: usize, mut request: Request, refusal: Refusal) -> Step {
        self.tally.refused(
            request.who,
            match refusal {
                Refusal::Failed => Refused::Upstream,
                Refusal::NoPlace => Refused::NoPlace,
                _ => Refused::Other,
            },
        );
        let before = Known::of(request.target(), self.instant());
        self.give_place_back(&mut request);
        match refusal {
            Refusal::Failed => Ok(()),
            _ => self.unlearned(&before, &request, "the proxy's own refusal"),
        }
    }

    /// The client has left: everything of its request is dropped where it stands.
    pub(crate) fn left(&mut self, mut request: Request) -> Step {
        if request.passing_on.is_none() {
            self.tally.left(request.who);
        }
        if self.is(Mutation::LosePlace) {
            std::mem::forget(request.places.limit.take());
        }
        let Some(flight) = request.flight.take() else { return Ok(()) };
        let now = self.instant();
        let waited = now.saturating_duration_since(flight.began);
        flight.in_flight.endpoint().learn_abandoned(waited, now);
        drop(flight.in_flight);
        self.give_back(flight.ticket, &request)
    }
}

/// As `attempt::endpoint_failure`.
fn endpoint_failure(outcome: &Outcome) -> bool {
    match outcome.end {
        End::Answer { .. } if outcome.peer_shed => false,
        End::Answer { status, .. } => (status >= 500 && status != 501) || status == 429,
        _ => true,
    }
}

/// As `attempt::verdict`.
fn verdict(settings: &BreakerSettings, outcome: &Outcome) -> Verdict {
    let server_error = !matches!(outcome.end, End::Answer { .. });
    let failure = settings.failures.iter().any(|condition| {
        condition.matches(outcome, &|_| false)
            || (server_error && *condition == Condition::StatusClass(5))
    });
    let slow = settings.slow.over.is_some_and(|over| outcome.latency > *over);
    Verdict { failure, slow }
}
