//! A rate that is learned from the upstream: what a request asks of it, and what an attempt teaches
//! it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;

use super::attempt::Tried;
use super::context::Context;
use super::error::Refusal;
use super::headers::quota;
use crate::clock;
use crate::policy::Mode;
use crate::policy::learned_rate;
use crate::policy::outcome::{Hint, Outcome};
use crate::policy::rate_limit::Settings;
use crate::snapshot::learning::{Asked, Learning, Place};
use crate::snapshot::limit::Reserved;
use crate::snapshot::route::{Route, Target};
use crate::telemetry::metrics::Would;
use crate::telemetry::reason::Reason;

/// A turn under a rate limit that a request waits for. It is given back when this is dropped.
pub enum Turn {
    /// At a known time.
    Fixed(Reserved),
    /// When the learned rate lets it.
    Learned(Place),
}

/// Asks the learned rate for a request: `Ok(None)` = it goes now.
pub fn ask(
    ctx: &mut Context,
    route: &Route,
    learning: &Arc<Learning>,
    settings: &Settings,
) -> Result<Option<Turn>, Refusal> {
    let now = clock::now();
    if settings.mode == Mode::Observe {
        if learning.observe(settings, now) {
            ctx.would(route, Would::RateLimit);
        }
        return Ok(None);
    }
    let patience = settings.patience();
    match learning.ask(settings, patience.min(left(ctx, now)), now) {
        Asked::Pass => Ok(None),
        Asked::Wait(place) => Ok(Some(Turn::Learned(place))),
        Asked::Refused(wait) => Err(refused(ctx, wait, patience, now)),
    }
}

/// Waits until a turn has come, or it is clear that it comes too late.
pub async fn wait(ctx: &Context, route: &Route, turn: Turn) -> Result<(), Refusal> {
    let mut place = match turn {
        Turn::Fixed(reserved) => {
            clock::sleep(reserved.wait).await;
            reserved.came();
            return Ok(());
        }
        Turn::Learned(place) => place,
    };
    let Some(settings) = &route.settings.rate_limit else { return Ok(()) };
    let came = clock::now();
    loop {
        clock::sleep(place.sleep).await;
        let now = clock::now();
        let patience = settings.patience().saturating_sub(now.saturating_duration_since(came));
        place = match place.turn(settings, patience.min(left(ctx, now)), now) {
            Asked::Pass => return Ok(()),
            Asked::Wait(place) => place,
            Asked::Refused(wait) => return Err(refused(ctx, wait, patience, now)),
        };
    }
}

/// Asks for a further attempt of a request; the first one has been asked for.
pub fn again(
    ctx: &mut Context,
    route: &Route,
    target: &Target,
    now: Instant,
) -> Result<(), Refusal> {
    let Some((learning, settings)) = limit(route, target) else { return Ok(()) };
    if ctx.attempts == 0 || learning.again(settings, now) {
        return Ok(());
    }
    if settings.mode == Mode::Observe {
        ctx.would(route, Would::RateLimit);
        return Ok(());
    }
    Err(Reason::RateLimited.into())
}

/// Teaches the learned rate how an attempt ended that began at this time.
pub fn learn(route: &Route, target: &Target, tried: &Tried, began: Instant) {
    // What brought no answer says nothing about a limit.
    let Ok(answer) = &tried.answer else { return };
    teach(route, target, (&tried.outcome, answer.response.headers()), (began, tried.at));
}

/// Teaches it that the trailers of an answer, whose head was good, say that there are too many
/// requests. The times are those of the attempt's beginning and of its answer's end.
pub fn learn_late(
    route: &Route,
    target: &Target,
    (outcome, trailers): (&Outcome, &HeaderMap),
    times: (Instant, Instant),
) {
    if throttled(outcome) {
        teach(route, target, (outcome, trailers), times);
    }
}

fn teach(
    route: &Route,
    target: &Target,
    (outcome, fields): (&Outcome, &HeaderMap),
    (began, at): (Instant, Instant),
) {
    let Some((learning, settings)) = limit(route, target) else { return };
    let end = learned_rate::End {
        began,
        throttled: throttled(outcome),
        retry_after: match outcome.hint {
            Some(Hint::Wait(wait)) => Some(wait),
            Some(Hint::Stop) | None => None,
        },
        advice: quota::advice(fields),
    };
    learning.ended(settings, &end, at);
}

/// The learned rate, where it is this upstream's. One that only the fallback chain leads to is
/// another third party.
fn limit<'a>(route: &'a Route, target: &Target) -> Option<(&'a Arc<Learning>, &'a Settings)> {
    let of = route.learning.as_ref().filter(|_| target.weight > 0)?;
    Some((of, route.settings.rate_limit.as_ref()?))
}

/// Whether an answer says that there are too many requests: 429 by whomever, 503 where it says how
/// long to stay away, or the like of 429 in gRPC.
fn throttled(outcome: &Outcome) -> bool {
    outcome.is_throttled()
        || (outcome.status() == Some(503) && matches!(outcome.hint, Some(Hint::Wait(_))))
}

/// What is left of the request's time.
pub fn left(ctx: &Context, now: Instant) -> Duration {
    ctx.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(now))
}

/// The refusal of a request whose turn comes too late: for its own time, so that nobody else could
/// serve it either, or for the patience of the settings.
pub fn refused(ctx: &Context, wait: Duration, patience: Duration, now: Instant) -> Refusal {
    if wait <= patience && wait >= left(ctx, now) {
        return Reason::Deadline.into();
    }
    Refusal { retry_after: Some(wait), ..Reason::RateLimited.into() }
}
