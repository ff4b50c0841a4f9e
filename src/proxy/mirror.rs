//! Copies of requests, sent aside to another upstream, their answers thrown away.
//!
//! A copy begins when the request's attempts are over, so that it is known that the request was
//! sent, was no trial, and that its body is whole; it runs as a task of its own on the same worker.
//! It goes once, to any endpoint that can be chosen, with the route's own times from its beginning.
//! Its outcome counts in the route's `outrigger_mirror_requests_total` and in the metrics of the
//! mirror's connections, and nowhere else: no circuit, no budget, no ejection, no latency learns of
//! it, since what else goes to that upstream must not change by it.
//!
//! The copy has the target, the fields and the `Host` that the upstream got, so that the mirror
//! finds its own route by them, and `x-outrigger-mirror: 1` besides, by which it can tell.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, Response, Uri};
use http_body_util::BodyExt;

use super::body::{AnswerBody, RequestBody};
use super::context::Context;
use super::headers::deadline::write_deadline;
use super::headers::names::MIRROR;
use super::outbound::Outbound;
use crate::clock;
use crate::policy::mirror::{Copied, Request, Skip};
use crate::policy::outcome::{End, Outcome};
use crate::proxy_protocol::Origin;
use crate::snapshot::mirror::Mirror;
use crate::snapshot::route::Route;
use crate::telemetry::metrics::RouteMetrics;
use crate::upstream::Upstream;
use crate::upstream::endpoint::{Endpoint, InFlight};
use crate::upstream::message::{Message, OwnFields};
use crate::upstream::pool::{Lease, Pools};

/// How long a copy may take on a route without a total time.
const TIME_MAX: Duration = Duration::from_secs(15);

/// The share of the mirror's adaptive limit from which on what else goes there has it alone. Copies
/// take no place under it: they would take one from a request that somebody waits for.
const FULL: f64 = 0.8;

/// The most that is read of a copy's answer, to keep its connection; a longer one is cut off.
const ANSWER_BYTES: usize = 1 << 20;

/// Draws whether a request is to be copied, and says up to how many bytes of body.
#[must_use]
pub fn draw(route: &Route) -> Option<usize> {
    let settings = &route.mirror.as_ref()?.settings;
    settings.draws(fastrand::f64()).then(|| settings.max_body.as_usize())
}

/// Sends a copy of a request that was drawn and whose attempts are over, or counts why not.
pub fn copy(ctx: &mut Context, route: &Route, outbound: &Outbound) {
    // Without an attempt it was not admitted, and is no request of the upstream's.
    if ctx.attempts == 0 {
        return;
    }
    // Taken, so that what a fallback sends elsewhere is not copied once more.
    let (Some(mirror), Some(max_body)) = (&route.mirror, ctx.mirrored.take()) else { return };
    match Copy::prepare(ctx, route, mirror, outbound, max_body) {
        Ok(copy) => {
            route.metrics.copied(Copied::Sent);
            tokio::task::spawn_local(copy.run(Rc::clone(&ctx.worker.pools)));
        }
        Err(why) => route.metrics.copied(Copied::Skipped(why)),
    }
}

/// A copy on its way.
struct Copy {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    own: OwnFields,
    body: RequestBody,
    origin: Origin,
    upstream: Arc<Upstream>,
    endpoint: Arc<Endpoint>,
    in_flight: InFlight,
    place: Place,
    began: Instant,
    connect_by: Instant,
    end: Instant,
}

/// One of the places for copies; free again, and its result counted, when this is dropped.
struct Place {
    under_way: Arc<AtomicU32>,
    metrics: Arc<RouteMetrics>,
    result: Copied,
}

impl Place {
    fn take(mirror: &Mirror, metrics: &Arc<RouteMetrics>) -> Option<Self> {
        let next = |taken: u32| mirror.settings.has_place(taken).then_some(taken + 1);
        mirror.under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        let (under_way, metrics) = (Arc::clone(&mirror.under_way), Arc::clone(metrics));
        // Until it has been answered.
        Some(Self { under_way, metrics, result: Copied::Failed })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        self.metrics.copied(self.result);
    }
}

