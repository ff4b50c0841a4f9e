//! What a request must pass before its first attempt: nothing of it has been sent yet.

use std::time::Duration;

use http::HeaderMap;

use super::context::Context;
use super::error::Refusal;
use crate::clock;
use crate::policy::Mode;
use crate::policy::load_balancing::HashOn;
use crate::policy::protection;
use crate::policy::rate_limit::Verdict;
use crate::snapshot::route::Route;
use crate::telemetry::metrics::Would;
use crate::telemetry::reason::Reason;

/// The proxy's own protection: refuses with 503 when it is so short of something that this tier, 0
/// being the highest of so many, is not served.
pub fn protect(ctx: &Context, tier: usize, tiers: usize) -> Result<(), Refusal> {
    let pressure = ctx.worker.pressure();
    if pressure > 0.0 && protection::refuses(pressure, tier, tiers) {
        return Err(Reason::SelfProtection.into());
    }
    Ok(())
}

/// The rate limit: passes, after the wait that is returned, or refuses with 429.
pub fn rate_limit(
    ctx: &mut Context,
    route: &Route,
    headers: &HeaderMap,
) -> Result<Duration, Refusal> {
    let (Some(limiter), Some(settings)) = (&route.limiter, &route.settings.rate_limit) else {
        return Ok(Duration::ZERO);
    };
    let verdict = {
        let key = settings.key.as_ref().and_then(|key| part(ctx, headers, key));
        limiter.check(settings, key.as_deref())
    };
    let retry_after = match verdict {
        Verdict::Pass { .. } => return Ok(Duration::ZERO),
        Verdict::Wait(_) | Verdict::Refused { .. } if settings.mode == Mode::Observe => {
            ctx.would(route, Would::RateLimit);
            return Ok(Duration::ZERO);
        }
        Verdict::Wait(wait) if fits(ctx, wait) => return Ok(wait),
        Verdict::Wait(wait) => wait,
        Verdict::Refused { retry_after } => retry_after,
    };
    Err(Refusal::rate_limited(retry_after, limiter.policy()))
}

/// Whether a wait ends before the request's deadline.
fn fits(ctx: &Context, wait: Duration) -> bool {
    ctx.deadline.is_none_or(|deadline| clock::now() + wait < deadline)
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
