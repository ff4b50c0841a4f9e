//! What we know of one request, from its first byte to its answer's last.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use super::answer::AnswerKind;
use super::headers::names::{PRIORITY, REQUEST_ID};
use super::headers::seen::{Fields, Seen};
use super::headers::{attempt, deadline, framing};
use super::idempotency::Keyed;
use super::peer::Peer;
use super::site::Site;
use super::worker::Worker;
use super::{admission, grpc};
use crate::clock;
use crate::config::telemetry::Format;
use crate::policy::idempotency::response::Status;
use crate::policy::load_balancing::hash;
use crate::policy::retry::Suppressed;
use crate::policy::shedding::{Lot, Standing};
use crate::policy::timeout;
use crate::snapshot::keys::Keys;
use crate::snapshot::route::Route;
use crate::telemetry::access_log::{self, Access};
use crate::telemetry::metrics::{Call, Would};
use crate::telemetry::reason::Reason;
use crate::upstream::endpoint::Endpoint;

/// One request. Whatever becomes of it, it is counted and logged exactly once: by [`Context::end`],
/// or, when its future is dropped because the client left, by the drop of this.
pub struct Context {
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// The connection it came on.
    pub peer: Rc<Peer>,
    /// Its first byte, as near as we know.
    pub start: Instant,
    /// When all must be over.
    pub deadline: Option<Instant>,
    /// When the caller of a gRPC call gives up, by its own word: that ends a stream, too.
    pub call_ends: Option<Instant>,
    /// Its route, once found.
    pub route: Option<Arc<Route>>,
    /// The listener's settings that it came under.
    pub site: Option<Arc<Site>>,
    /// Its method.
    pub method: Method,
    /// Its target as the client wrote it.
    pub uri: Uri,
    /// What its header fields were when it came.
    pub seen: Seen,
    /// The protocol that it came with.
    pub version: Version,
    /// Whether it is a gRPC call, and wants its errors as such.
    pub grpc: bool,
    /// How many attempts its callers had made before this one.
    pub inbound_attempts: u32,
    /// Its tier of importance, 0 being the highest.
    pub tier: usize,
    /// Whose it is, by a hash, if callers are told apart.
    pub caller: Option<u64>,
    /// What its key makes of it, if it is sent under one.
    pub keyed: Option<Box<Keyed>>,
    /// What the answer says of the key.
    pub said: Option<(HeaderName, HeaderValue)>,
    /// How many attempts were made here.
    pub attempts: u32,
    /// Whether an attempt may have been executed: it was not proved that nothing of it was.
    pub executed: bool,
    /// The place of the link of the fallback chain that answered.
    pub fallback: Option<usize>,
    /// Whether it was answered by what another request in flight had fetched.
    pub coalesced: bool,
    /// Whether an attempt was a trial of a circuit that may close again.
    pub trial: bool,
    /// Up to how many bytes of body it is copied to the route's mirror, if it was drawn.
    pub mirrored: Option<usize>,
    /// Why the last retry was not made, if it was wanted.
    pub suppressed: Option<Suppressed>,
    /// The policies in observe mode that would have acted.
    pub would: Vec<Would>,
    /// Whether it may become a tunnel: by CONNECT, or by an `Upgrade` that was offered.
    pub switching: bool,
    /// When it became one: the tunnel's life is no latency.
    pub tunnel_since: Option<Instant>,
    /// The gRPC status that was answered, once it is known.
    pub grpc_status: Option<u16>,
    /// The identifier that the request carried.
    pub request_id: Option<HeaderValue>,
    /// The endpoint of the last attempt.
    pub endpoint: Option<Arc<Endpoint>>,
    /// The place of its upstream among its route's.
    pub target: Option<usize>,
    /// The status that was answered.
    pub status: Option<u16>,
    /// Why we answered ourselves, if we did.
    pub reason: Option<Reason>,
    /// Bytes of the answer's body.
    pub sent_bytes: u64,
    /// Bytes of the request's body.
    pub read_bytes: u64,
    ended: bool,
}

