//! Places that requests share, and the waiting in front of them: what makes a limit and its queue
//! (both pure) something that a request can await.
//!
//! A [`Gate`] stands before an upstream (its adaptive limit) or a route (its bulkhead). A request
//! [enters](Gate::enter) and holds a [`Place`], which gives itself back when it is dropped; or it
//! is [`Waiting`] for one, and leaves the queue when that is dropped. All of a gate is behind one
//! mutex that is held for some tens of instructions; who waits is woken after it is free again.
//!
//! Not here: the algorithms (`policy::{concurrency, bulkhead, queue, shedding}`), and timers:
//! whoever waits looks to it that it does not wait longer than it may.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::clock;
use crate::policy::priority::Level;
use crate::policy::queue::{self, Arrival, Entered, Leave, Next, Pace, Ticket, WaitQueue};
use crate::policy::shedding::{Line, Shedding, Standing};
use crate::shared::Shared;

mod adaptive;
mod fixed;

pub use self::adaptive::{Adaptive, Lesson, Started, View};
pub use self::fixed::Fixed;

/// A limit of how many may be in flight, with its settings.
pub trait Limit {
    /// What it notes of a place when the work begins for which it was taken.
    type Start: Copy + Send;
    /// What is learned by that work.
    type Lesson: Send;

    /// Takes a place if there is one.
    fn try_acquire(&mut self, now: Instant) -> bool;
    /// Takes a place whether there is one or not.
    fn acquire(&mut self);
    /// Gives a place back.
    fn release(&mut self);
    /// Begins the work for which a place was taken; `refusing` while requests are refused.
    fn start(&mut self, refusing: bool) -> Self::Start;
    /// Learns from it.
    fn learn(&mut self, start: Self::Start, lesson: Self::Lesson);
    /// What the queue has to know.
    fn pace(&self) -> Pace;
    /// The queue's settings.
    fn queue(&self) -> &queue::Settings;
    /// How many tiers of importance there are, if the lowest are to be refused at once while
    /// others wait; nothing if whoever finds room in the queue may wait.
    fn tiers(&self) -> Option<usize>;
}

/// Places and who waits for them.
pub struct Gate<L: Limit>(Shared<Machine<L>>);

impl<L: Limit> std::fmt::Debug for Gate<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

/// A request that asks for a place and found none free.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    /// What it is worth.
    pub standing: Standing,
    /// When its time is over.
    pub deadline: Option<Instant>,
    /// How long its answer is expected to take; zero if nobody knows.
    pub expected: Duration,
    /// Whether it was admitted before, and gave its place up meanwhile.
    pub admitted: bool,
}

/// Why a request gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The queue is full.
    Full,
    /// More important requests come first.
    Shed,
    /// It has waited as long as it may.
    Waited,
    /// Its deadline cannot be met.
    Hopeless,
}

/// What became of a request that asked for a place.
pub enum Entry<L: Limit> {
    /// It has one.
    In(Place<L>),
    /// It waits for one.
    Wait(Waiting<L>),
    /// It gets none.
    Refused(Refused),
}

/// A place, given back on drop.
pub struct Place<L: Limit> {
    gate: Arc<Gate<L>>,
    start: L::Start,
    /// What is to be told when the place is given back, so that it takes the mutex once for both.
    lesson: Option<L::Lesson>,
}

/// Work that was begun under a place, and what it has taught.
struct Learned<L: Limit> {
    start: L::Start,
    lesson: L::Lesson,
}

/// A place in the queue, left on drop.
pub struct Waiting<L: Limit> {
    gate: Arc<Gate<L>>,
    ticket: Ticket,
    seat: Arc<Seat>,
    why: Leave,
    /// When it has to leave unless it was called.
    pub until: Instant,
}

/// Where one that waits is told what has become of it.
type Seat = Shared<Turn>;

/// What has become of one that waits.
enum Turn {
    /// Nothing yet.
    Waiting(Option<Waker>),
    /// A place is kept for it.
    Called,
    /// It is out.
    Refused(Refused),
    /// It knows.
    Told,
}

struct Machine<L: Limit> {
    limit: L,
    queue: WaitQueue,
    /// Who waits, by the index of its ticket.
    seats: Vec<Option<Arc<Seat>>>,
    /// Made when the limit is first reached.
    shedding: Option<Box<Shedding>>,
}

/// Who has to be woken once the gate is free again; rarely more than one.
#[derive(Default)]
struct Calls(Vec<Waker>);

