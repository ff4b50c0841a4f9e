//! The request as it goes to the upstream: made once, sent once or more.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, Uri, Version};

use super::body::{Failure, RequestBody, RequestSource};
use super::error::Refusal;
use super::headers::hop;
use crate::config::upstream::Protocol;
use crate::telemetry::reason::Reason;
use crate::upstream::endpoint::Endpoint;

/// The most attempts of a request, and so endpoints to remember; the configuration allows no more.
const TRIED_MAX: usize = 10;

/// The request as it goes to the upstream.
pub struct Outbound {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    source: Option<RequestSource>,
    /// Whether another attempt may follow, so that the head must be kept.
    repeatable: bool,
    tried: [u64; TRIED_MAX],
    tried_count: usize,
}

impl Outbound {
    /// A request ready to be sent.
    pub fn new(
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        source: Option<RequestSource>,
        repeatable: bool,
    ) -> Self {
        Self { method, uri, headers, source, repeatable, tried: [0; TRIED_MAX], tried_count: 0 }
    }

    /// The header fields.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The endpoints that were tried.
    pub fn tried(&self) -> &[u64] {
        self.tried.get(..self.tried_count).unwrap_or_default()
    }

    /// Remembers an endpoint as tried.
    pub fn note(&mut self, endpoint: &Arc<Endpoint>) {
        if let Some(place) = self.tried.get_mut(self.tried_count) {
            *place = endpoint.id;
            self.tried_count += 1;
        }
    }

    /// The request for the next attempt.
    pub fn request(&mut self, protocol: Protocol) -> Request<RequestBody> {
        let body = self.source.as_ref().map_or(RequestBody::EMPTY, RequestSource::attempt);
        let mut request = Request::new(body);
        let headers = &mut self.headers;
        *request.headers_mut() =
            if self.repeatable { headers.clone() } else { std::mem::take(headers) };
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        if protocol == Protocol::Http2 {
            name_authority(&mut request);
        } else {
            hop::name_te_for_http1(request.headers_mut());
        }
        request
    }

    /// Whether the body, if there is one, can be sent once more.
    pub fn replayable(&self) -> bool {
        self.source.as_ref().is_none_or(RequestSource::replayable)
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

/// HTTP/2 carries the host in `:authority` (RFC 9113, 8.3.1), which is taken from the URI.
fn name_authority(request: &mut Request<RequestBody>) {
    *request.version_mut() = Version::HTTP_2;
    let Some(host) = request.headers_mut().remove(http::header::HOST) else { return };
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(http::uri::Scheme::HTTP);
    parts.authority = http::uri::Authority::from_maybe_shared(host).ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}
