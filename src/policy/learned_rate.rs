//! How much does a third party allow? A rate that is learned from its answers.
//!
//! Nobody asks a payment provider or a mail service for its limits twice: they say 429, and this
//! machine finds the rate at which they do not. It is the adaptive mode of the AWS SDKs (a token
//! bucket whose rate follows CUBIC: Ha, Rhee and Xu, "CUBIC: a new TCP-friendly high-speed TCP
//! variant", 2008; RFC 9438), changed where that would go on provoking refusals:
//!
//! - nothing is limited until the third party says so, by a throttle (429, or 503 with
//!   `Retry-After`) or by what it advertises;
//! - a throttle cuts the rate to 0.7 of the *ceiling*, the rate that is thought to be allowed, and
//!   the curve brings it back there within seconds, slower the nearer it is;
//! - throttles may be half a per cent of the answers, and pauses two per cent of the time. At the
//!   ceiling the rate stays until that has paid for another probe, and then climbs along the
//!   curve's other half, stretched: a few per cent in the first ten seconds, tenfold within minutes
//!   if nobody minds. A probe that fails moves the ceiling most of the way to the rate that it came
//!   to; one that got far is followed by another the sooner;
//! - a throttle soon after a pause means that the ceiling is not known any more, and it is sought
//!   anew;
//! - a third party that accepts nothing any more counts by a window that is used up. It is asked
//!   now and then, and what it accepted over the whole window is the ceiling;
//! - `Retry-After` stops everything, for [`PAUSE_MAX`] at most;
//! - what the third party advertises (`RateLimit`, `RateLimit-Policy`) is the most that is sent,
//!   and the rate climbs there without stretching.
//!
//! Requests take a token each, further attempts too. A request that finds none may wait in a line,
//! in order of arrival; whoever leaves it leaves nothing behind. The machine tells each how long to
//! wait, and is asked again before that is over, for the rate may have changed meanwhile: what
//! leaves the line leaves it evenly, so that a third party need not allow for bursts.
//!
//! A third party that allows 50 a second is so kept at 46 to 50 with less than one throttle in a
//! hundred, by bucket or by window, from the first minute on. Several proxies before one third
//! party find shares of its limit that add up to it. One that allows no more of a burst than the
//! network makes of evenly sent requests is kept to less than it allows.
//!
//! Not here: what counts as a throttle, reading header fields, sleeping.

use std::time::{Duration, Instant};

use self::advice::Advised;
use self::control::{Control, Now};
use self::line::Line;

pub use self::advice::Advice;
pub use self::line::{MAX_WAITING, Ticket};

mod advice;
mod control;
mod curve;
mod cycle;
mod line;
mod measured;
#[cfg(test)]
mod tests;

/// The lowest rate that is learned, requests a second: slower ones are found by pauses.
pub const MIN_RATE: f64 = 0.5;

/// The longest pause that a third party can ask for: after it one request finds out.
pub const PAUSE_MAX: Duration = Duration::from_secs(300);

/// From this length on a time is measured well enough in the whole seconds of header fields. A
/// shorter pause just says that it has been too much; a longer one is a part of the third party's
/// cycle.
const LONG: Duration = Duration::from_secs(5);

/// For how long one that was held back means that there is demand.
const DEMAND_HOLDS: Duration = Duration::from_secs(1);

/// How long a burst is, as a time at the present rate, unless the settings say how many it has.
const BURST: Duration = Duration::from_millis(250);

/// What the settings say of the rate. Read at every call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bounds {
    /// The most, requests a second, whatever is learned; `None` = no bound.
    pub rate: Option<f64>,
    /// How many may pass at once after a pause; `None` = a quarter of a second's worth.
    pub burst: Option<u32>,
    /// Whether the rate is only looked at: then more is sent than it allows.
    pub observed: bool,
}

impl Bounds {
    /// The lowest rate: the settings may ask for a lower one than can be learned.
    fn least(&self) -> f64 {
        self.rate.map_or(MIN_RATE, |rate| rate.min(MIN_RATE))
    }
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// It goes now.
    Pass,
    /// It stands in the line and asks again after this time.
    Wait(Ticket, Duration),
    /// It does not go, and has taken nothing: its turn would come after this time.
    Refused(Duration),
}

/// How an attempt ended, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// When it was sent.
    pub began: Instant,
    /// Whether the third party said that it gets too much.
    pub throttled: bool,
    /// How long the third party asked us to wait.
    pub retry_after: Option<Duration>,
    /// What it advertises.
    pub advice: Option<Advice>,
}

impl End {
    /// How long the third party wants no request: it says so, or that nothing is left of a quota.
    fn pause(&self) -> Duration {
        let left = self.advice.and_then(|advice| advice.left);
        let used_up = left.filter(|(left, _)| *left == 0).map(|(_, until)| until);
        self.retry_after.or(used_up).unwrap_or_default().min(PAUSE_MAX)
    }
}

