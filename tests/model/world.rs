//! What there is: proxies with one request each, a store with one record, messages on their way,
//! and an upstream that executes what reaches it, sooner or later or never.

use crate::store::{Kept, NO_TICK, Tick};

/// Proxies in the largest world.
pub(crate) const PROXIES: usize = 3;
/// Claims that can be granted at most; each may be sent once.
const FENCES: usize = 8;
/// Messages on their way at once.
const NET: usize = 6;
/// How long a lease is.
pub(crate) const LEASE: Tick = 2;
/// How long a takeover waits after it.
pub(crate) const GRACE: Tick = 1;
/// What it always is: times are kept as distances from now, and what lies further back than this
/// makes no difference to anything, so that there is an end to the states and none to time.
pub(crate) const NOW: Tick = LEASE + GRACE;
/// Claims of one proxy, at most.
pub(crate) const TRIES_MAX: u8 = 4;
/// The status with which an operator resolves.
pub(crate) const RESOLVED: u16 = 299;

/// The status of the answer that a sending under this fence got.
pub(crate) const fn status_of(fence: u8) -> u16 {
    200 + fence as u16
}

/// How far a proxy is with its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Works on nothing: has not begun, has told its client something, or has died.
    #[default]
    Idle,
    /// Waits for the answer to its claim.
    Claiming,
    /// Has told its client that it cannot, and finds out whether its claim was made.
    GivingUp,
    /// May send.
    Holding,
    /// Has sent, and waits for the upstream.
    Sent,
    /// Has said what became of it, and waits for the store.
    Settling(Say),
    /// Has said that it does not know, and would still hear a late answer.
    Doubting,
    /// Has completed, and would say so again if the store forgot.
    Completed,
}

/// What a proxy says of its claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Say {
    Claim,
    Renew,
    Complete,
    Release,
    Doubt,
    Retryable,
    Reassert,
    /// An operator's word.
    Executed,
    NotExecuted,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Proxy {
    pub(crate) phase: Phase,
    /// Claims that it has begun.
    pub(crate) tries: u8,
    /// Of its present claim, once granted.
    pub(crate) fence: u8,
    /// When its lease ends by its own reckoning: counted from before it asked.
    pub(crate) lease_end: Tick,
}

impl Proxy {
    /// Nothing is left to do, or nobody to do it.
    pub(crate) fn end(&mut self) {
        *self = Self { tries: self.tries, ..Self::default() };
    }
}

/// A message to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Message {
    pub(crate) say: Say,
    pub(crate) nonce: u8,
    pub(crate) fence: u8,
}

/// What became of a request that was sent under a fence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Sending {
    #[default]
    None,
    /// It may still be executed.
    OnItsWay,
    Executed,
    /// It will never be. The upstream's end of the connection proves it, if anybody looks.
    Refused,
}

/// How much of each misfortune may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Misfortunes {
    /// Answers that are lost. (A message that is lost is one that has not arrived yet.)
    pub(crate) losses: u8,
    /// Messages that arrive twice.
    pub(crate) repeats: u8,
    pub(crate) crashes: u8,
    /// Records that the store forgets.
    pub(crate) forgets: u8,
    /// Times that a client gives up, or a connection breaks.
    pub(crate) doubts: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) record: Option<Kept>,
    /// The largest fence so far.
    pub(crate) fences: u8,
    pub(crate) proxies: [Proxy; PROXIES],
    net: [Option<Message>; NET],
    sendings: [Sending; FENCES],
    pub(crate) left: Misfortunes,
    pub(crate) renewals: u8,
    pub(crate) looks: u8,
    /// When the store last heard of the claim in flight.
    pub(crate) heard: Tick,
    /// Whether a record has ended by time, or was forgotten.
    pub(crate) forgot: bool,
    /// The proxies that have yet to say what they hold, by their bits: until then a store that
    /// forgot grants nothing.
    pub(crate) guard: u8,
}

impl World {
    pub(crate) fn new(left: Misfortunes, renewals: u8, looks: u8) -> Self {
        Self {
            record: None,
            fences: 0,
            proxies: [Proxy::default(); PROXIES],
            net: [None; NET],
            sendings: [Sending::None; FENCES],
            left,
            renewals,
            looks,
            heard: 0,
            forgot: false,
            guard: 0,
        }
    }

    /// One tick.
    pub(crate) fn pass(&mut self) {
        let earlier = |tick: &mut Tick| {
            if *tick != NO_TICK {
                *tick = tick.saturating_sub(1);
            }
        };
        earlier(&mut self.heard);
        self.proxies.iter_mut().for_each(|proxy| earlier(&mut proxy.lease_end));
        if let Some(kept) = &mut self.record {
            earlier(&mut kept.lease_until);
            earlier(&mut kept.body_until);
            earlier(&mut kept.keep_until);
        }
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = Message> {
        let mut last = None;
        self.net
            .into_iter()
            .flatten()
            .filter(move |message| last.replace(*message) != Some(*message))
    }

    /// False when there are too many messages already: then it stays unsaid for now.
    #[must_use]
    pub(crate) fn send(&mut self, message: Message) -> bool {
        let Some(place) = self.net.iter_mut().find(|place| place.is_none()) else { return false };
        *place = Some(message);
        self.sort();
        true
    }

    pub(crate) fn take(&mut self, message: Message) {
        let place = self.net.iter_mut().find(|place| **place == Some(message));
        *place.expect("a message that is on its way") = None;
        self.sort();
    }

    /// In what order messages were sent does not matter, so that it makes no two states.
    fn sort(&mut self) {
        self.net.sort_unstable_by_key(|message| (message.is_none(), *message));
    }

    pub(crate) fn is_on_its_way(&self, nonce: u8, say: Say) -> bool {
        self.net.iter().flatten().any(|message| message.nonce == nonce && message.say == say)
    }

    /// What was sent under this fence; nothing for a fence that nobody has.
    pub(crate) fn sending(&self, fence: u8) -> Sending {
        fence.checked_sub(1).map_or(Sending::None, |at| self.sendings[usize::from(at)])
    }

    pub(crate) fn set_sending(&mut self, fence: u8, sending: Sending) {
        self.sendings[usize::from(fence) - 1] = sending;
    }

    /// The fences under which something was sent, and what became of it.
    pub(crate) fn sendings(&self) -> impl Iterator<Item = (u8, Sending)> {
        (1..).zip(self.sendings).filter(|(_, sending)| *sending != Sending::None)
    }

    pub(crate) fn executions(&self) -> usize {
        self.sendings.iter().filter(|sending| **sending == Sending::Executed).count()
    }

    /// Whether a grant would have a fence that there is room for.
    pub(crate) fn can_grant(&self) -> bool {
        usize::from(self.fences) < FENCES
    }

    pub(crate) const fn nonce(&self, proxy: usize) -> u8 {
        nonce(proxy, self.proxies[proxy].tries)
    }
}

/// The number of a claim; from 1.
const fn nonce(proxy: usize, tries: u8) -> u8 {
    proxy as u8 * (TRIES_MAX + 1) + tries
}