impl Drop for Calls {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

impl<L: Limit> Gate<L> {
    /// A gate with all places free.
    #[must_use]
    pub fn new(limit: L, now: Instant) -> Self {
        Self(Shared::new(Machine {
            limit,
            queue: WaitQueue::new(now),
            seats: Vec::new(),
            shedding: None,
        }))
    }

    /// Takes a place if one is free and nobody waits for it.
    #[must_use]
    pub fn try_enter(self: &Arc<Self>, now: Instant) -> Option<Place<L>> {
        let mut machine = self.0.lock();
        if !machine.queue.is_empty() || !machine.limit.try_acquire(now) {
            return None;
        }
        if let Some(shedding) = &mut machine.shedding {
            shedding.passed();
        }
        Some(self.place(&mut machine))
    }

    /// Takes a place whether there is one or not.
    #[must_use]
    pub fn force_enter(self: &Arc<Self>) -> Place<L> {
        let mut machine = self.0.lock();
        machine.limit.acquire();
        self.place(&mut machine)
    }

    /// Takes a place, or a place in the queue, if there is one of either.
    pub fn enter(self: &Arc<Self>, asking: Asking, now: Instant) -> Entry<L> {
        let mut calls = Calls::default();
        let mut machine = self.0.lock();
        if machine.queue.is_empty() && machine.limit.try_acquire(now) {
            return Entry::In(self.place(&mut machine));
        }
        let level = match machine.level(asking, now) {
            Ok(level) => level,
            Err(refused) => return Entry::Refused(refused),
        };
        let Machine { limit, queue, .. } = &mut *machine;
        let Asking { deadline, expected, admitted, .. } = asking;
        let arrival = Arrival { level, deadline, expected, admitted };
        match queue.enter(limit.queue(), limit.pace(), arrival, now) {
            Entered::Waiting { ticket, until, why, displaced } => {
                if let Some(displaced) = displaced {
                    machine.note_refused();
                    machine.tell(displaced, Turn::Refused(Refused::Shed), &mut calls);
                }
                let seat = Arc::new(Seat::new(Turn::Waiting(None)));
                machine.sit(ticket, Arc::clone(&seat));
                Entry::Wait(Waiting { gate: Arc::clone(self), ticket, seat, why, until })
            }
            Entered::Full => {
                machine.note_refused();
                Entry::Refused(Refused::Full)
            }
            Entered::Hopeless => Entry::Refused(Refused::Hopeless),
        }
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.lock().queue.len()
    }

    /// Looks at the limit, or changes its settings.
    pub fn with<T>(&self, look: impl FnOnce(&mut L) -> T) -> T {
        look(&mut self.0.lock().limit)
    }

    fn place(self: &Arc<Self>, machine: &mut Machine<L>) -> Place<L> {
        Place { start: machine.start(), gate: Arc::clone(self), lesson: None }
    }

    fn release(&self, learned: Option<Learned<L>>) {
        let mut calls = Calls::default();
        let mut machine = self.0.lock();
        machine.limit.release();
        if let Some(Learned { start, lesson }) = learned {
            machine.limit.learn(start, lesson);
        }
        if !machine.queue.is_empty() {
            machine.call(clock::now(), &mut calls);
        }
    }
}

impl<L: Limit> Machine<L> {
    fn start(&mut self) -> L::Start {
        let refusing = self.shedding.as_ref().is_some_and(|shedding| shedding.share() > 0.0);
        self.limit.start(refusing)
    }

    /// The level of a request that found no free place, unless it is refused at once.
    fn level(&mut self, asking: Asking, now: Instant) -> Result<Level, Refused> {
        let Asking { standing, admitted, .. } = asking;
        let Some(tiers) = self.limit.tiers() else {
            return Ok(Level::new(standing.tier, 0));
        };
        let shedding = self.shedding.get_or_insert_with(|| Box::new(Shedding::new(now)));
        let level = shedding.level(standing);
        if admitted {
            return Ok(level);
        }
        let line = Line { waiting: self.queue.newcomers(), limit: self.limit.pace().limit };
        if shedding.admit(level, tiers, line, now) {
            return Ok(level);
        }
        // The queue has to know that its waits would be in vain.
        self.queue.note_refused(level, self.limit.pace(), now);
        Err(Refused::Shed)
    }

    fn note_refused(&mut self) {
        if let Some(shedding) = &mut self.shedding {
            shedding.refused();
        }
    }