/// What is known, for operators.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The rate now, requests a second; `None` = nothing is limited yet.
    pub rate: Option<f64>,
    /// The rate that is thought to be allowed.
    pub ceiling: Option<f64>,
    /// The rate that the third party advertises.
    pub advertised: Option<f64>,
    /// How long nothing is sent because the third party asked for it.
    pub paused: Option<Duration>,
    /// How many stand in the line.
    pub waiting: usize,
}

/// The learned rate and the line before it.
#[derive(Clone, Debug)]
pub struct LearnedRate {
    control: Control,
    advised: Advised,
    line: Line,
    paused_until: Option<Instant>,
    /// When the last request was held back.
    held_back: Option<Instant>,
}

impl LearnedRate {
    /// Nothing is known.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            control: Control::new(now),
            advised: Advised::default(),
            line: Line::new(now),
            paused_until: None,
            held_back: None,
        }
    }

    /// Asks for one request, which may wait for `patience`. A request that passes is to be sent.
    #[must_use]
    pub fn ask(&mut self, b: &Bounds, patience: Duration, now: Instant) -> Answer {
        let rate = self.bring_up_to(b, now);
        let paused = self.paused(now);
        let Some(rate) = rate.filter(|_| !(paused.is_zero() && self.line.pass())) else {
            self.control.sent(now);
            return Answer::Pass;
        };
        self.held_back = Some(now);
        let wait = paused + self.line.wait_of_next(rate);
        if wait > patience {
            return Answer::Refused(wait);
        }
        match self.line.enter() {
            Some(ticket) => Answer::Wait(ticket, line::nap(wait)),
            None => Answer::Refused(wait),
        }
    }

    /// Asks again for one that has waited. Unless it is told to wait on, its ticket is void.
    #[must_use]
    pub fn turn(&mut self, b: &Bounds, ticket: Ticket, patience: Duration, now: Instant) -> Answer {
        let rate = self.bring_up_to(b, now);
        let paused = self.paused(now);
        let Some(rate) = rate.filter(|_| !(paused.is_zero() && self.line.take(ticket))) else {
            self.line.leave(ticket);
            self.control.sent(now);
            return Answer::Pass;
        };
        self.held_back = Some(now);
        let wait = paused + self.line.wait_of(ticket, rate);
        if wait > patience {
            self.line.leave(ticket);
            return Answer::Refused(wait);
        }
        Answer::Wait(ticket, line::nap(wait))
    }

    /// One in the line goes away. The ones behind it move up.
    pub fn leave(&mut self, ticket: Ticket) {
        self.line.leave(ticket);
    }

    /// Counts a further attempt of a request that has passed. It has waited once and takes the next
    /// token before the line does; `false` = it must not be sent, because the third party has asked
    /// for a pause or a second's worth of tokens is owed already.
    #[must_use]
    pub fn again(&mut self, b: &Bounds, now: Instant) -> bool {
        let goes = match self.bring_up_to(b, now) {
            Some(rate) => self.paused(now).is_zero() && self.line.borrow(rate),
            None => true,
        };
        if goes {
            self.control.sent(now);
        }
        goes
    }

    /// Counts a request that was sent whatever the rate allows, as where it is only looked at.
    pub fn sent_anyway(&mut self, now: Instant) {
        self.control.sent(now);
    }

    /// Learns from the end of an attempt that brought an answer.
    pub fn ended(&mut self, b: &Bounds, end: &End, now: Instant) {
        if let Some(advice) = end.advice {
            self.advised.hear(advice, now);
        }
        self.bring_up_to(b, now);
        if !end.throttled {
            self.control.accepted(b, end.began, now);
            return;
        }
        let pause = end.pause();
        if let Some(kept) = self.control.throttled(b, end.began, pause, now) {
            self.line.keep(kept);
        }
        let until = now + pause;
        if self.paused_until.is_none_or(|known| known < until) {
            self.paused_until = Some(until);
            self.line.stop_until(until);
        }
    }

    /// What is known at this time.
    #[must_use]
    pub fn view(&self, b: &Bounds, now: Instant) -> View {
        let mut present = self.clone();
        let rate = present.bring_up_to(b, now);
        View {
            rate,
            ceiling: present.control.ceiling(),
            advertised: present.advised.pace(now),
            paused: Some(present.paused(now)).filter(|left| !left.is_zero()),
            waiting: present.line.len(),
        }
    }

    fn paused(&self, now: Instant) -> Duration {
        self.paused_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Brings rate and tokens up to this time; the rate that is allowed, if there is a limit.
    fn bring_up_to(&mut self, b: &Bounds, now: Instant) -> Option<f64> {
        let advertised = self.advised.pace(now);
        let recent = |at: Instant| now.saturating_duration_since(at) <= DEMAND_HOLDS;
        let held_back = self.held_back.is_some_and(recent);
        let paused = !self.paused(now).is_zero();
        let learned = self.control.rate(Now { advertised, held_back, paused, now });
        let bounds = [learned, advertised, b.rate];
        let rate = bounds.into_iter().flatten().reduce(f64::min)?.max(b.least());
        self.line.fill(rate, b.burst, now);
        Some(rate)
    }
}
