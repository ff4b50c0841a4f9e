//! When somebody who waits for a record should ask again: the server tells nobody, so the questions
//! come fast at first and slower then.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};

use crate::policy::idempotency::record::Rid;

/// The wait before the first question again, and before all that come late.
const WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// After such a pause nobody has been waiting, and the next one starts anew.
const PAUSE: Duration = Duration::from_secs(2);
/// How many records are told apart; beyond it, whoever waits asks slowly.
const RECORDS_MAX: usize = 4_096;

/// When a record was asked for last, and the wait after that.
type Last = (Instant, Duration);

/// The records that somebody waits for.
#[derive(Debug, Default)]
pub(super) struct Polls(Mutex<HashMap<Rid, Last>>);

impl Polls {
    /// How long to wait before the next question.
    pub(super) fn next(&self, rid: Rid, now: Instant) -> Duration {
        let mut waited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = |at: &Instant| now.saturating_duration_since(*at) > PAUSE;
        if waited.len() >= RECORDS_MAX {
            waited.retain(|_, (at, _)| !old(at));
        }
        let wait = match waited.get(&rid) {
            Some((at, last)) if !old(at) => (*last * 2).min(WAIT.1),
            None if waited.len() >= RECORDS_MAX => WAIT.1,
            _ => WAIT.0,
        };
        if waited.len() < RECORDS_MAX || waited.contains_key(&rid) {
            waited.insert(rid, (now, wait));
        }
        drop(waited);
        jittered(wait)
    }
}

/// Between half of it and all of it, so that those who wait for one record do not ask together.
fn jittered(wait: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness there is no jitter, which costs only evenness.
    let _ = SystemRandom::new().fill(&mut byte);
    wait / 2 + wait / 2 * u32::from(byte[0]) / 255
}

#[cfg(test)]
mod tests;
