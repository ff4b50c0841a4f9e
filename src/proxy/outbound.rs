//! The request as it goes to the upstream: made once, sent once or more.

use std::cell::{Ref, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, Version, request};
use http_body_util::BodyExt;

use super::body::{Bounds, ClientBody, Failure, RequestBody, RequestSource};
use super::context::Context;
use super::error::Refusal;
use super::headers::seen::Fields;
use super::headers::{hop, upgrade};
use super::peer::Peer;
use super::site::Site;
use super::{idempotency, tunnel};
use crate::policy::Mode;
use crate::proxy_protocol::Origin;
use crate::snapshot::matcher::Found;
use crate::snapshot::route::Route;
use crate::telemetry::reason::Reason;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::message::{Informed, Message, OwnFields};

/// The most attempts of a request, and so endpoints to remember; the configuration allows no more.
const TRIED_MAX: usize = 10;

/// The request as it goes to the upstream.
pub struct Outbound {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    source: Option<RequestSource>,
    /// For how long a connection may have been idle that it is sent on.
    idle_max: Option<Duration>,
    /// The client, if it can be told of interim answers.
    informed: Option<Rc<Peer>>,
    /// Whom it is sent for.
    origin: Origin,
    /// Behind a cell, since two attempts of one request may be under way.
    tried: RefCell<Tried>,
}

/// A body that is all there.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Its pieces, which are kept for the attempts as well.
    pub pieces: Vec<Bytes>,
    /// Their bytes.
    pub bytes: usize,
}

/// Why a body is not there as a whole.
#[derive(Debug)]
pub enum Ungathered {
    /// It is larger than wanted.
    TooLarge,
    /// The process keeps as much of bodies as it may.
    NoRoom,
    /// It could not be read.
    Failed(Failure),
}

/// The endpoints that were tried.
#[derive(Default)]
struct Tried {
    endpoints: [u64; TRIED_MAX],
    count: usize,
}

impl Outbound {
    /// A request ready to be sent.
    pub fn new(
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        source: Option<RequestSource>,
        informed: Option<Rc<Peer>>,
    ) -> Self {
        let (idle_max, origin, tried) = (None, Origin::Sender, RefCell::default());
        Self { method, uri, headers, source, idle_max, informed, origin, tried }
    }

    /// The same for a client.
    pub fn of(mut self, peer: &Peer) -> Self {
        self.origin = peer.ends.origin();
        self
    }

    /// Whom it is sent for.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The header fields.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The header fields, to be changed before the first attempt.
    pub const fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// Sends only on connections that were in use within this time: one that was closed meanwhile
    /// leaves it open whether the request was read.
    pub const fn prefer_fresh(&mut self, idle_max: Duration) {
        self.idle_max = Some(idle_max);
    }

    /// Reads the whole body before anything of it is sent, up to `max` bytes.
    ///
    /// # Errors
    /// Why it is not there as a whole.
    pub async fn gather(&self, max: usize) -> Result<Gathered, Ungathered> {
        let Some(source) = &self.source else { return Ok(Gathered::default()) };
        let mut reading = source.attempt();
        let mut gathered = Gathered::default();
        while let Some(frame) = reading.frame().await {
            match frame.map_err(Ungathered::Failed)?.into_data() {
                Ok(piece) => {
                    gathered.bytes += piece.len();
                    if gathered.bytes > max {
                        return Err(Ungathered::TooLarge);
                    }
                    gathered.pieces.push(piece);
                }
                Err(_) => break,
            }
        }
        if source.replayable() { Ok(gathered) } else { Err(Ungathered::NoRoom) }
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The target.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The body once more, beside what reads it now; nothing if it is not all there, or larger.
    pub fn whole_body(&self, max_bytes: usize) -> Option<RequestBody> {
        match &self.source {
            Some(source) => source.whole(max_bytes),
            None => Some(RequestBody::EMPTY),
        }
    }

    /// The endpoints that were tried.
    pub fn tried(&self) -> Ref<'_, [u64]> {
        Ref::map(self.tried.borrow(), |tried| tried.endpoints.get(..tried.count).unwrap_or(&[]))
    }

    /// Remembers an endpoint as tried.
    pub fn note(&self, endpoint: &Arc<Endpoint>) {
        let mut tried = self.tried.borrow_mut();
        let count = tried.count;
        if let Some(place) = tried.endpoints.get_mut(count) {
            *place = endpoint.id;
            tried.count += 1;
        }
    }

    /// Forgets the endpoints that were tried: another upstream has others.
    pub fn forget_tried(&mut self) {
        self.tried = RefCell::default();
    }

