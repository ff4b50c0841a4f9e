//! A request as it is handed to a connection.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version};
use http::{header, uri};

use crate::proxy_protocol::Origin;

/// A request to send. Its head is borrowed, since another attempt may send it again.
#[derive(Debug)]
pub struct Message<'a, B> {
    /// Its method.
    pub method: &'a Method,
    /// Its target.
    pub uri: &'a Uri,
    /// Its fields.
    pub headers: &'a HeaderMap,
    /// Fields that are this attempt's own.
    pub own: &'a OwnFields,
    /// Its body.
    pub body: B,
    /// For how long a connection may have been idle that it is sent on; any, if not given.
    pub idle_max: Option<Duration>,
    /// Who hears of interim answers; over HTTP/1 alone.
    pub informed: Option<&'a dyn Informed>,
    /// Whom it is sent for.
    pub origin: Origin,
}

/// Who hears of interim answers (RFC 9110, 15.2).
pub trait Informed: fmt::Debug {
    /// An interim answer came, other than 100 and 101.
    fn interim(&self, answer: Response<()>);
}

/// The most fields that an attempt has of its own.
const OWN_MAX: usize = 8;

/// Fields that are one attempt's own, such as the time that it has left. They stand in the place of
/// those of the same name.
#[derive(Debug, Default)]
pub struct OwnFields {
    fields: [Option<(&'static HeaderName, HeaderValue)>; OWN_MAX],
    count: usize,
}

impl OwnFields {
    /// Adds a field. There is room for every field that the proxy writes; what is beyond is lost.
    pub fn set(&mut self, name: &'static HeaderName, value: HeaderValue) {
        if let Some(place) = self.fields.get_mut(self.count) {
            *place = Some((name, value));
            self.count += 1;
        }
    }

    /// The fields.
    pub fn iter(&self) -> impl Iterator<Item = &(&'static HeaderName, HeaderValue)> {
        self.fields.iter().map_while(Option::as_ref)
    }

    /// Puts them among the others.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in self.iter() {
            headers.insert(*name, value.clone());
        }
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &HeaderName) -> bool {
        self.iter().any(|(own, _)| *own == name)
    }
}

impl<B> Message<'_, B> {
    /// Whether it offers to go on with another protocol, which only HTTP/1 can.
    pub fn offers_switch(&self) -> bool {
        self.headers.contains_key(header::UPGRADE)
    }

    /// The request for HTTP/2, which carries the host in `:authority` (RFC 9113, 8.3.1), and that
    /// is taken from the target; `tls` says which scheme it is sent under.
    pub fn into_http2(self, tls: bool) -> Request<B> {
        let mut request = Request::new(self.body);
        *request.version_mut() = Version::HTTP_2;
        *request.method_mut() = self.method.clone();
        let headers = request.headers_mut();
        headers.clone_from(self.headers);
        self.own.apply(headers);
        // HTTP/2 has no such switch (RFC 9113, 8.6); here it can only come from a fallback.
        if headers.remove(header::UPGRADE).is_some() {
            headers.remove(header::CONNECTION);
        }
        let host = headers.remove(header::HOST);
        let authority = host.and_then(|host| uri::Authority::from_maybe_shared(host).ok());
        let mut parts = self.uri.clone().into_parts();
        parts.authority = authority.or(parts.authority);
        parts.scheme = Some(if tls { uri::Scheme::HTTPS } else { uri::Scheme::HTTP });
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_else(|_| self.uri.clone());
        request
    }
}

#[cfg(test)]
mod tests;
