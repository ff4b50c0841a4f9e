//! What a request must pass before its first attempt: nothing of it has been sent yet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;

use super::context::Context;
use super::egress::{self, Turn};
use super::error::Refusal;
use super::site::Site;
use crate::clock;
use crate::gate::{Adaptive, Asking, Entry, Fixed, Gate, Limit, Place, Refused};
use crate::policy::Mode;
use crate::policy::load_balancing::{HashOn, hash};
use crate::policy::protection;
use crate::policy::rate_limit::OnLimit;
use crate::snapshot::limit::Reserved;
use crate::snapshot::route::{Route, Target};
use crate::telemetry::metrics::Would;
use crate::telemetry::reason::Reason;

/// The proxy's own protection: refuses with 503 when it is so short of something that the request's
/// tier is not served.
pub fn protect(ctx: &Context, route: &Route) -> Result<(), Refusal> {
    let pressure = ctx.worker.pressure();
    if pressure > 0.0 && protection::refuses(pressure, ctx.tier, route.importance.tiers()) {
        return Err(Reason::SelfProtection.into());
    }
    Ok(())
}

/// The rate limit: passes, when the turn that is returned has come, or refuses with 429, or with
/// 504 where only the request's own time is too short for its turn.
pub fn rate_limit(
    ctx: &mut Context,
    route: &Route,
    headers: &HeaderMap,
) -> Result<Option<Turn>, Refusal> {
    let Some(settings) = &route.settings.rate_limit else { return Ok(None) };
    if let Some(learning) = &route.learning {
        return egress::ask(ctx, route, learning, settings);
    }
    let Some(limiter) = &route.limiter else { return Ok(None) };
    let observed = settings.mode == Mode::Observe;
    // The clock is read only where something depends on it.
    let time = match (settings.on_limit, ctx.deadline) {
        _ if observed => Duration::ZERO,
        (OnLimit::Wait, Some(_)) => egress::left(ctx, clock::now()),
        _ => Duration::MAX,
    };
    let asked = {
        let key = settings.key.as_ref().and_then(|key| part(ctx, headers, key));
        Reserved::ask(limiter, settings, key.as_deref(), time)
    };
    let wait = match asked {
        Ok(turn) => return Ok(turn.map(Turn::Fixed)),
        Err(_) if observed => {
            ctx.would(route, Would::RateLimit);
            return Ok(None);
        }
        Err(wait) => wait,
    };
    let refusal = egress::refused(ctx, wait, settings.patience(), clock::now());
    Err(refusal.with_rate_limit(limiter.policy()))
}

/// What a request holds once it is admitted.
pub struct Held {
    /// Its place in the route's bulkhead, until the last byte of its answer.
    pub bulkhead: Option<Place<Fixed>>,
    /// Its place under the upstream's limit, until the head of its answer: that is the time which
    /// the limit measures. A client that reads slowly, or a stream, holds no work of the upstream.
    pub limit: Option<Place<Adaptive>>,
}

/// Whether a request asks for its place for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It does.
    First,
    /// It was admitted, and gave its place up for as long as something else took.
    Again,
}

/// Takes a place in the bulkhead and one under the upstream's limit, and waits for each as long as
/// it may. `now` moves on with the waiting.
pub async fn enter(
    ctx: &mut Context,
    route: &Route,
    target: &Target,
    now: &mut Instant,
) -> Result<Held, Box<Refusal>> {
    let mut held = Held { bulkhead: None, limit: None };
    if let (Some(gate), Some(settings)) = (&route.bulkhead, &route.settings.bulkhead) {
        let place = Door { gate, mode: settings.mode, full: Reason::BulkheadFull };
        let asked = |ctx: &Context| asking(ctx, Duration::ZERO, Look::First);
        held.bulkhead = Some(pass(place, ctx, (route, Would::Bulkhead), asked, now).await?);
    }
    held.limit = limit(ctx, (route, target), Look::First, now).await?;
    Ok(held)
}

