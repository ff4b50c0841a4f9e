//! Whether an answer may be kept, how old it is, and whether it may stand in for a failure
//! (RFC 9111, 3, 4.2 and 5.2; RFC 5861, 4).

use std::time::{Duration, Instant, SystemTime};

use super::Settings;
use super::directives::Directives;

/// What of an exchange decides whether its answer may be kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exchange {
    /// The request is a GET.
    pub get: bool,
    /// The status of the answer.
    pub status: u16,
    /// The request's directives.
    pub request: Directives,
    /// The answer's directives.
    pub answer: Directives,
    /// The request carries `Authorization`.
    pub authorization: bool,
    /// The request carries `Cookie`.
    pub cookie: bool,
    /// The answer's `Vary` names `Cookie`.
    pub vary_cookie: bool,
    /// The answer's `Vary` is `*`: no other request is ever answered by it.
    pub vary_any: bool,
    /// The answer sets a cookie, which is meant for one client.
    pub set_cookie: bool,
    /// The answer is a part of the whole (`Content-Range`), or goes on without an end by design
    /// (`text/event-stream`).
    pub partial: bool,
}

/// Whether an answer may be kept for other requests: what RFC 9111, 3 and 3.5 let a shared cache
/// store, and less. Only a whole 200 to a GET is kept, none that sets a cookie, none that has to be
/// validated before each use, and the answer to a request with credentials only where the upstream
/// says that it is for everybody. A cookie counts as a credential unless `Vary` names it.
#[must_use]
pub const fn storable(exchange: &Exchange) -> bool {
    let Exchange { request, answer, .. } = exchange;
    let for_all = answer.public || answer.s_maxage.is_some();
    let credentials = exchange.authorization || (exchange.cookie && !exchange.vary_cookie);
    exchange.get
        && exchange.status == 200
        && !request.no_store
        && !(answer.no_store || answer.private || answer.no_cache)
        && !(exchange.vary_any || exchange.set_cookie || exchange.partial)
        && (for_all || !credentials)
}

/// What is known of an answer's time when its head comes in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// When the request was sent, or earlier: an answer is never taken for younger than it is.
    pub asked: Instant,
    /// When the answer came.
    pub received: Instant,
    /// The same by the time of day, which `Date` and `Expires` are told in.
    pub received_wall: SystemTime,
    /// `Date`.
    pub date: Option<SystemTime>,
    /// `Expires`; a value that is no date is a time in the past, and so the same as none here.
    pub expires: Option<SystemTime>,
    /// `Age`.
    pub age: Option<Duration>,
}

/// The times of a kept answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    received: Instant,
    /// `corrected_initial_age` of RFC 9111, 4.2.3.
    initial_age: Duration,
    /// `freshness_lifetime` of RFC 9111, 4.2.1; no heuristic adds to it.
    lifetime: Duration,
    stale_if_error: Option<Duration>,
    /// Once stale it may not be used without the upstream's word (`must-revalidate`,
    /// `proxy-revalidate`, and `s-maxage`, which includes it).
    never_stale: bool,
}

/// Whether a kept answer may stand in for a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is still fresh, for so long.
    Fresh(Duration),
    /// It has been stale for so long.
    Stale(Duration),
    /// The answer does not allow it any more.
    Expired,
    /// The request does not want it.
    Unwanted,
}

impl Times {
    /// The times of an answer that has just come.
    #[must_use]
    pub fn new(arrival: &Arrival, answer: &Directives) -> Self {
        let Arrival { asked, received, received_wall, date, expires, age } = *arrival;
        let apparent = date.and_then(|date| received_wall.duration_since(date).ok());
        let delay = received.saturating_duration_since(asked);
        let corrected = age.unwrap_or_default().saturating_add(delay);
        let lifetime = answer.s_maxage.or(answer.max_age).unwrap_or_else(|| {
            let since = date.unwrap_or(received_wall);
            expires.and_then(|at| at.duration_since(since).ok()).unwrap_or_default()
        });
        Self {
            received,
            initial_age: apparent.unwrap_or_default().max(corrected),
            lifetime,
            stale_if_error: answer.stale_if_error,
            never_stale: answer.must_revalidate || answer.s_maxage.is_some(),
        }
    }

    /// The answer's age (`current_age` of RFC 9111, 4.2.3).
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        self.initial_age.saturating_add(now.saturating_duration_since(self.received))
    }

    /// Whether no request can use the answer any more, whatever it wants.
    #[must_use]
    pub fn is_over(&self, settings: &Settings, now: Instant) -> bool {
        self.judge(settings, &Directives::default(), now) == Use::Expired
    }

    /// Whether the answer may stand in for a failure of this request.
    #[must_use]
    pub fn judge(&self, settings: &Settings, request: &Directives, now: Instant) -> Use {
        let age = self.age(now);
        let left = self.lifetime.saturating_sub(age);
        let stale = age.saturating_sub(self.lifetime);
        let fresh = age < self.lifetime;
        let within = |most: Option<Duration>| most.is_none_or(|most| stale <= most);
        let window = settings.stale_if_error.get();
        if !fresh && (self.never_stale || stale > window || !within(self.stale_if_error)) {
            return Use::Expired;
        }
        // `max-age` alone means that nothing stale is wanted (RFC 9111, 5.2.1.1).
        let bears_stale = request.max_age.is_none()
            || request.max_stale.is_some()
            || request.stale_if_error.is_some();
        let unwanted = request.no_cache
            || request.max_age.is_some_and(|most| age > most)
            || request.min_fresh.is_some_and(|least| left < least)
            || !within(request.max_stale)
            || !within(request.stale_if_error)
            || !(fresh || bears_stale);
        match (unwanted, fresh) {
            (true, _) => Use::Unwanted,
            (false, true) => Use::Fresh(left),
            (false, false) => Use::Stale(stale),
        }
    }
}