impl Copy {
    fn prepare(
        ctx: &Context,
        route: &Route,
        mirror: &Mirror,
        outbound: &Outbound,
        max_body: usize,
    ) -> Result<Self, Skip> {
        let upstream = &mirror.upstream;
        let request = Request {
            is_copy: outbound.headers().contains_key(&MIRROR),
            is_retry: ctx.inbound_attempts > 0,
            trial: ctx.trial,
            short: ctx.worker.pressure() > 0.0
                || upstream.state.connections.wanted()
                || upstream.state.gate.taken() >= FULL,
        };
        if let Some(skip) = mirror.settings.skip(&request) {
            return Err(skip);
        }
        let body = outbound.whole_body(max_body).ok_or(Skip::Body)?;
        let began = clock::now();
        let endpoint = upstream.choose(&[], None, began).ok_or(Skip::Unhealthy)?;
        let place = Place::take(mirror, &route.metrics).ok_or(Skip::Cap)?;
        let timeouts = &route.settings.timeouts;
        let total = timeouts.total.map_or(TIME_MAX, |total| *total);
        let mut own = OwnFields::default();
        own.set(&MIRROR, HeaderValue::from_static("1"));
        write_deadline(&mut own, outbound.headers(), total, ctx.grpc);
        let mut headers = outbound.headers().clone();
        if let Some(keys) = &route.keys {
            // A copy is no second sending of the operation.
            headers.remove(&keys.key_header);
        }
        Ok(Self {
            method: outbound.method().clone(),
            uri: outbound.uri().clone(),
            headers,
            own,
            body,
            origin: outbound.origin(),
            upstream: Arc::clone(upstream),
            in_flight: endpoint.enter(),
            endpoint,
            place,
            began,
            connect_by: began + (*timeouts.connect).min(total),
            end: began + total,
        })
    }

    async fn run(self, pools: Rc<Pools<RequestBody>>) {
        let Self { method, uri, headers, own, body, upstream, endpoint, .. } = self;
        let (in_flight, mut place) = (self.in_flight, self.place);
        let (method, uri, headers, own) = (&method, &uri, &headers, &own);
        let (idle_max, informed) = (None, None);
        let origin = self.origin;
        let message = Message { method, uri, headers, own, body, idle_max, informed, origin };
        let sending = pools.send(&upstream, &endpoint, message, self.connect_by);
        let (end, unsent, answer) = match clock::until(self.end, sending).await {
            Ok(Ok((response, lease))) => {
                let status = response.status().as_u16();
                (End::Answer { status, grpc: None }, false, Some((response, lease)))
            }
            Ok(Err(error)) => (error.end, error.unsent, None),
            Err(_) => (End::DeadlineExceeded, false, None),
        };
        let latency = clock::now().saturating_duration_since(self.began);
        let outcome = Outcome { end, unsent, latency, hint: None, peer_shed: false };
        upstream.state.metrics.ended(&outcome);
        let good = matches!(end, End::Answer { status, .. } if status < 500);
        endpoint.metrics.ended(good, latency);
        let Some((response, lease)) = answer else { return };
        // An answer that does not end in time was not one.
        let whole = clock::until(self.end, throw_away(response, lease)).await.unwrap_or(false);
        drop(in_flight);
        if good && whole {
            place.result = Copied::Ok;
        }
    }
}

/// Reads an answer for nothing. False when it broke off; an answer that is longer than it has to be
/// read is as good as a whole one.
async fn throw_away(response: Response<AnswerBody>, lease: Lease<RequestBody>) -> bool {
    let mut body = response.into_body();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        read += frame.data_ref().map_or(0, bytes::Bytes::len);
        if read > ANSWER_BYTES {
            return true;
        }
    }
    lease.finish(body);
    true
}
