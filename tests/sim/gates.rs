//! The way of a request to its places, in virtual time: as `proxy::admission::enter` asks for them
//! and `proxy::attempt::sample` learns from what came of them.

use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use outrigger::gate::{
    Adaptive, Asking, Entry, Fixed, Gate, Lesson, Limit, Place, Refused, Waiting,
};
use outrigger::policy::Mode;
use outrigger::policy::concurrency::Sample;
use outrigger::policy::outcome::{End, Outcome};
use outrigger::policy::queue::Discipline;
use outrigger::policy::shedding::{Lot, Standing};

use super::events::Event;
use super::invariants::{Known, Step, check};
use super::proxy::{Refusal, Request};
use super::world::{Mutation, World};

/// The places that a request has, and the one it waits for.
#[derive(Default)]
pub(crate) struct Places {
    pub(crate) bulkhead: Option<Place<Fixed>>,
    pub(crate) limit: Option<Place<Adaptive>>,
    /// What no request should have.
    pub(crate) more: Vec<Place<Adaptive>>,
    pub(crate) waits: Option<Waits>,
    /// Whether it is past both gates.
    pub(crate) entered: bool,
    /// Whether the limit's gate had to be passed.
    pub(crate) limited: bool,
}

pub(crate) enum Waits {
    Bulkhead(Waiting<Fixed>),
    Limit(Waiting<Adaptive>),
}

/// Tells the run that something has become of a request that waits.
struct Bell {
    id: usize,
    rung: Sender<usize>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // The run is over when nobody listens.
        let _ = self.rung.send(self.id);
    }
}

impl Places {
    /// How many places of the limit it has.
    pub(crate) fn of_limit(&self) -> usize {
        usize::from(self.limit.is_some()) + self.more.len()
    }
}

/// What has become of a wait so far.
enum Turn<L: Limit> {
    Still(Waiting<L>),
    Over(Result<Place<L>, Refused>),
}

fn look<L: Limit>(mut waiting: Waiting<L>, waker: &Waker, world: &World<'_>) -> Turn<L> {
    let polled = pin!(waiting.called()).poll(&mut Context::from_waker(waker));
    match polled {
        Poll::Ready(over) => Turn::Over(over),
        Poll::Pending if world.instant() >= waiting.until => {
            Turn::Over(waiting.leave(world.instant()))
        }
        Poll::Pending => Turn::Still(waiting),
    }
}

