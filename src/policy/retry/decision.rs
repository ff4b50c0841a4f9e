//! The decision after one attempt, and the closed list of reasons not to try again.

use std::time::Duration;

use super::backoff::{self, part};
use super::{Settings, UnsafeMethods};
use crate::policy::Mode;
use crate::policy::outcome::{End, Hint, Outcome};

/// The most that is added at random to a wait that the peer asked for, as a share of it, so that
/// clients which were turned away together do not return together.
const HINT_SPREAD: f64 = 0.25;

/// What the decision needs to know of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method is idempotent by RFC 9110 section 9.2.2: GET, HEAD, OPTIONS, TRACE, PUT or
    /// DELETE.
    pub safe: bool,
    /// The body can be sent from its first byte: it was kept whole, was not touched, or is empty.
    pub replayable: bool,
    /// The request carries a key by which the peer is known to recognise a repetition.
    pub keyed: bool,
    /// Which retry of the caller's this request already is (`x-retry-attempt`); 0 = none.
    pub inbound_attempt: u32,
}

/// The attempt that has just ended.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    /// Its number; the first send is 1.
    pub number: u32,
    /// How it ended.
    pub outcome: &'a Outcome,
    /// Whether the answer carries a header of this lower-case name.
    pub has_header: &'a dyn Fn(&str) -> bool,
    /// The wait that preceded it; zero for the first.
    pub previous_wait: Duration,
    /// It was a trial of a circuit that is half open.
    pub trial: bool,
    /// An earlier attempt of the request was answered by a peer's overload protection.
    pub shed_before: bool,
    /// The answer is a failure that a peer proxy has passed on after its own retries
    /// (`x-outrigger-tried`), and there is no other endpoint to ask.
    pub tried_there: bool,
}

/// Whether another attempt may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// No: what the attempt ended in is passed on. `None` = there was nothing to retry; else the
    /// reason for which an end that is worth a retry gets none.
    Stop(Option<Suppressed>),
    /// Yes, if the budget can pay.
    Retry {
        /// The wait before it.
        after: Duration,
        /// It costs the budget half, because the upstream executed nothing of the last attempt.
        cost_half: bool,
    },
}