    /// The request as the next attempt sends it, with fields of its own.
    pub fn message<'a>(&'a self, own: &'a OwnFields) -> Message<'a, RequestBody> {
        let body = self.source.as_ref().map_or(RequestBody::EMPTY, RequestSource::attempt);
        let Self { method, uri, headers, idle_max, .. } = self;
        let informed = self.informed.as_deref().map(|peer| peer as &dyn Informed);
        let (idle_max, origin) = (*idle_max, self.origin);
        Message { method, uri, headers, own, body, idle_max, informed, origin }
    }

    /// Whether the body, if there is one, can be sent once more.
    pub fn replayable(&self) -> bool {
        self.source.as_ref().is_none_or(RequestSource::replayable)
    }

    /// Whether the client's body was read to its end, if there is one.
    pub fn is_sent(&self) -> bool {
        self.source.as_ref().is_none_or(RequestSource::ended)
    }

    /// Whether there is no body, so that two attempts can send it at once.
    pub fn is_bodiless(&self) -> bool {
        self.source.is_none()
    }

    /// Why the client's body could not be read, if that is what went wrong.
    pub fn body_failure(&self) -> Option<Failure> {
        self.source.as_ref().and_then(RequestSource::failure)
    }

    /// Gives the body's source to the exchange that may still read it.
    pub fn into_source(self) -> Option<RequestSource> {
        self.source
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::TooLarge => Reason::BodyTooLarge.into(),
            Failure::TimedOut => Reason::RequestTimeout.into(),
            Failure::ClientGone | Failure::Superseded => {
                Self::bad_request("the request's body broke off")
            }
        }
    }
}

/// The route that a request follows, with what its path captured.
pub struct Matched<'a> {
    /// The route.
    pub route: &'a Route,
    /// Where its path was found.
    pub found: Found,
    /// The names of the captures; empty unless the route rewrites.
    pub names: &'a [Box<str>],
}

/// The request as it goes to the upstream.
///
/// # Errors
/// When its target cannot be rewritten as the route says.
pub fn prepare(
    ctx: &mut Context,
    site: &Site,
    matched: &Matched<'_>,
    parts: request::Parts,
    body: ClientBody,
) -> Result<Outbound, Refusal> {
    let request::Parts { method, uri, mut headers, version, .. } = parts;
    let route = matched.route;
    let offer = tunnel::note(ctx, route, &headers, &body);
    let retry = &route.settings.retry;
    let repeatable =
        (retry.mode == Mode::Enforce && retry.max_attempts > 1) || route.leads_elsewhere();
    let replay_bytes = if repeatable { retry.buffer.as_usize() } else { 0 };
    // What is recognised by its key is read whole before it is sent.
    let whole = idempotency::covers(ctx, route).map_or(0, |keys| keys.body_bytes());
    let replay_bytes = replay_bytes.max(whole);
    let keep_bytes = ctx.mirrored.unwrap_or(0).max(replay_bytes);
    let mut bounds = Bounds { keep_bytes, replay_bytes, ..site.bounds };
    if ctx.grpc {
        // The client of a stream may have nothing to say until it hears something.
        bounds.timeout = bounds.timeout.max(*route.settings.timeouts.idle);
    }
    let source = RequestSource::new(body, bounds, &ctx.worker.proxy.kept);
    hop::strip_hop_by_hop(&mut headers, ctx.seen.fields);
    if let Some(offer) = offer {
        upgrade::write_offer(&mut headers, offer);
    }
    if ctx.seen.fields.any(Fields::EXPECT) {
        // We gave, or will give, the 100 (Continue) ourselves: when an attempt first asks for the
        // body.
        headers.remove(http::header::EXPECT);
    }
    site.forwarding.request(&mut headers, &ctx.peer.client, ctx.peer.is_secure(), version);
    let uri = target_of(matched, uri, &mut headers)?;
    if let Some(tier) = &route.tier {
        headers.insert(route.importance.header(), tier.name().clone());
    }
    route.request_ops.apply(&mut headers);
    idempotency::mark(ctx, route, &mut headers);
    // Older clients do not know interim answers (RFC 9110, 15.2).
    let informed = (version == Version::HTTP_11).then(|| Rc::clone(&ctx.peer));
    Ok(Outbound::new(method, uri, headers, source, informed).of(&ctx.peer))
}

/// The target for the upstream, and `Host` as the route says.
fn target_of(matched: &Matched<'_>, uri: Uri, headers: &mut HeaderMap) -> Result<Uri, Refusal> {
    let route = matched.route;
    match &route.rewrite {
        Some(rewrite) => rewrite.apply_host(headers),
        // It is in that form already.
        None if uri.authority().is_none() => return Ok(uri),
        None => {}
    }
    let target = route.target(&uri, &matched.found, matched.names);
    target.map(Uri::from).map_err(Refusal::bad_request)
}
