//! A line of the log that may be due with every request, said seldom.

use std::time::{Duration, Instant};

/// The time between two such lines: often enough to see that a fault lasts, too seldom to fill a
/// disk with it.
const APART: Duration = Duration::from_secs(10);

/// When a line was said last, and how often it was not since.
#[derive(Debug, Default)]
pub struct Seldom {
    said: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// Whether the line is said now, and then how often it was not said before.
    pub fn say(&mut self, now: Instant) -> Option<u64> {
        if self.said.is_some_and(|said| now.saturating_duration_since(said) < APART) {
            self.unsaid = self.unsaid.saturating_add(1);
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests;