impl World<'_> {
    /// The request asks for its places, from the first that it has not got.
    pub(crate) fn enter(&mut self, id: usize, mut request: Request) -> Step {
        let route = Arc::clone(&request.route);
        if request.places.bulkhead.is_none()
            && let (Some(gate), Some(settings)) = (&route.bulkhead, &route.settings.bulkhead)
        {
            match self.pass(id, gate, settings.mode, self.asking(&request, Duration::ZERO))? {
                Entry::In(place) => request.places.bulkhead = Some(place),
                Entry::Refused(refused) => return self.no_place(id, request, refused),
                Entry::Wait(waiting) => {
                    request.places.waits = Some(Waits::Bulkhead(waiting));
                    self.requests.insert(id, request);
                    return Ok(());
                }
            }
        }
        let target = request.target();
        let upstream = Arc::clone(&target.upstream);
        let mode = upstream.settings.concurrency.mode;
        if mode != Mode::Off {
            let gate = &upstream.state.gate;
            let before = Known::of(target, self.instant());
            let asking = self.asking(&request, gate.expected(target.baseline));
            let entry = self.pass(id, gate, mode, asking)?;
            request.places.limited = true;
            match entry {
                Entry::In(place) => {
                    self.within(request.sidecar)?;
                    self.note_tier(&request, true)?;
                    request.places.limit = Some(place);
                }
                Entry::Refused(refused) => {
                    self.unlearned(&before, &request, "a refusal at the gate")?;
                    self.note_refused(&request, refused)?;
                    return self.no_place(id, request, refused);
                }
                Entry::Wait(waiting) => {
                    request.places.waits = Some(Waits::Limit(waiting));
                    self.requests.insert(id, request);
                    return Ok(());
                }
            }
        }
        request.places.entered = true;
        request.since = self.instant();
        self.proceed(id, request)
    }

    /// As `admission::pass`; a wait has its bell, and its end is scheduled.
    fn pass<L: Limit>(
        &mut self,
        id: usize,
        gate: &Arc<Gate<L>>,
        mode: Mode,
        asking: Asking,
    ) -> Step<Entry<L>> {
        let now = self.instant();
        if let Some(place) = gate.try_enter(now) {
            return Ok(Entry::In(place));
        }
        if mode == Mode::Observe || self.is(Mutation::ForceIn) {
            return Ok(Entry::In(gate.force_enter()));
        }
        // Whoever hears its bell while another one enters had to give way to it.
        self.answer_bells(true)?;
        let entry = gate.enter(asking, now);
        self.answer_bells(false)?;
        let Entry::Wait(mut waiting) = entry else { return Ok(entry) };
        let polled = pin!(waiting.called()).poll(&mut Context::from_waker(&self.bell(id)));
        check(11, polled.is_pending(), || format!("request {id} waits for nothing"))?;
        drop(polled);
        self.later(waiting.until.saturating_duration_since(now), Event::Called(id));
        Ok(Entry::Wait(waiting))
    }

    fn bell(&self, id: usize) -> Waker {
        Waker::from(Arc::new(Bell { id, rung: self.bells.0.clone() }))
    }

    /// Looks at everyone whose bell was rung: at once, unless the dice hold it back. `calls` unless
    /// it was rung to tell of a refusal.
    pub(crate) fn answer_bells(&mut self, calls: bool) -> Step {
        let rung: Vec<usize> = self.bells.1.try_iter().collect();
        for id in &rung {
            self.rung.insert(*id);
            if let (true, Some(request)) = (calls, self.requests.get(id))
                && matches!(request.places.waits, Some(Waits::Limit(_)))
            {
                self.within(request.sidecar)?;
            }
        }
        for id in rung {
            self.later(Duration::ZERO, Event::Called(id));
        }
        Ok(())
    }

    /// Something has become of a wait, or its time is over.
    pub(crate) fn called(&mut self, id: usize, mut request: Request) -> Step {
        let before = Known::of(request.target(), self.instant());
        let bell = self.bell(id);
        let over = match request.places.waits.take() {
            None => None,
            Some(Waits::Bulkhead(waiting)) => match look(waiting, &bell, self) {
                Turn::Still(waiting) => {
                    request.places.waits = Some(Waits::Bulkhead(waiting));
                    None
                }
                Turn::Over(over) => Some(over.map(|place| request.places.bulkhead = Some(place))),
            },
            Some(Waits::Limit(waiting)) => match look(waiting, &bell, self) {
                Turn::Still(waiting) => {
                    request.places.waits = Some(Waits::Limit(waiting));
                    None
                }
                Turn::Over(over) => {
                    match &over {
                        Ok(_) => self.note_tier(&request, true)?,
                        Err(refused) => {
                            self.unlearned(&before, &request, "a wait")?;
                            self.note_refused(&request, *refused)?;
                        }
                    }
                    request.places.entered = over.is_ok();
                    Some(over.map(|place| request.places.limit = Some(place)))
                }
            },
        };
        let Some(over) = over else {
            self.requests.insert(id, request);
            return Ok(());
        };
        let on_time = self.rung.remove(&id) && self.scenario.buggify.late == 0.0;
        let now = self.instant();
        match over {
            Err(refused) => self.no_place(id, request, refused),
            Ok(()) => {
                let late = request.deadline.is_some_and(|deadline| deadline < now);
                check(15, !on_time || !late, || {
                    format!("request {id} gets a place after its deadline")
                })?;
                request.since = now;
                if request.places.entered {
                    self.proceed(id, request)
                } else {
                    self.enter(id, request)
                }
            }
        }
    }

    fn asking(&self, request: &Request, expected: Duration) -> Asking {
        let deadline = request.deadline.filter(|_| !self.is(Mutation::NoDeadline));
        let mut standing = request.standing();
        if self.is(Mutation::UpsideDown) {
            let tiers = self.sidecars[request.sidecar].snapshot.importance.tiers();
            standing.tier = tiers - 1 - standing.tier;
        }
        Asking { standing, deadline, expected, admitted: false }
    }

    fn no_place(&mut self, id: usize, request: Request, refused: Refused) -> Step {
        let refusal = match refused {
            Refused::Full | Refused::Shed | Refused::Waited => Refusal::NoPlace,
            Refused::Hopeless => Refusal::Deadline,
        };
        self.refuse(id, request, refusal)
    }

    /// Rule 14: after somebody got a place of the limit by asking for it.
    fn within(&self, sidecar: usize) -> Step {
        let upstream = self.sidecars[sidecar].upstream();
        if upstream.settings.concurrency.mode != Mode::Enforce {
            return Ok(());
        }
        let (in_flight, limit) = upstream.state.gate.filled();
        check(14, in_flight <= limit, || format!("{in_flight} are in flight under {limit}"))
    }

    /// Rule 10: nothing was learned from what the proxy did by itself.
    pub(crate) fn unlearned(&self, before: &Known, of: &Request, what: &str) -> Step {
        let after = Known::of(of.target(), self.instant());
        check(10, *before == after, || format!("{what} was learned from: {before:?}, {after:?}"))
    }

    fn note_refused(&mut self, request: &Request, refused: Refused) -> Step {
        match refused {
            // Its own deadline is the reason, and not its tier.
            Refused::Hopeless => Ok(()),
            _ => self.note_tier(request, false),
        }
    }

    fn note_tier(&mut self, request: &Request, admitted: bool) -> Step {
        let sidecar = &mut self.sidecars[request.sidecar];
        let settings = &sidecar.upstream().settings.concurrency;
        if settings.mode != Mode::Enforce || settings.queue.discipline != Discipline::Priority {
            return Ok(());
        }
        sidecar.tiers.note(self.now, request.tier, admitted)
    }

    /// The request is over for the upstream: as the end of `pipeline::exchange`.
    pub(crate) fn give_place_back(&mut self, request: &mut Request) {
        let gate = Arc::clone(&request.target().upstream.state.gate);
        if request.caller.is_some() && request.places.entered {
            let now = self.instant();
            let busy = now.saturating_duration_since(request.since);
            gate.used(request.standing(), busy, now);
        }
        request.places.limit = None;
        request.places.more.clear();
    }

    /// What the limit learns from an attempt: as `attempt::sample`.
    pub(crate) fn learn(&self, request: &mut Request, outcome: &Outcome) {
        let Some(sample) = sample(outcome) else { return };
        let lesson = Lesson { route: request.target().baseline, sample, at: self.instant() };
        if let Some(place) = &mut request.places.limit {
            place.learn(lesson);
        }
    }

    /// A retry goes on under the same place.
    pub(crate) fn again_under(&self, request: &mut Request) {
        let gate = Arc::clone(&request.target().upstream.state.gate);
        if let Some(place) = &mut request.places.limit {
            place.again();
            if self.is(Mutation::PlaceEach) {
                request.places.more.push(gate.force_enter());
            }
        }
    }

    /// A refusal of the proxy's own under a place: nobody learns from it.
    pub(crate) fn blame_limit(&self, request: &mut Request) {
        let lesson = Lesson {
            route: request.target().baseline,
            sample: Sample::Dropped,
            at: self.instant(),
        };
        if let Some(place) = request.places.limit.as_mut().filter(|_| self.is(Mutation::SampleOurs))
        {
            place.learn(lesson);
        }
    }
}

impl Request {
    fn standing(&self) -> Standing {
        let lot = match self.caller {
            Some(caller) => Lot::Caller(caller),
            None => Lot::Drawn(fastrand::u64(..)),
        };
        Standing { tier: self.tier, lot }
    }
}

fn sample(outcome: &Outcome) -> Option<Sample> {
    if outcome.peer_shed {
        return None;
    }
    match outcome.end {
        End::Answer { status: 429 | 503, .. } => Some(Sample::Dropped),
        End::Answer { status, .. } if status < 500 => Some(Sample::Answered(outcome.latency)),
        End::PerTryTimeout | End::DeadlineExceeded => Some(Sample::Dropped),
        _ => None,
    }
}
