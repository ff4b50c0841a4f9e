//! The request as it goes to the upstream: made once, sent once or more.

use std::cell::{Ref, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use http_body_util::BodyExt;

use super::body::{Failure, RequestBody, RequestSource};
use super::error::Refusal;
use super::peer::Peer;
use crate::proxy_protocol::Origin;
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
