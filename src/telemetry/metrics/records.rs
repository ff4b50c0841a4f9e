//! The numbers of stores of records, and of what routes make of keys.

use std::time::Duration;

use super::cell::{Counter, Level};
use super::children::Emit;
use super::family::Family;
use super::latency::{Buckets, Latency};
use super::samples::Samples;
use crate::policy::idempotency::problem::Code;
use crate::policy::idempotency::record::{Doubt, State};
use crate::policy::idempotency::response::{Bypassed, Status, Unstored};

/// From 0.1 ms, a commit to memory, to 2.5 s, beyond every deadline of a store.
const COMMIT: Buckets<9> =
    Buckets::from_micros([100, 250, 500, 1000, 2500, 10_000, 50_000, 250_000, 2_500_000]);

/// What a store is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// What there is.
    Peek,
    /// To let a request be sent.
    Claim,
    /// That its owner is still at work.
    Renew,
    /// To keep an answer.
    Complete,
    /// To forget what was not executed.
    Release,
    /// To note a doubt, or that it may be sent again.
    Doubt,
}

impl Operation {
    const ALL: [Self; 6] =
        [Self::Peek, Self::Claim, Self::Renew, Self::Complete, Self::Release, Self::Doubt];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Peek => "peek",
            Self::Claim => "claim",
            Self::Renew => "renew",
            Self::Complete => "complete",
            Self::Release => "release",
            Self::Doubt => "doubt",
        }
    }
}

/// What an operator or a probe has made of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It was executed.
    Executed,
    /// It was not.
    NotExecuted,
    /// It was removed.
    Purged,
}

/// [`Word`] in label form.
const WORDS: [&str; 3] = ["executed", "not_executed", "purged"];

/// The numbers of a store.
#[derive(Debug)]
pub struct StoreMetrics {
    /// 1 while it can be used.
    pub ready: Level,
    /// Bytes of its records, as of the last scrape.
    pub bytes: Level,
    /// Results that wait to be committed.
    pub spooled: Level,
    /// Leases that ended while their owner was at work.
    pub leases_lost: Counter,
    /// What the store has done of itself since it was opened, as of the last scrape.
    pub own: [Level; OWN.len()],
    /// Its records by state, as of the last scrape.
    pub entries: [Level; State::ALL.len()],
    kinds: &'static [&'static str],
    durations: [Latency<9>; Operation::ALL.len()],
    fenced: [Counter; Operation::ALL.len()],
    words: [Counter; WORDS.len()],
    /// By operation, then by kind.
    errors: Box<[Counter]>,
}

/// What a store does of itself, in label form.
const OWN: [&str; 5] =
    ["body_shed", "tombstone_purged", "unknown_expired", "written_weakly", "contested"];

impl StoreMetrics {
    pub(super) fn new(kinds: &'static [&'static str]) -> Self {
        Self {
            ready: Level::default(),
            bytes: Level::default(),
            spooled: Level::default(),
            leases_lost: Counter::default(),
            own: Default::default(),
            entries: Default::default(),
            kinds,
            durations: std::array::from_fn(|_| Latency::new(&COMMIT)),
            fenced: Default::default(),
            words: Default::default(),
            errors: (0..kinds.len() * Operation::ALL.len()).map(|_| Counter::default()).collect(),
        }
    }

    /// Counts an operation, and its fault if it had one, by the fault's place among the kinds.
    pub fn asked(&self, operation: Operation, took: Duration, fault: Option<usize>) {
        if let Some(latency) = self.durations.get(operation as usize) {
            latency.observe(took);
        }
        let Some(kind) = fault else { return };
        if let Some(counter) = self.errors.get(operation as usize * self.kinds.len() + kind) {
            counter.inc();
        }
    }

    /// Counts a record that an operator or a probe has settled.
    pub fn said(&self, word: Word) {
        if let Some(counter) = self.words.get(word as usize) {
            counter.inc();
        }
    }

    /// Counts a change that was refused because the record has another claimant.
    pub fn fenced(&self, operation: Operation) {
        if let Some(counter) = self.fenced.get(operation as usize) {
            counter.inc();
        }
    }
}

