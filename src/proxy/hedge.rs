//! A first attempt, and a second copy beside it when it is slow. The first acceptable answer is
//! taken; the other attempt is dropped, which cancels it and tells its endpoint how long it took at
//! least.
//!
//! A first attempt that fails before its time is a matter of the retry policy.

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use super::attempt::{self, Ended, Prepared, Tried, Way};
use super::context::Context;
use super::error::Refusal;
use crate::clock;
use crate::gate::{Adaptive, Place};
use crate::policy::Mode;
use crate::policy::hedge::{Facts, Settings, Why};
use crate::policy::retry_budget::Cost;
use crate::snapshot::hedging::Hedging;
use crate::telemetry::metrics::Would;

/// Makes the first attempt of a request, and a copy of it if the route says so.
///
/// # Errors
/// As [`attempt::run`].
pub async fn run(
    ctx: &mut Context,
    way: &Way<'_>,
    limit: &mut Option<Place<Adaptive>>,
    began: Instant,
) -> Result<Tried, Box<Refusal>> {
    let (Some(hedging), Some(settings)) = (&way.route.hedging, &way.route.settings.hedge) else {
        return attempt::run(ctx, way, limit, began).await;
    };
    let fullness = limit.as_ref().map_or(0, |place| place.start().fullness);
    let first = attempt::prepare(ctx, way, fullness, began)?;
    let delay = hedging.first(settings, &facts(ctx, way, limit, &first, began));
    let (worker, deadline) = (Rc::clone(&ctx.worker), ctx.deadline);
    let mut pair = Pair { way, hedging, settings, limit, began };
    let sending = attempt::send(&worker, deadline, &first, way.outbound);
    let early = {
        let mut sending = pin!(sending);
        let early = match delay {
            Ok(delay) => clock::until(began + delay, sending.as_mut()).await.ok(),
            Err(_) => Some(sending.as_mut().await),
        };
        match early {
            Some(ended) => Ok(ended),
            None => match pair.copy(ctx, &first) {
                None => Ok(sending.await),
                Some((second, place)) => {
                    let copy = attempt::send(&worker, deadline, &second, way.outbound);
                    let race = race(sending, pin!(copy)).await;
                    Err((race, second, place))
                }
            },
        }
    };
    match early {
        Ok(ended) => pair.alone(ctx, first, ended),
        Err((race, second, place)) => pair.settle(ctx, race, (first, second), place),
    }
}

/// What became of two attempts at once.
enum Race {
    /// The first has an acceptable answer, or is the last to fail; the copy has failed, or goes on.
    First(Ended, Option<Ended>),
    /// The copy has; the first has failed, or goes on.
    Second(Ended, Option<Ended>),
}

/// Waits for the first acceptable answer, or for both to fail.
async fn race(
    mut first: Pin<&mut impl Future<Output = Ended>>,
    mut second: Pin<&mut impl Future<Output = Ended>>,
) -> Race {
    let (mut one, mut two) = (None, None);
    std::future::poll_fn(|cx| {
        if one.is_none()
            && let Poll::Ready(ended) = first.as_mut().poll(cx)
        {
            if ended.is_acceptable() || two.is_some() {
                return Poll::Ready(Race::First(ended, two.take()));
            }
            one = Some(ended);
        }
        if two.is_none()
            && let Poll::Ready(ended) = second.as_mut().poll(cx)
        {
            if ended.is_acceptable() || one.is_some() {
                return Poll::Ready(Race::Second(ended, one.take()));
            }
            two = Some(ended);
        }
        Poll::Pending
    })
    .await
}

/// The two attempts of a request.
struct Pair<'a, 'w> {
    way: &'a Way<'w>,
    hedging: &'a Hedging,
    settings: &'a Settings,
    limit: &'a mut Option<Place<Adaptive>>,
    began: Instant,
}

impl<'w> Pair<'_, 'w> {
    /// Prepares the copy, if one may be sent: the policy, then the budget that it shares with
    /// retries, then the circuit and an endpoint.
    fn copy(&mut self, ctx: &mut Context, first: &Prepared<'_>) -> Option<Copied<'w>> {
        let now = clock::now();
        let facts = facts(ctx, self.way, self.limit, first, now);
        if !self.hedging.send(self.settings, &facts) {
            return None;
        }
        if self.settings.mode == Mode::Observe {
            ctx.would(self.way.route, Would::Hedge);
            return None;
        }
        if !self.way.target.upstream.withdraw(Cost::Whole, now) {
            self.hedging.give_back(Why::Budget);
            return None;
        }
        let place = self.limit.as_ref().map(|place| place.gate().force_enter());
        let fullness = place.as_ref().map_or(0, |place| place.start().fullness);
        match attempt::prepare(ctx, self.way, fullness, now) {
            Ok(second) => Some((second, place)),
            Err(_) => {
                self.hedging.give_back(Why::CircuitOpen);
                None
            }
        }
    }

    /// The first attempt has ended, and there was no copy.
    fn alone(
        self,
        ctx: &Context,
        first: Prepared<'_>,
        ended: Ended,
    ) -> Result<Tried, Box<Refusal>> {
        let tried = attempt::conclude(ctx, self.way, self.limit, first, ended)?;
        if tried.answer.is_ok() {
            self.hedging.record(self.settings, tried.outcome.latency, tried.at);
        }
        Ok(tried)
    }

    /// One of the two has ended for good: it is what came of both. Another that has failed is
    /// learned from; one that goes on is given up.
    fn settle(
        self,
        ctx: &mut Context,
        race: Race,
        (first, second): (Prepared<'_>, Prepared<'_>),
        mut place: Option<Place<Adaptive>>,
    ) -> Result<Tried, Box<Refusal>> {
        let Self { way, hedging, settings, limit, began } = self;
        let won = matches!(race, Race::Second(..));
        hedging.ended(won);
        let now = clock::now();
        // The copy that won tells that the first was slow, and it is not known how slow.
        hedging.record(settings, now.saturating_duration_since(began), now);
        match race {
            Race::First(ended, failed) => {
                if let Some(failed) = failed {
                    drop(attempt::conclude(ctx, way, &mut place, second, failed)?);
                }
                ctx.endpoint = Some(first.endpoint());
                attempt::conclude(ctx, way, limit, first, ended)
            }
            Race::Second(ended, failed) => {
                if let Some(failed) = failed {
                    drop(attempt::conclude(ctx, way, limit, first, failed)?);
                }
                ctx.endpoint = Some(second.endpoint());
                attempt::conclude(ctx, way, &mut place, second, ended)
            }
        }
    }
}

/// A copy that may be sent, and its place under the upstream's limit.
type Copied<'a> = (Prepared<'a>, Option<Place<Adaptive>>);

/// What the decision depends on, as it is now.
fn facts(
    ctx: &Context,
    way: &Way<'_>,
    limit: &Option<Place<Adaptive>>,
    first: &Prepared<'_>,
    now: Instant,
) -> Facts {
    let Way { route, target, outbound } = *way;
    Facts {
        repeatable: ctx.method.is_idempotent(),
        replayable: outbound.is_bodiless(),
        remaining: ctx.deadline.map(|deadline| deadline.saturating_duration_since(now)),
        fullness: limit.as_ref().map_or(0.0, |place| place.gate().taken()),
        closed: target.circuit.is_closed(&route.settings.circuit_breaker, now),
        trial: first.is_trial(),
        other_endpoint: target.upstream.has_other(&outbound.tried(), now),
    }
}
