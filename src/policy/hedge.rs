//! Slow, or just unlucky? A second copy of a request that takes longer than most.
//!
//! When an attempt has taken as long as all but the slowest few take, another one is sent to
//! another endpoint, and the first acceptable answer wins (Dean and Barroso, "The Tail at Scale",
//! 2013). That pays only while few are sent: a copy goes to an endpoint that may be busy already,
//! and where everything has become slow, copies of everything would make it worse. So, all of these
//! must hold:
//!
//! - the request may be executed twice, and there is another endpoint;
//! - there is more time left than half of all requests take;
//! - the upstream's limit is less than 80 % full, and its circuit is closed;
//! - the budget pays: copies are at most `max_extra` of the first attempts, and none are given for
//!   nothing. `k` copies need `k / max_extra` first attempts before them, except for the few that
//!   can be saved up ([`SAVED_MAX`]).
//!
//! The delay is a percentile of the route's own latencies ([`latencies`]), known after 100 of them
//! and found anew every three seconds, or a fixed time.
//!
//! Not here: sending, choosing the winner and cancelling the loser. A first attempt that is
//! cancelled because its copy won has a latency too, at least as long as it took until then, and is
//! to be recorded: without the slow ones the percentile would fall, and more and more be copied.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::latencies::Latencies;
use super::Mode;
use crate::units::{Period, Ratio, text_value};

pub mod latencies;
#[cfg(test)]
mod tests;

/// The shortest delay: a timer is not more exact, and a copy of what is that quick saves nothing.
pub const DELAY_MIN: Duration = Duration::from_millis(1);

/// How many copies can be saved up. A burst of slow answers is longer than one, and more than these
/// would be a burst of load.
pub const SAVED_MAX: u32 = 10;

/// From this part of the upstream's limit on there is no room for copies.
const FULL: f64 = 0.8;

/// One copy, in the unit of the budget: a millionth.
const COPY: u64 = 1_000_000;

/// When a second copy of a slow request is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Hedge")]
pub struct Settings {
    /// Whether the policy acts.
    #[serde(default)]
    pub mode: Mode,
    /// How long the first attempt may take: a percentile of the route's latencies, `p50` to
    /// `p99.9`, or a time.
    #[serde(default)]
    pub after: After,
    /// The most copies, as a share of first attempts.
    #[serde(default = "five_percent")]
    pub max_extra: Ratio,
}

const fn five_percent() -> Ratio {
    Ratio::percent(5)
}

/// How long the first attempt may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// As long as this many of a thousand requests take, 500 to 999.
    Permille(u16),
    /// So long; at least [`DELAY_MIN`].
    Time(Period),
}

impl Default for After {
    fn default() -> Self {
        Self::Permille(950)
    }
}

impl FromStr for After {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("`{text}` is not a delay; write p95, p99.9 or a time such as 30ms");
        let text = text.trim();
        let Some(percent) = text.strip_prefix('p') else {
            let time: Period = text.parse().map_err(|_| wanted())?;
            if *time < DELAY_MIN {
                return Err(format!("`{text}` is shorter than the shortest delay, 1ms"));
            }
            return Ok(Self::Time(time));
        };
        let (whole, tenth) = percent.split_once('.').unwrap_or((percent, "0"));
        let digits = |text: &str, most| {
            (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
        };
        if !digits(whole, 3) || !digits(tenth, 1) {
            return Err(wanted());
        }
        let number = |text: &str| text.parse::<u16>().map_err(|_| wanted());
        let permille = number(whole)? * 10 + number(tenth)?;
        if !(500..=999).contains(&permille) {
            return Err(format!("`{text}` is not a percentile from p50 to p99.9"));
        }
        Ok(Self::Permille(permille))
    }
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permille(n) if n % 10 == 0 => write!(f, "p{}", n / 10),
            Self::Permille(n) => write!(f, "p{}.{}", n / 10, n % 10),
            Self::Time(time) => time.fmt(f),
        }
    }
}

text_value!(
    After,
    "HedgeAfter",
    r"^(p[0-9]{2}(\.[0-9])?|[0-9.]+(us|ms|s|m|h))$",
    "a percentile such as p95 or p99.9, or a length of time such as 30ms"
);

/// Where a percentile is looked up: at a tenth more of its tail. Where just so many requests are
/// slow as the tail has room for, chance would else say at each look whether the delay is that of
/// the quick ones or of the slow.
const fn found_at(permille: u16) -> u16 {
    let tail = 1000_u16.saturating_sub(permille);
    1000_u16.saturating_sub((tail * 11).div_ceil(10))
}

/// What the decision depends on, as it is at that moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    /// Executing it twice does what executing it once does: its method is idempotent, or it has an
    /// idempotency key.
    pub repeatable: bool,
    /// Its body, if any, can be sent again.
    pub replayable: bool,
    /// What is left of its time; `None` = there is no end.
    pub remaining: Option<Duration>,
    /// Requests in flight as a part of the upstream's limit; 0 where there is none.
    pub fullness: f64,
    /// The circuit to the upstream is closed.
    pub closed: bool,
    /// The first attempt is a trial of a circuit that may close again.
    pub trial: bool,
    /// There is an endpoint that has not been tried.
    pub other_endpoint: bool,
}

