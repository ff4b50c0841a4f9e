//! The good answers of a route at the edge of HTTP: what is copied of an answer on its way to the
//! client, what a kept one looks like when it stands in, and what makes it invalid.
//!
//! An answer is copied while it streams, so the client waits for nothing; a copy that grows too
//! large, or an answer that breaks off, is dropped. A route without a cache passes here unseen.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, COOKIE, DATE, EXPIRES,
    IF_MATCH, IF_UNMODIFIED_SINCE, PRAGMA, SET_COOKIE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Uri, Version};

use super::context::Context;
use super::headers::framing;
use super::headers::names::FALLBACK;
use super::headers::seen::Fields;
use crate::clock;
use crate::policy::cache::Settings;
use crate::policy::cache::directives::Directives;
use crate::policy::cache::freshness::{Arrival, Exchange, Times, Use, storable};
use crate::policy::cache::store::{Selecting, Value};
use crate::snapshot::cache::{Kept, RouteCache};
use crate::snapshot::flights::{Landing, Leader};
use crate::snapshot::route::Route;

mod confirm;
mod invalidate;

pub use self::confirm::confirm;
pub use self::invalidate::{changes, invalidate};

/// An answer that is copied while it goes to the client. Dropped, nothing is kept of it.
pub struct Recording {
    route: Arc<Route>,
    cache: Arc<RouteCache>,
    key: Box<str>,
    selecting: Selecting,
    headers: HeaderMap,
    version: Version,
    times: Times,
    body: Vec<u8>,
    /// Room that was taken for the body.
    reserved: usize,
    leader: Option<Leader>,
}

/// What the two ends of the exchange are for the decision whether to keep its answer.
pub struct Answered<'a, B> {
    /// The request's fields as they went to the upstream.
    pub request: &'a HeaderMap,
    /// The answer, without the fields that were for the connection alone.
    pub response: &'a Response<B>,
    /// The kinds of fields that the answer came with.
    pub seen: Fields,
    /// The version that the upstream spoke.
    pub version: Version,
}

/// The key of a request's answers: host, path and query as the client asked for them, so that it
/// stays the same whichever upstream and rewriting they took.
#[must_use]
pub fn key(ctx: &Context) -> String {
    key_of(framing::host_of(&ctx.uri, ctx.seen.host.as_ref()), target_of(&ctx.uri))
}

/// The path and query of a URI.
fn target_of(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
}

fn key_of(host: &str, target: &str) -> String {
    let mut key = String::with_capacity(host.len() + 1 + target.len());
    key.push_str(host);
    key.make_ascii_lowercase();
    // No host has a space in it.
    key.push(' ');
    key.push_str(target);
    key
}

/// A request's value of a field: its lines as one list, without the space around its members
/// (RFC 9111, 4.1).
pub fn value_of(headers: &HeaderMap, name: &str) -> Value {
    let mut lines = headers.get_all(name).iter().peekable();
    lines.peek()?;
    let mut list = Vec::new();
    for member in lines.flat_map(|line| line.as_bytes().split(|b| *b == b',')) {
        if !list.is_empty() {
            list.push(b',');
        }
        list.extend_from_slice(member.trim_ascii());
    }
    Some(list.into())
}

/// The directives of a message. `Pragma: no-cache` counts where there is no `Cache-Control`
/// (RFC 9111, 5.4).
#[must_use]
pub fn directives(headers: &HeaderMap) -> Directives {
    let lines = headers.get_all(CACHE_CONTROL).iter().map(HeaderValue::as_bytes);
    let mut read = Directives::read(lines);
    if !headers.contains_key(CACHE_CONTROL) {
        let pragma = headers.get_all(PRAGMA).iter().map(HeaderValue::as_bytes);
        read.no_cache |= Directives::read(pragma).no_cache;
    }
    read
}

/// Begins to copy an answer that may be kept. A leader whose answer is for nobody else tells those
/// that wait for it here.
pub fn record<B: http_body::Body>(
    ctx: &Context,
    route: &Arc<Route>,
    answered: &Answered<'_, B>,
    leader: Option<Leader>,
) -> Option<Box<Recording>> {
    let (cache, settings) = (route.cache.as_ref()?, route.settings.cache.as_ref()?);
    let Some(selecting) = selecting(ctx, settings, answered) else {
        // A failure is nothing to be shared, but the next one's answer may be.
        let failed = answered.response.status().is_server_error();
        if let Some(leader) = leader.filter(|_| !failed) {
            leader.land(Landing::Unshared);
        }
        return None;
    };
    let length = answered.response.body().size_hint().exact();
    let most = settings.max_body.min(settings.max_bytes).get();
    if length.is_some_and(|length| length > most) {
        cache.too_large();
        if let Some(leader) = leader {
            leader.land(Landing::Unshared);
        }
        return None;
    }
    let headers = answered.response.headers();
    Some(Box::new(Recording {
        route: Arc::clone(route),
        cache: Arc::clone(cache),
        key: key(ctx).into(),
        selecting,
        times: times(ctx, headers, headers.get(AGE)),
        headers: copied(headers),
        version: answered.version,
        body: Vec::with_capacity(length.and_then(|l| usize::try_from(l).ok()).unwrap_or(0)),
        reserved: 0,
        leader,
    }))
}