/// Takes a place under the upstream's limit; nothing where it has none.
pub async fn limit(
    ctx: &mut Context,
    (route, target): (&Route, &Target),
    look: Look,
    now: &mut Instant,
) -> Result<Option<Place<Adaptive>>, Box<Refusal>> {
    let upstream = &target.upstream;
    let (gate, mode) = (&upstream.state.gate, upstream.settings.concurrency.mode);
    if mode == Mode::Off {
        return Ok(None);
    }
    let door = Door { gate, mode, full: Reason::ConcurrencyLimit };
    let asked = |ctx: &Context| asking(ctx, gate.expected(target.baseline), look);
    Ok(Some(pass(door, ctx, (route, Would::Concurrency), asked, now).await?))
}

/// A gate on the way of a request.
struct Door<'a, L: Limit> {
    gate: &'a Arc<Gate<L>>,
    mode: Mode,
    /// The reason when there is no place, nor room to wait for one.
    full: Reason,
}

async fn pass<L: Limit>(
    door: Door<'_, L>,
    ctx: &mut Context,
    (route, would): (&Route, Would),
    asking: impl FnOnce(&Context) -> Asking,
    now: &mut Instant,
) -> Result<Place<L>, Refusal> {
    let Door { gate, mode, full } = door;
    if let Some(place) = gate.try_enter(*now) {
        return Ok(place);
    }
    if mode == Mode::Observe {
        ctx.would(route, would);
        return Ok(gate.force_enter());
    }
    let refused = match gate.enter(asking(ctx), *now) {
        Entry::In(place) => return Ok(place),
        Entry::Refused(refused) => refused,
        Entry::Wait(mut waiting) => {
            let called = clock::until(waiting.until, waiting.called()).await;
            *now = clock::now();
            match called.unwrap_or_else(|_| waiting.leave(*now)) {
                Ok(place) => return Ok(place),
                Err(refused) => refused,
            }
        }
    };
    Err(Refusal::from(match refused {
        Refused::Full => full,
        Refused::Shed => Reason::Shed,
        Refused::Waited => Reason::QueueTimeout,
        Refused::Hopeless => Reason::Deadline,
    }))
}

fn asking(ctx: &Context, expected: Duration, look: Look) -> Asking {
    let admitted = look == Look::Again;
    Asking { standing: ctx.standing(), deadline: ctx.deadline, expected, admitted }
}

/// Lets the upstream's gate know how long a caller has kept the upstream busy.
pub fn used(ctx: &Context, target: &Target, since: Instant) {
    if ctx.caller.is_some() {
        let now = clock::now();
        let busy = now.saturating_duration_since(since);
        target.upstream.state.gate.used(ctx.standing(), busy, now);
    }
}

/// Whose a request is, by a hash. Where the client is not believed, its address stands for what it
/// says of itself: it could have any number of names.
pub fn caller(ctx: &Context, site: &Site, headers: &HeaderMap, key: &HashOn) -> Option<u64> {
    let key = if site.trusted { key } else { &HashOn::ClientIp };
    part(ctx, headers, key).map(|part| hash(part.as_bytes()))
}

/// The part of a request that is limited or hashed on.
pub fn part<'a>(
    ctx: &'a Context,
    headers: &'a HeaderMap,
    key: &HashOn,
) -> Option<std::borrow::Cow<'a, str>> {
    match key {
        HashOn::Header(name) => {
            headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()))
        }
        HashOn::Cookie(name) => {
            let pairs = headers.get_all(http::header::COOKIE).into_iter();
            let mut pairs =
                pairs.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(';'));
            pairs.find_map(|pair| {
                let (key, value) = pair.trim().split_once('=')?;
                (key == name).then_some(value.into())
            })
        }
        HashOn::ClientIp => Some((&*ctx.peer.text).into()),
    }
}

/// Refuses a body that announces more bytes than the listener allows.
pub fn body_size(announced: Option<u64>, max_bytes: u64) -> Result<(), Refusal> {
    match announced {
        Some(length) if length > max_bytes => Err(Reason::BodyTooLarge.into()),
        _ => Ok(()),
    }
}