/// Declares the enum with its spelling and its meaning in one table.
macro_rules! suppressed {
    ($($name:ident = $text:literal, $doc:literal;)*) => {
        /// Why an end of an attempt that is worth a retry got none. The last four are not found by
        /// [`decide`] but by its caller, after it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Suppressed { $(#[doc = $doc] $name,)* }

        impl Suppressed {
            /// Every reason, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Every spelling, in the same order.
            pub const NAMES: &'static [&'static str] = &[$($text,)*];

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

suppressed! {
    TrialAttempt = "trial", "It was a trial of a half-open circuit, which is never retried.";
    MethodUnsafe = "method_unsafe", "The method is not safe to repeat and may have been executed.";
    BodyTooLarge = "body_too_large", "The body was sent and is not kept: too large, or too many.";
    Attempts = "attempts", "All attempts that the route allows are used.";
    Amplification = "amplification", "It is a retry of the caller's; ours would multiply it.";
    PeerTried = "peer_tried", "The peer's own proxy has tried, and there is no other endpoint.";
    PeerShed = "peer_shed", "A second peer shed the request: there is too little capacity.";
    Pushback = "pushback", "The peer said that it wants no retry.";
    RetryAfterTooLong = "retry_after_too_long", "The peer asked for too long a wait.";
    Deadline = "deadline", "The wait does not fit into the time that is left.";
    Budget = "budget", "The upstream's retry budget is spent.";
    CircuitOpen = "circuit_open", "The circuit had opened by then.";
    NoEndpoint = "no_endpoint", "No endpoint could be chosen by then.";
    RateLimit = "rate_limit", "It would have gone beyond the rate that the upstream allows.";
}

impl Suppressed {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The place of this reason in [`Suppressed::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether the retries that there can be were made, or must not be: a caller's proxy that made
    /// them once more would only multiply them.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::TrialAttempt
                | Self::Attempts
                | Self::Amplification
                | Self::PeerTried
                | Self::Budget
        )
    }
}

/// Decides what follows on an attempt that has just ended.
///
/// `remaining` is the time to the request's deadline, if it has one; `random` is from `[0, 1)`. The
/// reasons are judged from those that never change for the request to those that depend on the
/// moment, so that the one reported is the one to act on.
#[must_use]
pub fn decide(
    s: &Settings,
    request: &Request,
    attempt: &Attempt<'_>,
    remaining: Option<Duration>,
    random: f64,
) -> Decision {
    let outcome = attempt.outcome;
    let worth_it = s.on.iter().any(|condition| condition.matches(outcome, attempt.has_header));
    if s.mode == Mode::Off || !worth_it {
        return Decision::Stop(None);
    }
    if let Some(reason) = forbidden(s, request, attempt) {
        return Decision::Stop(Some(reason));
    }
    match wait(s, attempt, random) {
        Err(reason) => Decision::Stop(Some(reason)),
        Ok(after) if remaining.is_some_and(|remaining| after >= remaining) => {
            Decision::Stop(Some(Suppressed::Deadline))
        }
        Ok(after) => Decision::Retry { after, cost_half: outcome.unsent },
    }
}

/// The reason, if any, for which no further attempt may be made however long it waits.
fn forbidden(s: &Settings, request: &Request, attempt: &Attempt<'_>) -> Option<Suppressed> {
    let outcome = attempt.outcome;
    let repeatable = request.safe
        || match s.unsafe_methods {
            UnsafeMethods::UnsentOrKeyed => outcome.unsent || request.keyed,
            UnsafeMethods::Never => false,
            UnsafeMethods::Always => true,
        };
    if attempt.trial {
        Some(Suppressed::TrialAttempt)
    } else if !repeatable {
        Some(Suppressed::MethodUnsafe)
    } else if !request.replayable {
        Some(Suppressed::BodyTooLarge)
    } else if attempt.number >= s.max_attempts {
        Some(Suppressed::Attempts)
    } else if attempt.number > retries_allowed(s, request, outcome) {
        Some(Suppressed::Amplification)
    } else if attempt.tried_there && !outcome.unsent {
        Some(Suppressed::PeerTried)
    } else if outcome.peer_shed && attempt.shed_before {
        Some(Suppressed::PeerShed)
    } else if outcome.end == End::DeadlineExceeded {
        Some(Suppressed::Deadline)
    } else {
        None
    }
}

/// How many retries the request may have. Each proxy of a chain that retries multiplies the load on
/// the last one, so a request that is already a retry gets half of ours, rounded down, and a second
/// retry none. An attempt of which nothing was executed put no load there and is not cut.
fn retries_allowed(s: &Settings, request: &Request, outcome: &Outcome) -> u32 {
    let own = s.max_attempts.saturating_sub(1);
    match request.inbound_attempt {
        _ if outcome.unsent => own,
        0 => own,
        1 => own / 2,
        _ => 0,
    }
}

/// The wait: what the peer asked for and up to a quarter more, or our own backoff.
fn wait(s: &Settings, attempt: &Attempt<'_>, random: f64) -> Result<Duration, Suppressed> {
    match attempt.outcome.hint.filter(|_| s.retry_after.honour) {
        Some(Hint::Stop) => Err(Suppressed::Pushback),
        Some(Hint::Wait(asked)) if asked > s.retry_after.max.get() => {
            Err(Suppressed::RetryAfterTooLong)
        }
        Some(Hint::Wait(asked)) => Ok(asked.saturating_add(part(asked, HINT_SPREAD * random))),
        None => Ok(backoff::wait(&s.backoff, attempt.number, attempt.previous_wait, random)),
    }
}
