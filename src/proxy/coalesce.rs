//! Equal GETs in flight, answered by one exchange with the upstream.
//!
//! The first goes and the others wait, each no longer than its own deadline. One that has waited as
//! long as an attempt may take goes as well, alone, while the others wait for it. A request that
//! the answer was not made for by its `Vary` goes itself.

use std::sync::Arc;

use http::header::{
    AUTHORIZATION, COOKIE, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderMap, HeaderName, Method, Response};

use super::body::Body;
use super::context::Context;
use super::pipeline::{self, Journey};
use super::{cache, fallback};
use crate::clock;
use crate::policy::timeout;
use crate::snapshot::cache::Kept;
use crate::snapshot::flights::{Landing, Leader, Turn};
use crate::snapshot::route::Route;
use crate::telemetry::metrics::CacheEvent;
use crate::telemetry::reason::Reason;

/// The fields by which a request wants an answer of its own: credentials, conditions, and parts.
const OWN: [HeaderName; 8] = [
    AUTHORIZATION,
    COOKIE,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    RANGE,
];

/// What `Cache-Status` says of a shared answer (RFC 9211, 2.6).
const COLLAPSED: &str = "outrigger; fwd=miss; collapsed";

/// Whether a request may share an exchange.
#[must_use]
pub fn wanted(ctx: &Context, route: &Route, request: &HeaderMap) -> bool {
    route.settings.cache.as_ref().is_some_and(|cache| cache.coalesce)
        && ctx.method == Method::GET
        && !ctx.switching
        && !OWN.iter().any(|name| request.contains_key(name))
        && {
            let asked = cache::directives(request);
            !(asked.no_store || asked.no_cache || asked.max_age.is_some_and(|age| age.is_zero()))
        }
}

/// What a request is to do after it has waited its turn.
enum Go {
    /// Send, and give the answer to those that wait.
    Leading(Leader),
    /// Send for itself.
    Alone,
    /// Nothing more: here is the answer.
    Answered(Arc<Kept>),
}

/// Takes an admitted request to its answer, its own or a shared one.
pub(super) async fn forward(mut ctx: Box<Context>, mut journey: Box<Journey>) -> Response<Body> {
    match turn(&ctx, &journey).await {
        Ok(Go::Answered(kept)) => {
            let request = journey.outbound.headers();
            let response = fallback::from_kept(&ctx, &journey.route, &kept, request, COLLAPSED);
            journey.route.metrics.fallback.cache(CacheEvent::Coalesced, 1);
            ctx.coalesced = true;
            ctx.status = Some(response.status().as_u16());
            return response.map(|bytes| Body::Local(Some(bytes), ctx));
        }
        Ok(Go::Leading(leader)) => journey.leader = Some(leader),
        Ok(Go::Alone) => {}
        Err(reason) => return pipeline::conclude(ctx, journey, Err(reason.into())).await,
    }
    let made = pipeline::exchange(&mut ctx, &mut journey).await;
    pipeline::conclude(ctx, journey, made).await
}

/// Waits until the request has an answer or may go.
async fn turn(ctx: &Context, journey: &Journey) -> Result<Go, Reason> {
    let Some(cache) = &journey.route.cache else { return Ok(Go::Alone) };
    let (key, request) = (cache::key(ctx), journey.outbound.headers());
    let route = &journey.route;
    let patience = timeout::per_try(&route.settings.timeouts, route.max_attempts);
    let mut in_vain = None;
    loop {
        let mut waiter = match cache.flights.join(&key, in_vain.as_ref()) {
            Turn::Lead(leader) => return Ok(Go::Leading(leader)),
            Turn::Alone => return Ok(Go::Alone),
            Turn::Wait(waiter) => waiter,
        };
        let patient = patience.map(|patience| clock::now() + patience);
        let until = [patient, ctx.deadline].into_iter().flatten().min();
        let landing = match until {
            Some(until) => clock::until(until, waiter.landing()).await.ok(),
            None => Some(waiter.landing().await),
        };
        match landing {
            Some(Landing::Answer(kept, selecting)) => {
                let selected = selecting.selects(&|name| cache::value_of(request, name));
                return Ok(if selected { Go::Answered(kept) } else { Go::Alone });
            }
            Some(Landing::Unshared) => return Ok(Go::Alone),
            Some(Landing::Failed) => in_vain = None,
            None if ctx.deadline.is_some_and(|deadline| clock::now() >= deadline) => {
                return Err(Reason::Deadline);
            }
            None => in_vain = Some(waiter),
        }
    }
}
