//! gRPC over one HTTP/2 connection: a message goes out, a message or a status comes back.
//!
//! The protocol is small (a path, five bytes before each message, a status in the trailers), and
//! the store must know of every failure whether the request may have been carried out; so this is
//! done on the HTTP/2 client that the proxy has anyhow, in the open.
//!
//! Not here: who the server is, and whether to ask another one.

use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use http::{Method, Request, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use prost::Message;

use crate::clock;
use crate::records::{Cause, Kind};

/// The most of one answer: a page of records, or a record with the largest body that can be
/// stored, with much to spare.
const ANSWER_MAX: usize = 32 << 20;
/// What is kept of a server's words, in bytes.
const WORDS_MAX: usize = 200;

/// etcd refuses at once, instead of letting us wait, when its member knows of no leader.
const HAS_LEADER: HeaderName = HeaderName::from_static("hasleader");
const TOKEN: HeaderName = HeaderName::from_static("token");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const WORDS: HeaderName = HeaderName::from_static("grpc-message");

/// What a request is sent with.
pub(crate) type Body = BoxBody<Bytes, std::convert::Infallible>;

/// A connection on which requests can be sent, also at the same time, from any runtime.
#[derive(Clone)]
pub(crate) struct Channel {
    /// The connection.
    pub(crate) send: SendRequest<Body>,
    /// Scheme and authority, for the target.
    pub(crate) origin: Uri,
    /// What the server gave for name and password.
    pub(crate) token: Option<HeaderValue>,
}

/// Why there is no message.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It is proved that the request was not carried out: it was not sent, or refused unread.
    Unsent(Cause),
    /// It was sent, and no answer came.
    Silent(Cause),
    /// The server answered with a status other than 0.
    Status {
        /// As gRPC numbers them.
        code: u8,
        /// The server's words.
        words: Box<str>,
    },
}

impl Channel {
    /// Asks once, and waits until this instant at most.
    pub(crate) async fn ask<Q: Message, A: Message + Default>(
        &mut self,
        path: &'static str,
        question: &Q,
        deadline: Instant,
    ) -> Result<A, Failure> {
        let left = deadline.saturating_duration_since(clock::now());
        if left.is_zero() {
            return Err(Failure::Unsent(Cause::new(Kind::Timeout, "no time left to ask")));
        }
        let body = Full::new(framed(question)).boxed();
        let mut request = self.request(path, body)?;
        request.headers_mut().insert(TIMEOUT, timeout(left));
        match clock::until(deadline, self.exchange(request)).await {
            Ok(answer) => A::decode(answer?).map_err(|error| malformed(&error)),
            Err(_) => Err(Failure::Silent(Cause::new(
                Kind::Timeout,
                format_args!("no answer within {} ms", left.as_millis()),
            ))),
        }
    }

    /// Opens a stream of questions and answers that lasts.
    pub(crate) async fn open(
        &mut self,
        path: &'static str,
        body: Body,
    ) -> Result<Incoming, Failure> {
        let request = self.request(path, body)?;
        let answer = self.send(request).await?;
        refusal(answer.headers())?;
        Ok(answer.into_body())
    }

