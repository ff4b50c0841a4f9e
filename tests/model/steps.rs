//! What may happen next.

use std::fmt;

use crate::promises;
use crate::search::{Model, Next};
use crate::store::{Kept, Rules, applied, around, claimant, entry, is_over, standing};
use crate::world::{
    GRACE, LEASE, Message, Misfortunes, NOW, PROXIES, Phase, Proxy, RESOLVED, Say, Sending, World,
    status_of,
};
use outrigger::policy::idempotency::machine::{
    Claim, Claimed, Resolution, Settle, Settled, Unknowns,
};
use outrigger::policy::idempotency::record::{Doubt, Fence, Retention, State, Stored};

/// What may be searched.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) rules: Rules,
    pub(crate) proxies: usize,
    /// How often each begins a claim.
    pub(crate) tries: u8,
    /// Whether the upstream recognises keys, and doubts may be sent again.
    pub(crate) redispatch: bool,
    pub(crate) retention: Retention,
    pub(crate) misfortunes: Misfortunes,
    pub(crate) renewals: u8,
    /// How often an operator looks.
    pub(crate) looks: u8,
    /// Whether a proxy looks at its lease right before it sends.
    pub(crate) looks_at_lease: bool,
    /// Whether an operator says "not executed" only when nothing can be executed any more.
    pub(crate) operator_waits: bool,
    /// Whether a store that forgot grants nothing until everyone has said what it holds.
    pub(crate) guarded: bool,
}

#[derive(Clone, Copy)]
pub(crate) enum Step {
    Tick,
    Begin(usize),
    GiveUp(usize),
    Again(usize),
    Send(usize),
    GiveBack(usize),
    Renew(usize),
    Answered(usize),
    Refused(usize),
    Doubt(usize),
    SendAgainLater(usize),
    Crash(usize),
    SayAgain(usize),
    Upstream(u8, Sending),
    Operator {
        executed: bool,
    },
    Forget,
    /// It arrives; `answered` is whether its answer does; `again` whether it will arrive again.
    Arrive {
        message: Message,
        answered: bool,
        again: bool,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tick => write!(f, "time passes"),
            Self::Begin(at) => write!(f, "proxy {at} claims"),
            Self::GiveUp(at) => write!(f, "proxy {at} gives up its claim"),
            Self::Again(at) => write!(f, "proxy {at} repeats itself"),
            Self::Send(at) => write!(f, "proxy {at} sends"),
            Self::GiveBack(at) => write!(f, "proxy {at} has not sent, and releases"),
            Self::Renew(at) => write!(f, "proxy {at} renews"),
            Self::Answered(at) => write!(f, "proxy {at} has the answer, and completes"),
            Self::Refused(at) => write!(f, "proxy {at} has the proof, and releases"),
            Self::Doubt(at) => write!(f, "proxy {at} loses the connection, and says so"),
            Self::SendAgainLater(at) => write!(f, "proxy {at} says that it may be sent again"),
            Self::Crash(at) => write!(f, "proxy {at} dies"),
            Self::SayAgain(at) => write!(f, "proxy {at} says again what it holds"),
            Self::Upstream(fence, fate) => write!(f, "what was sent under {fence}: {fate:?}"),
            Self::Operator { executed } => write!(f, "an operator looks; executed: {executed}"),
            Self::Forget => write!(f, "the store forgets"),
            Self::Arrive { message, answered, again } => {
                write!(f, "arrives: {message:?}, answered: {answered}, and again: {again}")
            }
        }
    }
}

/// The answer of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Granted(u8),
    Refused,
    Settled(Settled),
}

impl Model for Setting {
    type State = World;
    type Step = Step;

    fn initial(&self) -> World {
        World::new(self.misfortunes, self.renewals, self.looks)
    }

    fn next(&self, world: &World, found: &mut Vec<Next<Self>>) {
        let mut step = |step: Step, state: World| {
            let (seen, broken) = promises::check(self, world, step, &state);
            found.push(Next { step, state, seen, broken });
        };
        let mut next = *world;
        next.pass();
        next.forgot |= is_over(next.record);
        step(Step::Tick, next);
        for at in 0..self.proxies {
            self.claiming(world, at, &mut step);
            self.working(world, at, &mut step);
            self.failing(world, at, &mut step);
        }
        for (fence, sending) in world.sendings() {
            if sending == Sending::OnItsWay {
                for end in [Sending::Executed, Sending::Refused] {
                    let mut next = *world;
                    next.set_sending(fence, end);
                    step(Step::Upstream(fence, end), next);
                }
            }
        }
        self.operator(world, &mut step);
        self.network(world, &mut step);
    }
}

type Found<'a> = &'a mut dyn FnMut(Step, World);