impl Context {
    /// The context of a request whose head has been read.
    pub fn begin<B>(worker: &Rc<Worker>, peer: &Rc<Peer>, request: &http::Request<B>) -> Box<Self> {
        let start = peer.activity.begin(clock::now);
        let seen = Seen::of(request.headers());
        let grpc = seen.fields.any(Fields::GRPC);
        let request_id =
            seen.fields.any(Fields::REQUEST_ID).then(|| request.headers().get(&REQUEST_ID));
        Box::new(Self {
            worker: Rc::clone(worker),
            peer: Rc::clone(peer),
            start,
            deadline: None,
            call_ends: None,
            route: None,
            site: None,
            method: request.method().clone(),
            uri: request.uri().clone(),
            seen,
            version: request.version(),
            grpc,
            inbound_attempts: 0,
            tier: 0,
            caller: None,
            keyed: None,
            said: None,
            attempts: 0,
            executed: false,
            fallback: None,
            coalesced: false,
            trial: false,
            mirrored: None,
            suppressed: None,
            would: Vec::new(),
            switching: false,
            tunnel_since: None,
            grpc_status: None,
            request_id: request_id.flatten().cloned(),
            endpoint: None,
            target: None,
            status: None,
            reason: None,
            sent_bytes: 0,
            read_bytes: 0,
            ended: false,
        })
    }

    /// Enters the route: from here on the request counts as its own, under its deadline.
    pub fn enter(&mut self, route: Arc<Route>, site: Arc<Site>, headers: &HeaderMap) {
        let told = self.seen.fields.any(Fields::DEADLINE);
        let caller = if told { deadline::read_deadline(headers) } else { None };
        let timeouts = &route.settings.timeouts;
        self.deadline = timeout::deadline(timeouts, self.start, caller);
        if self.grpc {
            self.call_ends = timeout::inherited(timeouts, self.start, caller);
        }
        if self.seen.fields.any(Fields::ATTEMPTS) {
            self.inbound_attempts = attempt::read_attempts(headers);
        }
        self.tier = self.tier_under(&route, headers);
        if let Some(key) = route.importance.caller() {
            self.caller = admission::caller(self, &site, headers, key);
        }
        route.metrics.in_flight.inc();
        self.route = Some(route);
        self.site = Some(site);
    }

    /// A context of the same request for work that goes on when its client is gone: neither counted
    /// nor logged.
    pub fn aside(&self) -> Box<Self> {
        Box::new(Self {
            worker: Rc::clone(&self.worker),
            peer: Rc::clone(&self.peer),
            start: self.start,
            deadline: self.deadline,
            call_ends: self.call_ends,
            route: self.route.clone(),
            site: self.site.clone(),
            method: self.method.clone(),
            uri: self.uri.clone(),
            seen: self.seen.clone(),
            version: self.version,
            grpc: self.grpc,
            inbound_attempts: self.inbound_attempts,
            tier: self.tier,
            caller: self.caller,
            keyed: None,
            said: None,
            attempts: 0,
            executed: false,
            fallback: None,
            coalesced: false,
            trial: false,
            mirrored: self.mirrored,
            suppressed: None,
            would: Vec::new(),
            switching: false,
            tunnel_since: None,
            grpc_status: None,
            request_id: self.request_id.clone(),
            endpoint: None,
            target: self.target,
            status: None,
            reason: None,
            sent_bytes: 0,
            read_bytes: 0,
            ended: true,
        })
    }

    /// Lets the answer say what was done with the key.
    pub fn say(&mut self, keys: &Keys, status: &Status) {
        self.said = HeaderValue::from_str(&status.to_string())
            .ok()
            .map(|value| (keys.status_header.clone(), value));
    }

    /// The language in which it wants the answers that are made here.
    pub const fn answers(&self) -> AnswerKind {
        if self.seen.fields.any(Fields::GRPC) {
            AnswerKind::Grpc
        } else if self.seen.fields.any(Fields::GRPC_WEB) {
            AnswerKind::Web
        } else {
            AnswerKind::Http
        }
    }

    /// Takes over what became known aside.
    pub fn learn_of(&mut self, aside: Self) {
        let mut aside = aside;
        self.attempts = aside.attempts;
        self.executed = aside.executed;
        self.trial = aside.trial;
        self.suppressed = aside.suppressed;
        self.endpoint = aside.endpoint.take();
        for would in aside.would.drain(..) {
            if !self.would.contains(&would) {
                self.would.push(would);
            }
        }
    }