    fn request(&self, path: &'static str, body: Body) -> Result<Request<Body>, Failure> {
        let mut parts = self.origin.clone().into_parts();
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static(path));
        let target = Uri::from_parts(parts)
            .map_err(|error| Failure::Unsent(Cause::new(Kind::Unfit, error)))?;
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(HAS_LEADER, HeaderValue::from_static("true"));
        if let Some(token) = &self.token {
            headers.insert(TOKEN, token.clone());
        }
        Ok(request)
    }

    async fn send(&mut self, request: Request<Body>) -> Result<http::Response<Incoming>, Failure> {
        self.send.ready().await.map_err(|error| {
            Failure::Unsent(Cause::new(Kind::Unreachable, format_args!("connection over: {error}")))
        })?;
        self.send.try_send_request(request).await.map_err(|mut error| {
            let unsent = error.take_message().is_some() || refused_unread(error.error());
            lost(error.error(), unsent)
        })
    }

    async fn exchange(&mut self, request: Request<Body>) -> Result<Bytes, Failure> {
        let answer = self.send(request).await?;
        let status = answer.status();
        if !status.is_success() {
            // A proxy or something else in between; what it did with the request nobody knows.
            let cause = Cause::new(Kind::Protocol, format_args!("HTTP status {status}"));
            return Err(Failure::Silent(cause));
        }
        refusal(answer.headers())?;
        let body = Limited::new(answer.into_body(), ANSWER_MAX);
        let body = body.collect().await.map_err(|error| {
            Failure::Silent(Cause::new(Kind::ConnectionLost, format_args!("answer cut: {error}")))
        })?;
        let Some(trailers) = body.trailers() else {
            return Err(Failure::Silent(Cause::new(Kind::Protocol, "an answer without a status")));
        };
        refusal(trailers)?;
        let mut bytes = body.to_bytes();
        take_message(&mut bytes).ok_or_else(|| malformed(&"no whole message"))
    }
}

/// A message with its length before it.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(len + 5);
    bytes.put_u8(0);
    // What we send is bounded far below 4 GiB by the limits on answers.
    bytes.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes.freeze()
}

/// The next message, when it is there as a whole; compressed ones were not asked for.
pub(crate) fn take_message(bytes: &mut impl Buf) -> Option<Bytes> {
    let mut head = [0; 5];
    bytes.chunk().get(..5)?.iter().zip(&mut head).for_each(|(from, to)| *to = *from);
    let [0, len @ ..] = head else { return None };
    let len = usize::try_from(u32::from_be_bytes(len)).ok()?;
    if bytes.remaining() < len.checked_add(5)? {
        return None;
    }
    bytes.advance(5);
    Some(bytes.copy_to_bytes(len))
}

/// A status other than 0 in header or trailer fields.
fn refusal(fields: &HeaderMap) -> Result<(), Failure> {
    let Some(code) = fields.get(STATUS) else { return Ok(()) };
    // An unreadable status is the one that says nothing: 2, unknown.
    let code = code.to_str().ok().and_then(|code| code.parse().ok()).unwrap_or(2);
    if code == 0 {
        return Ok(());
    }
    let words = fields.get(WORDS).map(|words| String::from_utf8_lossy(words.as_bytes()));
    let words = words.unwrap_or_default().chars().take(WORDS_MAX).collect::<String>();
    Err(Failure::Status { code, words: words.into_boxed_str() })
}

fn malformed(error: &dyn std::fmt::Display) -> Failure {
    Failure::Silent(Cause::new(Kind::Protocol, format_args!("an answer that is none: {error}")))
}

fn lost(error: &hyper::Error, unsent: bool) -> Failure {
    let words = with_causes(error);
    if unsent {
        Failure::Unsent(Cause::new(Kind::Unreachable, words))
    } else {
        Failure::Silent(Cause::new(Kind::ConnectionLost, words))
    }
}

/// An error with what caused it.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        words = format!("{words}: {inner}");
        source = inner.source();
    }
    words
}

/// Whether the peer proved that it did not process the stream (RFC 9113, 8.7).
fn refused_unread(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<h2::Error>() {
            let reason = error.reason();
            return reason == Some(h2::Reason::REFUSED_STREAM)
                || (error.is_go_away()
                    && error.is_remote()
                    && reason == Some(h2::Reason::NO_ERROR));
        }
        source = inner.source();
    }
    false
}

/// A length of time as gRPC writes it: eight digits at most.
fn timeout(left: Duration) -> HeaderValue {
    let ms = left.as_millis().clamp(1, 99_999_999);
    HeaderValue::try_from(format!("{ms}m")).unwrap_or(HeaderValue::from_static("1S"))
}

#[cfg(test)]
mod tests;