impl Setting {
    /// Until a claim is granted.
    fn claiming(&self, world: &World, at: usize, step: Found<'_>) {
        let proxy = world.proxies[at];
        match proxy.phase {
            // They are all alike, so the first of them may as well be the first to begin.
            Phase::Idle if proxy.tries < self.tries && begun(world, at) => {
                let mut next = *world;
                let lease_end = NOW + LEASE;
                let tries = proxy.tries + 1;
                next.proxies[at] = Proxy { phase: Phase::Claiming, tries, fence: 0, lease_end };
                if say(&mut next, at, Say::Claim) {
                    step(Step::Begin(at), next);
                }
            }
            Phase::Claiming | Phase::GivingUp => {
                if !world.is_on_its_way(world.nonce(at), Say::Claim) {
                    let mut next = *world;
                    if say(&mut next, at, Say::Claim) {
                        step(Step::Again(at), next);
                    }
                }
                if proxy.phase == Phase::Claiming && world.left.doubts > 0 {
                    let mut next = *world;
                    next.left.doubts -= 1;
                    next.proxies[at].phase = Phase::GivingUp;
                    step(Step::GiveUp(at), next);
                }
            }
            _ => {}
        }
    }

    /// From a granted claim to its end.
    fn working(&self, world: &World, at: usize, step: Found<'_>) {
        let proxy = world.proxies[at];
        let says = |word| {
            let mut next = *world;
            next.proxies[at].phase = Phase::Settling(word);
            next.proxies[at].lease_end = 0;
            say(&mut next, at, word).then_some(next)
        };
        let mut settle = |what: Step, word: Say| {
            if let Some(next) = says(word) {
                step(what, next);
            }
        };
        let fate = world.sending(proxy.fence);
        match proxy.phase {
            Phase::Holding => {
                settle(Step::GiveBack(at), Say::Release);
                if !self.looks_at_lease || NOW < proxy.lease_end {
                    let mut next = *world;
                    next.set_sending(proxy.fence, Sending::OnItsWay);
                    next.proxies[at].phase = Phase::Sent;
                    next.proxies[at].lease_end = 0;
                    step(Step::Send(at), next);
                }
            }
            Phase::Sent => {
                match fate {
                    Sending::Executed => settle(Step::Answered(at), Say::Complete),
                    Sending::Refused => settle(Step::Refused(at), Say::Release),
                    _ => {}
                }
                settle(Step::Doubt(at), Say::Doubt);
                if self.redispatch {
                    settle(Step::SendAgainLater(at), Say::Retryable);
                }
            }
            Phase::Doubting if fate == Sending::Executed => {
                settle(Step::Answered(at), Say::Complete);
            }
            Phase::Settling(word) if !world.is_on_its_way(world.nonce(at), word) => {
                settle(Step::Again(at), word);
            }
            _ => {}
        }
        let at_work = matches!(proxy.phase, Phase::Holding | Phase::Sent);
        if at_work && world.renewals > 0 {
            let mut next = *world;
            next.renewals -= 1;
            if say(&mut next, at, Say::Renew) {
                step(Step::Renew(at), next);
            }
        }
    }

    fn failing(&self, world: &World, at: usize, step: Found<'_>) {
        let proxy = world.proxies[at];
        if world.left.crashes > 0 && proxy.phase != Phase::Idle {
            let mut next = *world;
            next.left.crashes -= 1;
            next.proxies[at].end();
            next.guard &= !(1 << at);
            step(Step::Crash(at), next);
        }
        // After the store forgot, each says again what it holds.
        let word = match proxy.phase {
            Phase::Holding | Phase::Sent => Say::Reassert,
            Phase::Doubting => Say::Doubt,
            Phase::Completed => Say::Complete,
            _ => return,
        };
        if world.guard & 1 << at != 0 && !world.is_on_its_way(world.nonce(at), word) {
            let mut next = *world;
            if say(&mut next, at, word) {
                step(Step::SayAgain(at), next);
            }
        }
    }

    fn operator(&self, world: &World, step: Found<'_>) {
        let unknown = standing(world.record) == Some(State::Unknown);
        let Some(Kept { fence, .. }) = world.record.filter(|_| unknown && world.looks > 0) else {
            return;
        };
        let executed = world.executions() > 0;
        let may_come = world.sendings().any(|(_, sending)| sending == Sending::OnItsWay);
        if !executed && may_come && self.operator_waits {
            return;
        }
        let mut next = *world;
        next.looks -= 1;
        let say = if executed { Say::Executed } else { Say::NotExecuted };
        if next.send(Message { say, nonce: 0, fence }) {
            step(Step::Operator { executed }, next);
        }
    }

    fn network(&self, world: &World, step: Found<'_>) {
        if world.left.forgets > 0 && world.record.is_some() {
            let mut next = *world;
            next.left.forgets -= 1;
            next.record = None;
            next.forgot = true;
            if self.guarded {
                next.guard =
                    (0..self.proxies).filter(|at| holds(world, *at)).map(|at| 1 << at).sum();
            }
            step(Step::Forget, next);
        }
        for message in world.messages() {
            for (answered, again) in [(true, false), (false, false), (true, true)] {
                let mut next = *world;
                if !answered {
                    let Some(left) = next.left.losses.checked_sub(1) else { continue };
                    next.left.losses = left;
                }
                if again {
                    let Some(left) = next.left.repeats.checked_sub(1) else { continue };
                    next.left.repeats = left;
                } else {
                    next.take(message);
                }
                let Some(told) = self.arrive(&mut next, message) else { continue };
                if answered {
                    hear(&mut next, message, told, self.guarded);
                }
                if standing(next.record) != Some(State::InFlight) {
                    next.heard = 0;
                }
                step(Step::Arrive { message, answered, again }, next);
            }
        }
    }

