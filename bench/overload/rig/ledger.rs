//! What an upstream did, second by second from its first request on.

use std::sync::OnceLock;
use std::time::Instant;

use outrigger::shared::Shared;
use serde_json::{Value, json};

/// What became of a request at the upstream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    Arrived,
    /// Served, and its client was still there.
    Done,
    /// Served for nobody: the client had left.
    Wasted,
    /// Refused with 429.
    Refused,
}

const FATES: [(&str, Fate); 4] = [
    ("arrived", Fate::Arrived),
    ("done", Fate::Done),
    ("wasted", Fate::Wasted),
    ("refused", Fate::Refused),
];

/// The counts of one second, by the place of the fate.
type Second = [u64; FATES.len()];

/// The counts of one upstream.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    first: OnceLock<Instant>,
    seconds: Shared<Vec<Second>>,
}

impl Ledger {
    /// Counts one request; the first one begins second 0. True for that one.
    pub(crate) fn count(&self, fate: Fate, now: Instant) -> bool {
        let begins = self.first.get().is_none() && self.first.set(now).is_ok();
        let first = self.first.get().copied().unwrap_or(now);
        let at = now.saturating_duration_since(first).as_secs() as usize;
        let mut seconds = self.seconds.lock();
        if seconds.len() <= at {
            seconds.resize(at + 1, Second::default());
        }
        if let Some(second) = seconds.get_mut(at) {
            second[fate as usize] += 1;
        }
        begins
    }

    /// Totals and seconds, by the name of the fate.
    pub(crate) fn report(&self) -> Value {
        let seconds = self.seconds.lock();
        let mut report = json!({ "seconds": {} });
        for (name, fate) in FATES {
            let series: Vec<u64> = seconds.iter().map(|second| second[fate as usize]).collect();
            report[name] = json!(series.iter().sum::<u64>());
            report["seconds"][name] = json!(series);
        }
        report
    }
}
