//! The numbers of a route's fallback chain and of the answers that it keeps.

use super::cell::{Counter, Level};
use super::children::Emit;
use super::family::Family;
use super::samples::Samples;

/// What of the chain answered a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackLink {
    /// The last good answer.
    Stale,
    /// Another upstream.
    Upstream,
    /// A fixed answer.
    Respond,
    /// No link could: the failure was passed on.
    None,
}

impl FallbackLink {
    const ALL: [Self; 4] = [Self::Stale, Self::Upstream, Self::Respond, Self::None];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Upstream => "upstream",
            Self::Respond => "respond",
            Self::None => "none",
        }
    }
}

/// What happened to kept answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheEvent {
    /// A good answer was kept.
    Kept,
    /// A good answer was too large to be kept.
    TooLarge,
    /// An answer made room for others.
    Evicted,
    /// An answer was forgotten because an unsafe method changed what it shows (RFC 9111, 4.4).
    Invalidated,
    /// A request was answered by what another one in flight had fetched.
    Coalesced,
    /// A 304 said that an answer is still the present one (RFC 9111, 4.3.4).
    Confirmed,
    /// An answer was forgotten because its time was over.
    Expired,
}

impl CacheEvent {
    const ALL: [Self; 7] = [
        Self::Kept,
        Self::TooLarge,
        Self::Evicted,
        Self::Invalidated,
        Self::Coalesced,
        Self::Confirmed,
        Self::Expired,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::TooLarge => "too_large",
            Self::Evicted => "evicted",
            Self::Invalidated => "invalidated",
            Self::Coalesced => "coalesced",
            Self::Confirmed => "confirmed",
            Self::Expired => "expired",
        }
    }
}

/// The numbers of one route. Samples appear with the first event, for most routes have no chain.
#[derive(Debug, Default)]
pub struct FallbackMetrics {
    /// The bytes of the answers that are kept.
    pub cache_bytes: Level,
    /// The answers that are kept.
    pub cache_answers: Level,
    links: [Counter; FallbackLink::ALL.len()],
    events: [Counter; CacheEvent::ALL.len()],
}

impl FallbackMetrics {
    /// Counts what answered a failed request.
    pub fn answered(&self, link: FallbackLink) {
        if let Some(counter) = self.links.get(link as usize) {
            counter.inc();
        }
    }

    /// Counts what happened to so many answers.
    pub fn cache(&self, event: CacheEvent, answers: usize) {
        if let Some(counter) = self.events.get(event as usize) {
            counter.add(answers as u64);
        }
    }

    /// Whether an answer was ever kept.
    fn used(&self) -> bool {
        self.events.get(CacheEvent::Kept as usize).is_some_and(|kept| kept.get() > 0)
    }
}

impl Emit for FallbackMetrics {
    fn emit(&self, owner: &[&str], samples: &mut Samples) {
        match samples.family() {
            Family::RouteFallbacks => {
                for (counter, link) in self.links.iter().zip(FallbackLink::ALL) {
                    samples.occurred(owner, link.as_str(), counter.get());
                }
            }
            Family::RouteCacheEvents => {
                for (counter, event) in self.events.iter().zip(CacheEvent::ALL) {
                    samples.occurred(owner, event.as_str(), counter.get());
                }
            }
            Family::RouteCacheBytes if self.used() => {
                samples.gauge(owner, None, self.cache_bytes.get() as f64);
            }
            Family::RouteCacheAnswers if self.used() => {
                samples.gauge(owner, None, self.cache_answers.get() as f64);
            }
            _ => {}
        }
    }
}