macro_rules! reasons {
    ($($name:ident = $text:literal, $doc:literal;)*) => {
        /// Why no copy is sent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Why { $(#[doc = $doc] $name,)* }

        impl Why {
            /// Every reason, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The spelling in labels and logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What it means, in a sentence for people.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $doc,)* }
            }
        }
    };
}

reasons! {
    Off = "off", "The policy is off.";
    MethodUnsafe = "method_unsafe", "The method is not safe to repeat.";
    BodyTooLarge = "body_too_large", "The body is too large to have been kept.";
    Unknown = "unknown", "Too few requests have been seen to know what is slow.";
    Trial = "trial", "It is a trial of a half-open circuit, which is never copied.";
    CircuitOpen = "circuit_open", "The circuit is not closed.";
    NoEndpoint = "no_endpoint", "There is no other endpoint.";
    Deadline = "deadline", "Less time is left than half of all requests take.";
    Limit = "limit", "The upstream's limit is nearly full.";
    Budget = "budget", "As many copies as may be have been sent.";
}

/// The state of a route: its latencies, and the copies that it may send.
#[derive(Clone, Debug)]
pub struct Hedge {
    latencies: Latencies,
    /// What is saved up, in millionths of a copy.
    saved: u64,
}

impl Hedge {
    /// One that has seen nothing, and so sends nothing.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { latencies: Latencies::new(now), saved: 0 }
    }

    /// Counts a first attempt, and saves its share of a copy.
    pub fn first(&mut self, s: &Settings) {
        let share = (s.max_extra.get() * COPY as f64).round() as u64;
        self.saved = (self.saved + share).min(u64::from(SAVED_MAX) * COPY);
    }

    /// Learns how long a first attempt took, or at least took until its copy had won.
    pub fn record(&mut self, s: &Settings, latency: Duration, now: Instant) {
        let permille = match s.after {
            After::Permille(permille) => found_at(permille),
            After::Time(_) => 500,
        };
        self.latencies.record(permille, latency, now);
    }

    /// How long to wait for the first attempt before asking [`Hedge::send`].
    ///
    /// # Errors
    /// Why there will be no copy whatever happens meanwhile, so that no timer is needed.
    pub fn delay(&self, s: &Settings, facts: &Facts) -> Result<Duration, Why> {
        self.allowed(s, facts)?;
        let delay = self.after(s).ok_or(Why::Unknown)?;
        match facts.remaining {
            Some(remaining) if remaining <= delay => Err(Why::Deadline),
            _ => Ok(delay),
        }
    }

    /// Decides, when the first attempt has taken that long or has failed, whether a copy is sent,
    /// and pays for it.
    ///
    /// # Errors
    /// Why not; nothing is taken then.
    pub fn send(&mut self, s: &Settings, facts: &Facts) -> Result<(), Why> {
        self.allowed(s, facts)?;
        if facts.fullness >= FULL {
            return Err(Why::Limit);
        }
        // What takes as long as half of all requests do has an even chance to be in vain.
        let needed = self.latencies.median().or_else(|| self.after(s)).ok_or(Why::Unknown)?;
        if facts.remaining.is_some_and(|remaining| remaining <= needed) {
            return Err(Why::Deadline);
        }
        self.saved = self.saved.checked_sub(COPY).ok_or(Why::Budget)?;
        Ok(())
    }

    /// Gives back what was paid for a copy that was not sent after all.
    pub fn give_back(&mut self) {
        self.saved = (self.saved + COPY).min(u64::from(SAVED_MAX) * COPY);
    }

    /// How many copies the budget would pay for now.
    #[must_use]
    pub fn available(&self) -> f64 {
        self.saved as f64 / COPY as f64
    }

    /// The delay as it is now; `None` while too little is known.
    #[must_use]
    pub fn after(&self, s: &Settings) -> Option<Duration> {
        match s.after {
            After::Time(time) => Some(time.get()),
            After::Permille(permille) => self.latencies.quantile(found_at(permille)),
        }
        .map(|delay| delay.max(DELAY_MIN))
    }

    /// What no wait makes better.
    fn allowed(&self, s: &Settings, facts: &Facts) -> Result<(), Why> {
        match facts {
            _ if s.mode == Mode::Off => Err(Why::Off),
            Facts { repeatable: false, .. } => Err(Why::MethodUnsafe),
            Facts { replayable: false, .. } => Err(Why::BodyTooLarge),
            Facts { trial: true, .. } => Err(Why::Trial),
            Facts { closed: false, .. } => Err(Why::CircuitOpen),
            Facts { other_endpoint: false, .. } => Err(Why::NoEndpoint),
            _ => Ok(()),
        }
    }
}
