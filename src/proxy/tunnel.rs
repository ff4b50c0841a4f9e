//! Requests that become a tunnel: an `Upgrade` that the upstream accepts with 101 (RFC 9110, 7.8),
//! and CONNECT (RFC 9110, 9.3.6).
//!
//! Up to the answer's head they are requests like others: rate limit, limits, circuit, deadline,
//! attempts and retries hold as for any. From there on nothing is tried again and no deadline
//! holds. The tunnel keeps its place in the route's bulkhead, its connections with their places,
//! and counts as in flight at its endpoint; under the adaptive limit it holds none, and no latency
//! is made of its life. The bytes are moved by `crate::server`.

use std::time::Duration;

use bytes::BytesMut;
use http::header::UPGRADE;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, request};

use super::attempt::Answer;
use super::body::{Body, ClientBody};
use super::context::Context;
use super::error::Refusal;
use super::headers::seen::Seen;
use super::headers::{hop, upgrade};
use super::idempotency;
use super::pipeline::{Journey, dress};
use super::site::Site;
use crate::clock;
use crate::config::upstream::Protocol;
use crate::gate::{Fixed, Place};
use crate::snapshot::route::Route;
use crate::telemetry::metrics::TunnelEnd;
use crate::telemetry::reason::Reason;
use crate::upstream::connect::Stream;
use crate::upstream::connections;
use crate::upstream::endpoint::InFlight;
use crate::upstream::http1::Switched;

/// What is left to do for a tunnel: to join its two streams.
pub struct Tunnel {
    /// The stream to the endpoint.
    pub stream: Stream,
    /// What the endpoint has sent already.
    pub early: BytesMut,
    /// For how long no byte may move in either direction.
    pub idle: Duration,
    /// What it holds until its end. Last, so that the stream is closed before its place is free.
    pub held: Held,
}

/// What a tunnel holds until its end. It is counted and logged once, as a client that has gone when
/// nobody says otherwise.
pub struct Held {
    ctx: Box<Context>,
    ended: bool,
    _place: connections::Place,
    _in_flight: InFlight,
    _bulkhead: Option<Place<Fixed>>,
}

/// The way of bytes through a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the endpoint.
    Up,
    /// From the endpoint to the client.
    Down,
}

impl Held {
    /// Counts bytes that were passed on.
    pub fn moved(&mut self, way: Way, bytes: u64) {
        let ctx = &mut *self.ctx;
        let metrics = ctx.route.as_ref().map(|route| &route.metrics.tunnels);
        let (sum, counter) = match way {
            Way::Up => (&mut ctx.read_bytes, metrics.map(|metrics| &metrics.up)),
            Way::Down => (&mut ctx.sent_bytes, metrics.map(|metrics| &metrics.down)),
        };
        *sum += bytes;
        if let Some(counter) = counter {
            counter.add(bytes);
        }
    }

    /// Counts and logs the end, once.
    pub fn end(&mut self, end: TunnelEnd) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if let Some(route) = &self.ctx.route {
            route.metrics.tunnels.ended(end);
        }
        self.ctx.end(end.reason());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.end(TunnelEnd::ClientGone);
    }
}

/// Refuses a CONNECT that cannot become a tunnel whatever the routes say.
pub fn check_connect(
    site: &Site,
    parts: &request::Parts,
    body: &ClientBody,
) -> Result<(), Refusal> {
    if parts.version >= Version::HTTP_2 {
        return Err(Reason::NotSupported.into());
    }
    if !site.forward_proxy {
        let detail = Some("CONNECT, and forward_proxy is off");
        return Err(Refusal { detail, ..Reason::TunnelRefused.into() });
    }
    let uri = &parts.uri;
    let port = uri.authority().and_then(http::uri::Authority::port_u16);
    if uri.scheme().is_some() || !uri.path().is_empty() || port.is_none_or(|port| port == 0) {
        return Err(Refusal::bad_request("CONNECT asks for something else than host:port"));
    }
    // What follows the head belongs to the tunnel (RFC 9110, 9.3.6).
    if body.length() != Some(0) {
        return Err(Refusal::bad_request("CONNECT has a body"));
    }
    Ok(())
}

/// Why a request has no route: a tunnel has to be allowed by one that names CONNECT.
#[must_use]
pub fn no_route(method: &Method) -> Reason {
    if *method == Method::CONNECT { Reason::TunnelRefused } else { Reason::NoRoute }
}

/// Notes whether the request may become a tunnel, and returns the protocols that are offered to the
/// upstream.
///
/// Nothing is offered for a request with a body, for which two recipients could differ in where the
/// new protocol begins; nor where a key has to be answered for; nor to an upstream of HTTP/2, which
/// has no such switch.
pub fn note(
    ctx: &mut Context,
    route: &Route,
    headers: &HeaderMap,
    body: &ClientBody,
) -> Option<HeaderValue> {
    if ctx.method == Method::CONNECT {
        ctx.switching = true;
        ctx.mirrored = None;
        return None;
    }
    let offer = upgrade::offer(headers, ctx.seen.fields, &route.settings.upgrades)?;
    let target = ctx.target.and_then(|target| route.targets.get(target))?;
    let fits = ctx.version == Version::HTTP_11
        && body.length() == Some(0)
        && target.upstream.settings.protocol != Protocol::Http2
        && idempotency::covers(ctx, route).is_none();
    if !fits {
        return None;
    }
    ctx.switching = true;
    // A copy of half a conversation is of no use.
    ctx.mirrored = None;
    Some(offer)
}

/// Whether the answer opens a tunnel. An upstream's 101 is only read as one where it was asked for.
#[must_use]
pub fn opened(ctx: &Context, status: StatusCode) -> bool {
    ctx.switching
        && (status == StatusCode::SWITCHING_PROTOCOLS
            || (ctx.method == Method::CONNECT && status.is_success()))
}

/// Makes the tunnel of an answer that opens one, with the head for the client.
pub(super) fn open(
    mut ctx: Box<Context>,
    journey: Journey,
    answer: Answer,
    bulkhead: Option<Place<Fixed>>,
) -> Response<Body> {
    let Answer { response, in_flight, .. } = answer;
    let route = journey.route;
    let (mut parts, body) = response.into_parts();
    let Some(Switched { stream, early, place }) = body.switch() else {
        return Refusal::from(Reason::UpstreamReset).answer(ctx);
    };
    ctx.status = Some(parts.status.as_u16());
    ctx.tunnel_since = Some(clock::now());
    let version = std::mem::replace(&mut parts.version, Version::HTTP_11);
    let protocol = parts.headers.get(UPGRADE).cloned();
    let fields = Seen::of(&parts.headers).fields;
    hop::strip_hop_by_hop(&mut parts.headers, fields);
    dress(&ctx, &route, &mut parts.headers, version);
    if let Some(protocol) = protocol {
        parts.headers.insert(UPGRADE, protocol);
    }
    route.metrics.tunnels.opened();
    let held =
        Held { ctx, ended: false, _place: place, _in_flight: in_flight, _bulkhead: bulkhead };
    let idle = *route.settings.timeouts.idle;
    let tunnel = Tunnel { stream, early, idle, held };
    Response::from_parts(parts, Body::Tunnel(Some(Box::new(tunnel))))
}
