//! The limit of a third party: so many requests a second, and 429 for the rest.

use std::time::Instant;

/// A bucket that holds a tenth of a second's requests, and at least one.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket for so many requests a second.
    pub(crate) fn new(rate: f64, now: Instant) -> Self {
        let mut bucket = Self { rate, tokens: 0.0, filled: now };
        bucket.tokens = bucket.size();
        bucket
    }

    fn size(&self) -> f64 {
        (self.rate / 10.0).max(1.0)
    }

    /// Takes one request, or refuses it.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * self.rate).min(self.size());
        self.filled = now;
        let passes = self.tokens >= 1.0;
        if passes {
            self.tokens -= 1.0;
        }
        passes
    }

    /// The fields `RateLimit-Policy` and `RateLimit` of the IETF's draft on such fields.
    pub(crate) fn fields(&self) -> [(&'static str, String); 2] {
        let (quota, left) = (self.rate.round(), self.tokens.floor());
        [
            ("ratelimit-policy", format!("\"default\";q={quota};w=1")),
            ("ratelimit", format!("\"default\";r={left};t=1")),
        ]
    }
}