    /// The store does what it is told, and answers; nothing when the model has no room for it.
    pub(crate) fn arrive(&self, world: &mut World, message: Message) -> Option<Told> {
        let before = entry(world.record);
        let around = around(world.fences);
        if message.say == Say::Claim {
            if world.guard != 0 {
                return Some(Told::Refused);
            }
            if !world.can_grant() {
                return None;
            }
            let (change, answer) = (self.rules.claim)(&before, &self.claim(message), &around);
            world.record = applied(world.record, &change);
            let Claimed::Acquired { fence, .. } = answer else { return Some(Told::Refused) };
            let fence = u8::try_from(fence.0).expect("few claims");
            if fence > world.fences {
                world.heard = NOW;
            }
            world.fences = world.fences.max(fence);
            return Some(Told::Granted(fence));
        }
        let settle = self.settle(message);
        let (change, answer) = (self.rules.settle)(&before, &settle, &around);
        world.record = applied(world.record, &change);
        let took = matches!(answer, Settled::Done | Settled::Reasserted);
        if took && matches!(message.say, Say::Renew | Say::Reassert) {
            world.heard = NOW;
        }
        Some(Told::Settled(answer))
    }

    fn claim(&self, message: Message) -> Claim {
        let by = claimant(message.nonce, 0);
        let unknowns = if self.redispatch {
            Unknowns::Redispatch { grace: u64::from(GRACE) }
        } else {
            Unknowns::Hold
        };
        Claim {
            fingerprint: by.fingerprint,
            owner: by.owner,
            nonce: by.nonce,
            principal: by.principal,
            lease: u64::from(LEASE),
            retention: self.retention,
            unknowns,
            too_old: false,
        }
    }

    fn settle(&self, message: Message) -> Settle {
        let by = claimant(message.nonce, message.fence);
        let (retention, lease) = (self.retention, u64::from(LEASE));
        let expect = Fence(u64::from(message.fence));
        match message.say {
            Say::Claim | Say::Renew => Settle::Renew { by, lease },
            Say::Complete => {
                Settle::Complete { by, answer: Stored::bare(status_of(message.fence)), retention }
            }
            Say::Release => Settle::Release { by },
            Say::Doubt => {
                Settle::Doubt { by, doubt: Doubt::Timeout, observed_status: None, retention }
            }
            Say::Retryable => Settle::Retryable { by, retention },
            Say::Reassert => Settle::Reassert { by, lease, first_seen: 0, attempts: 1, retention },
            Say::Executed => {
                let how = Resolution::Executed { status: RESOLVED };
                Settle::Resolve { expect, how, retention }
            }
            Say::NotExecuted => Settle::Resolve { expect, how: Resolution::NotExecuted, retention },
        }
    }
}

/// Whether a proxy has something that a store which forgot has to hear again.
fn holds(world: &World, at: usize) -> bool {
    matches!(
        world.proxies[at].phase,
        Phase::Holding | Phase::Sent | Phase::Settling(_) | Phase::Doubting | Phase::Completed
    )
}

fn say(world: &mut World, at: usize, say: Say) -> bool {
    let (nonce, fence) = (world.nonce(at), world.proxies[at].fence);
    world.send(Message { say, nonce, fence })
}

/// Whether the proxy before has begun.
fn begun(world: &World, at: usize) -> bool {
    at.checked_sub(1).is_none_or(|before| world.proxies[before].tries > 0)
}

/// A proxy hears the answer, if it still waits for it.
fn hear(world: &mut World, message: Message, told: Told, guarded: bool) {
    let is_asker = |at: &usize| world.proxies[*at].tries > 0 && world.nonce(*at) == message.nonce;
    let Some(at) = (0..PROXIES).find(is_asker) else { return };
    let fate = world.sending(world.proxies[at].fence);
    let proxy = &mut world.proxies[at];
    match (proxy.phase, told) {
        (Phase::Claiming, Told::Granted(fence)) => {
            proxy.fence = fence;
            proxy.phase = Phase::Holding;
        }
        (Phase::GivingUp, Told::Granted(fence)) => {
            proxy.fence = fence;
            proxy.phase = Phase::Settling(Say::Release);
            proxy.lease_end = 0;
        }
        (Phase::Claiming | Phase::GivingUp, Told::Refused) => proxy.end(),
        (Phase::Settling(word), Told::Settled(_)) if word == message.say => {
            match word {
                Say::Doubt if fate != Sending::Refused => proxy.phase = Phase::Doubting,
                Say::Complete if guarded => proxy.phase = Phase::Completed,
                _ => proxy.end(),
            }
            world.guard &= !(1 << at);
        }
        (_, Told::Settled(_)) if message.say != Say::Renew => world.guard &= !(1 << at),
        _ => {}
    }
}
