//! A route's fallback chain, compiled.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::route::Target;
use crate::config::fallback::{Link as Setting, Respond};
use crate::config::route::Route as Settings;

/// The type of a fixed body that names none.
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// One link of the chain.
pub struct Link {
    /// Its name: `stale`, `upstream:<name>` or `respond`.
    pub name: HeaderValue,
    /// What it does.
    pub does: Does,
}

/// What a link does.
pub enum Does {
    /// Answers with what was kept.
    Stale,
    /// Sends the request to the route's target at this place.
    Upstream(usize),
    /// Answers with this.
    Respond(Fixed),
}

/// A fixed answer.
pub struct Fixed {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
    /// The type of its body; nothing when there is no body to have one.
    pub content_type: Option<HeaderValue>,
}

/// The links of a route, in their order. A cache without a chain is a chain of `stale` alone.
#[must_use]
pub fn compile(settings: &Settings, targets: &[Target]) -> Vec<Link> {
    let implied = [Setting::Stale];
    let links = match settings.fallback.as_slice() {
        [] if settings.cache.is_some() => &implied[..],
        given => given,
    };
    links.iter().filter_map(|link| compile_link(link, targets)).collect()
}

/// Nothing for what the rules of the configuration do not let through.
fn compile_link(link: &Setting, targets: &[Target]) -> Option<Link> {
    let does = match link {
        Setting::Stale => Does::Stale,
        Setting::Upstream(name) => {
            Does::Upstream(targets.iter().position(|target| *target.upstream.name == **name)?)
        }
        Setting::Respond(respond) => Does::Respond(fixed(respond)?),
    };
    Some(Link { name: HeaderValue::from_str(&link.to_string()).ok()?, does })
}

fn fixed(respond: &Respond) -> Option<Fixed> {
    let content_type = match &respond.content_type {
        Some(text) => Some(HeaderValue::from_str(text).ok()?),
        None => Some(PLAIN).filter(|_| !respond.body.is_empty()),
    };
    Some(Fixed {
        status: StatusCode::from_u16(respond.status).ok()?,
        body: Bytes::copy_from_slice(respond.body.as_bytes()),
        content_type,
    })
}