    fn sit(&mut self, ticket: Ticket, seat: Arc<Seat>) {
        let index = ticket.index();
        if self.seats.len() <= index {
            self.seats.resize(index + 1, None);
        }
        if let Some(place) = self.seats.get_mut(index) {
            *place = Some(seat);
        }
    }

    fn forget(&mut self, ticket: Ticket) {
        if let Some(seat) = self.seats.get_mut(ticket.index()) {
            *seat = None;
        }
    }

    /// Tells one that waited what has become of it.
    fn tell(&mut self, ticket: Ticket, turn: Turn, calls: &mut Calls) {
        let Some(seat) = self.seats.get_mut(ticket.index()).and_then(Option::take) else { return };
        if let Turn::Waiting(Some(waker)) = std::mem::replace(&mut *seat.lock(), turn) {
            calls.0.push(waker);
        }
    }

    /// Gives free places to those who wait.
    fn call(&mut self, now: Instant, calls: &mut Calls) {
        while !self.queue.is_empty() && self.limit.try_acquire(now) {
            match self.queue.next(self.limit.queue(), self.limit.pace(), now) {
                Some(Next::Serve(ticket)) => self.tell(ticket, Turn::Called, calls),
                Some(Next::Hopeless(ticket)) => {
                    self.limit.release();
                    self.tell(ticket, Turn::Refused(Refused::Hopeless), calls);
                }
                None => return self.limit.release(),
            }
        }
    }
}

impl<L: Limit> Place<L> {
    /// What the limit noted when the work began.
    #[must_use]
    pub const fn start(&self) -> L::Start {
        self.start
    }

    /// The gate that it is of.
    #[must_use]
    pub const fn gate(&self) -> &Arc<Gate<L>> {
        &self.gate
    }

    /// Notes what the work has taught; told when the place is given back.
    pub fn learn(&mut self, lesson: L::Lesson) {
        self.lesson = Some(lesson);
    }

    /// Begins more work under the same place, and tells what the last one has taught.
    pub fn again(&mut self) {
        let mut machine = self.gate.0.lock();
        if let Some(lesson) = self.lesson.take() {
            machine.limit.learn(self.start, lesson);
        }
        self.start = machine.start();
    }
}

impl<L: Limit> Drop for Place<L> {
    fn drop(&mut self) {
        let start = self.start;
        self.gate.release(self.lesson.take().map(|lesson| Learned { start, lesson }));
    }
}

impl<L: Limit> Waiting<L> {
    /// Waits for the call; to be ended by [`Waiting::leave`] when its time is over.
    ///
    /// # Errors
    /// Why it gets no place.
    pub async fn called(&mut self) -> Result<Place<L>, Refused> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<Place<L>, Refused>> {
        let mut turn = self.seat.lock();
        match *turn {
            Turn::Waiting(ref mut waker) => {
                match waker {
                    Some(known) => known.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                return Poll::Pending;
            }
            Turn::Refused(refused) => return Poll::Ready(Err(refused)),
            Turn::Called | Turn::Told => *turn = Turn::Told,
        }
        drop(turn);
        let mut machine = self.gate.0.lock();
        Poll::Ready(Ok(self.gate.place(&mut machine)))
    }

    /// Ends the wait because its time is over.
    ///
    /// # Errors
    /// Why it gets no place, unless it was called at the last moment.
    pub fn leave(mut self, now: Instant) -> Result<Place<L>, Refused> {
        {
            let mut machine = self.gate.0.lock();
            let Machine { limit, queue, .. } = &mut *machine;
            if queue.expire(self.ticket, self.why, limit.pace(), now) {
                machine.forget(self.ticket);
                *self.seat.lock() = Turn::Told;
                return Err(match self.why {
                    Leave::Waited => {
                        machine.note_refused();
                        Refused::Waited
                    }
                    Leave::Deadline => Refused::Hopeless,
                });
            }
        }
        // It was called, or refused, just before.
        match self.poll(&Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => turn,
            Poll::Pending => Err(Refused::Waited),
        }
    }
}

impl<L: Limit> Drop for Waiting<L> {
    fn drop(&mut self) {
        let mut machine = self.gate.0.lock();
        if machine.queue.leave(self.ticket) {
            return machine.forget(self.ticket);
        }
        // It was called and never came: the next one gets its place.
        let called = matches!(*self.seat.lock(), Turn::Called);
        drop(machine);
        if called {
            self.gate.release(None);
        }
    }
}

#[cfg(test)]
mod tests;