    fn tier_under(&self, route: &Route, headers: &HeaderMap) -> usize {
        let importance = &route.importance;
        if let Some(fixed) = &route.tier {
            return fixed.tier();
        }
        // Most requests say nothing, and a field that was not seen is not looked for.
        if self.seen.fields.any(Fields::PRIORITY) || importance.header() != PRIORITY {
            importance.tier_of(headers)
        } else {
            importance.otherwise()
        }
    }

    /// What it is worth where not all can be served. A request that carries an identifier keeps its
    /// lot on its way through several proxies, so that what one has let through is not refused by
    /// the next.
    pub fn standing(&self) -> Standing {
        let lot = match (self.caller, &self.request_id) {
            (Some(caller), _) => Lot::Caller(caller),
            (None, Some(id)) => Lot::Drawn(hash(id.as_bytes())),
            (None, None) => Lot::Drawn(fastrand::u64(..)),
        };
        Standing { tier: self.tier, lot }
    }

    /// Counts and logs the request, once.
    pub fn end(&mut self, cut: Option<Reason>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let now = clock::now();
        self.peer.activity.end(now);
        let reason = cut.or(self.reason);
        let duration = now.saturating_duration_since(self.start);
        match &self.route {
            Some(route) => {
                route.metrics.in_flight.dec();
                let answered = self.tunnel_since.unwrap_or(now);
                route.metrics.ended(self.status, answered.saturating_duration_since(self.start));
                if self.grpc {
                    self.count_call(route, reason, duration);
                }
                if let Some(reason) = reason {
                    route.metrics.reason(reason);
                }
            }
            None => {
                if let Some(reason) = reason {
                    self.peer.metrics.reason(reason);
                }
            }
        }
        let is_error = reason.is_some()
            || self.fallback.is_some()
            || self.status.is_some_and(|status| status >= 500);
        let live = self.worker.proxy.live();
        let settings = &live.snapshot.config.telemetry.access_log;
        if access_log::should_log(settings, is_error, fastrand::f64()) {
            self.log(live.snapshot.config.telemetry.log.format, reason, duration);
        }
    }

    fn count_call(&self, route: &Route, reason: Option<Reason>, duration: Duration) {
        let code = grpc::ended(self, reason);
        let answered = reason.is_none() && self.grpc_status.is_some();
        route.metrics.calls.ended(&Call { path: self.uri.path(), code, answered, duration });
    }

    #[cold]
    fn log(&self, format: Format, reason: Option<Reason>, duration: Duration) {
        let request_id = self.request_id.as_ref().and_then(|id| id.to_str().ok());
        let access = Access {
            time: clock::wall_now(),
            listener: &self.peer.listener,
            client: self.peer.ends.client,
            protocol: protocol(self.version),
            method: self.method.as_str(),
            host: framing::host_of(&self.uri, self.seen.host.as_ref()),
            path: self.uri.path(),
            request_id,
            route: self.route.as_ref().map(|route| &*route.name),
            upstream: self.upstream(),
            endpoint: self.endpoint.as_ref().map(|endpoint| &*endpoint.name),
            status: self.status,
            grpc_status: self.grpc_status,
            reason,
            duration,
            attempts: self.attempts,
            retry_suppressed: self.suppressed.map(Suppressed::as_str),
            would: self.would.as_slice(),
            fallback: self.fallback_name(),
            coalesced: self.coalesced,
            bytes_in: self.read_bytes,
            bytes_out: self.sent_bytes,
        };
        self.worker.proxy.access_log.write(format, &access);
    }

    /// The name of the link that answered, if one did.
    fn fallback_name(&self) -> Option<&str> {
        self.route.as_ref()?.fallback.get(self.fallback?)?.name.to_str().ok()
    }

    /// The name of its upstream, once chosen.
    pub fn upstream(&self) -> Option<&str> {
        let target = self.route.as_ref()?.targets.get(self.target?)?;
        Some(&target.upstream.name)
    }

    /// Counts and notes what a policy in observe mode would have done.
    pub fn would(&mut self, route: &Route, policy: Would) {
        route.metrics.would(policy);
        if !self.would.contains(&policy) {
            self.would.push(policy);
        }
    }
}

const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP",
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.end(Some(Reason::ClientGone));
    }
}