impl Emit for StoreMetrics {
    fn emit(&self, owner: &[&str], samples: &mut Samples) {
        let of = |operation: Operation| {
            let mut labels = owner.to_vec();
            labels.push(operation.as_str());
            labels
        };
        match samples.family() {
            Family::StoreReady => samples.gauge(owner, None, self.ready.get() as f64),
            Family::StoreBytes => samples.gauge(owner, None, self.bytes.get() as f64),
            Family::StoreSpooled => samples.gauge(owner, None, self.spooled.get() as f64),
            Family::StoreLeasesLost => {
                samples.counter(owner, None, self.leases_lost.get() as f64);
            }
            Family::StoreEntries => {
                for (level, state) in self.entries.iter().zip(State::ALL) {
                    samples.gauge(owner, Some(state.name()), level.get() as f64);
                }
            }
            Family::StoreOwn => {
                for (level, what) in self.own.iter().zip(OWN) {
                    samples.counter(owner, Some(what), level.get() as f64);
                }
            }
            Family::StoreFenced => {
                for (counter, operation) in self.fenced.iter().zip(Operation::ALL) {
                    samples.occurred(owner, operation.as_str(), counter.get());
                }
            }
            Family::StoreWords => {
                for (counter, word) in self.words.iter().zip(WORDS) {
                    samples.occurred(owner, word, counter.get());
                }
            }
            Family::StoreDuration => {
                for (latency, operation) in self.durations.iter().zip(Operation::ALL) {
                    samples.histogram(&of(operation), &latency.read());
                }
            }
            Family::StoreErrors => {
                let rows = self.errors.chunks(self.kinds.len().max(1));
                for (row, operation) in rows.zip(Operation::ALL) {
                    for (counter, kind) in row.iter().zip(self.kinds) {
                        samples.occurred(&of(operation), kind, counter.get());
                    }
                }
            }
            _ => {}
        }
    }
}

/// The numbers of a route whose requests carry keys.
#[derive(Debug, Default)]
pub struct KeyedMetrics {
    /// Results that came after their client had its answer.
    pub late: Counter,
    executed: Counter,
    replayed: Counter,
    unstored: [Counter; Unstored::ALL.len()],
    bypassed: [Counter; Bypassed::ALL.len()],
    rejected: [Counter; Code::ALL.len()],
    doubts: [Counter; Doubt::ALL.len()],
}

impl KeyedMetrics {
    /// Counts a request by what its answer says of its key.
    pub fn ended(&self, status: &Status) {
        let counter = match status {
            Status::Executed { .. } => Some(&self.executed),
            Status::Replayed { .. } => Some(&self.replayed),
            Status::Unstored(why) => self.unstored.get(*why as usize),
            Status::Bypassed(why) => self.bypassed.get(*why as usize),
            Status::Rejected(code) => self.rejected.get(*code as usize),
        };
        if let Some(counter) = counter {
            counter.inc();
        }
    }

    /// Counts an operation whose outcome was left unknown.
    pub fn doubted(&self, doubt: Doubt) {
        if let Some(counter) = self.doubts.get(doubt.index()) {
            counter.inc();
        }
    }

    fn emit_results(&self, owner: &[&str], samples: &mut Samples) {
        let of = |result| {
            let mut labels = owner.to_vec();
            labels.push(result);
            labels
        };
        samples.occurred(&of("executed"), "none", self.executed.get());
        samples.occurred(&of("replayed"), "none", self.replayed.get());
        for (counter, why) in self.unstored.iter().zip(Unstored::ALL) {
            samples.occurred(&of("unstored"), why.as_str(), counter.get());
        }
        for (counter, why) in self.bypassed.iter().zip(Bypassed::ALL) {
            samples.occurred(&of("bypassed"), why.as_str(), counter.get());
        }
        for (counter, code) in self.rejected.iter().zip(Code::ALL) {
            samples.occurred(&of("rejected"), code.as_str(), counter.get());
        }
    }
}

impl Emit for KeyedMetrics {
    fn emit(&self, owner: &[&str], samples: &mut Samples) {
        match samples.family() {
            Family::KeyedRequests => self.emit_results(owner, samples),
            Family::KeyedDoubts => {
                for (counter, doubt) in self.doubts.iter().zip(Doubt::ALL) {
                    samples.occurred(owner, doubt.name(), counter.get());
                }
            }
            Family::KeyedLate => samples.counter(owner, None, self.late.get() as f64),
            _ => {}
        }
    }
}