/// The fields that select an answer; nothing when it may not be kept.
fn selecting<B: http_body::Body>(
    ctx: &Context,
    settings: &Settings,
    answered: &Answered<'_, B>,
) -> Option<Selecting> {
    let (request, headers) = (answered.request, answered.response.headers());
    let mut exchange = exchange(settings, request, headers);
    exchange.get = ctx.method == Method::GET;
    exchange.status = answered.response.status().as_u16();
    exchange.partial |= answered.seen.any(Fields::EVENTS);
    // Without a length or chunks only the connection's end ends the body, and a crash looks the
    // same. What another proxy's fallback has made is no good answer.
    let whole = answered.version == Version::HTTP_2
        || answered.seen.any(Fields::CODING)
        || answered.response.body().size_hint().exact().is_some();
    if !storable(&exchange) || !whole || headers.contains_key(&FALLBACK) {
        return None;
    }
    Some(selecting_fields(settings, request, headers))
}

/// What two heads say of whether an answer may be kept, if it is a 200 to a GET.
fn exchange(settings: &Settings, request: &HeaderMap, headers: &HeaderMap) -> Exchange {
    Exchange {
        get: true,
        status: 200,
        request: directives(request),
        answer: directives(headers),
        authorization: request.contains_key(AUTHORIZATION),
        cookie: request.contains_key(COOKIE),
        vary_cookie: vary(settings, headers).any(|name| name.eq_ignore_ascii_case("cookie")),
        vary_any: vary(settings, headers).any(|name| name == "*"),
        set_cookie: headers.contains_key(SET_COOKIE),
        partial: headers.contains_key(CONTENT_RANGE),
    }
}

fn selecting_fields(settings: &Settings, request: &HeaderMap, headers: &HeaderMap) -> Selecting {
    Selecting::of(vary(settings, headers), &|name| value_of(request, name))
}

/// The fields by which answers differ: the answer says so, or the settings do.
fn vary<'a>(settings: &'a Settings, headers: &'a HeaderMap) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(VARY).iter().map(|line| line.to_str().unwrap_or("*"));
    let own = settings.vary.iter().map(String::as_str);
    lines.flat_map(|line| line.split(',')).map(str::trim).chain(own)
}

/// The times of an answer with these fields that came with this age.
fn times(ctx: &Context, headers: &HeaderMap, age: Option<&HeaderValue>) -> Times {
    let date = |name: HeaderName| {
        let text = headers.get(name)?.to_str().ok()?;
        httpdate::parse_http_date(text.trim()).ok()
    };
    let age = age.and_then(|age| age.to_str().ok()?.trim().parse().ok());
    let arrival = Arrival {
        asked: ctx.start,
        received: clock::now(),
        received_wall: clock::wall_now(),
        date: date(DATE),
        expires: date(EXPIRES),
        age: age.map(|age: u32| Duration::from_secs(u64::from(age))),
    };
    Times::new(&arrival, &directives(headers))
}

/// The fields that are kept, in memory of their own: those of a message share the buffer that it
/// was read into. Length and age are written anew at each use, and the time of an answer that does
/// not tell it is now (RFC 9110, 6.6.1).
fn copied(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.len() + 1);
    for (name, value) in
        headers.iter().filter(|(name, _)| **name != CONTENT_LENGTH && **name != AGE)
    {
        if let Ok(mut copy) = HeaderValue::from_bytes(value.as_bytes()) {
            copy.set_sensitive(value.is_sensitive());
            kept.append(name.clone(), copy);
        }
    }
    if !kept.contains_key(DATE)
        && let Ok(now) = HeaderValue::from_str(&httpdate::fmt_http_date(clock::wall_now()))
    {
        kept.insert(DATE, now);
    }
    kept
}

impl Recording {
    /// Copies a part of the body; false when the whole is too large, and nothing is kept.
    pub fn take(&mut self, part: &Bytes) -> bool {
        let Some(settings) = self.route.settings.cache.as_ref() else { return false };
        let most = settings.max_body.min(settings.max_bytes).as_usize();
        let fits = self.body.len() + part.len() <= most && self.cache.reserve(settings, part.len());
        if fits {
            self.reserved += part.len();
            self.body.extend_from_slice(part);
            return true;
        }
        self.cache.too_large();
        if let Some(leader) = self.leader.take() {
            leader.land(Landing::Unshared);
        }
        false
    }

    /// Keeps the answer, which is whole, and gives it to those that wait for it.
    pub fn finish(mut self) {
        let route = Arc::clone(&self.route);
        let Some(settings) = route.settings.cache.as_ref() else { return };
        self.body.shrink_to_fit();
        let kept = Arc::new(Kept {
            headers: std::mem::take(&mut self.headers),
            version: self.version,
            body: std::mem::take(&mut self.body).into(),
            times: self.times,
        });
        let selecting = std::mem::take(&mut self.selecting);
        if let Some(leader) = self.leader.take() {
            leader.land(Landing::Answer(Arc::clone(&kept), Arc::new(selecting.clone())));
        }
        if !settings.stale_if_error.is_zero() {
            self.cache.keep(settings, &self.key, selecting, kept);
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.cache.release(self.reserved);
    }
}

/// The kept answer that may stand in for this request, and why.
#[must_use]
pub fn find(ctx: &Context, route: &Route, request: &HeaderMap) -> Option<(Arc<Kept>, Use)> {
    let (cache, settings) = (route.cache.as_ref()?, route.settings.cache.as_ref()?);
    // Only the upstream can tell whether the client's copy is the present one (RFC 9111, 4.3.2).
    let conditional = request.contains_key(IF_MATCH) || request.contains_key(IF_UNMODIFIED_SINCE);
    if conditional || (ctx.method != Method::GET && ctx.method != Method::HEAD) {
        return None;
    }
    let kept = cache.find(&key(ctx), &|name| value_of(request, name))?;
    match kept.times.judge(settings, &directives(request), clock::now()) {
        usable @ (Use::Fresh(_) | Use::Stale(_)) => Some((kept, usable)),
        Use::Expired | Use::Unwanted => None,
    }
}
