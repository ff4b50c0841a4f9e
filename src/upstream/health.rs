//! One active health check: one GET, or one call of gRPC, over a connection of its own.
//!
//! When checks are due and what their results mean is decided elsewhere.

mod grpc;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::Upstream;
use super::address::EndpointAddress;
use super::connect::{Secure, Stream, connect, introduce};
use super::endpoint::Endpoint;
use crate::clock;
use crate::config::upstream::Protocol;
use crate::policy::health_check::Settings;
use crate::proxy_protocol::{self, Origin};
use crate::tls::client::Offer;

/// How the check names itself.
const USER_AGENT: HeaderValue = HeaderValue::from_static("outrigger-health");

/// The most bytes of an answer's head that are read.
const MAX_HEAD: usize = 64 << 10;

/// What is spoken to the endpoint.
#[derive(Clone, Copy)]
pub struct Speak<'a> {
    /// The protocol, or that the endpoint may choose it.
    pub protocol: Protocol,
    /// The version of the PROXY protocol in which we say that we come for ourselves, if it is
    /// wanted there.
    pub proxy_protocol: Option<proxy_protocol::Version>,
    /// TLS, if it is spoken there.
    pub tls: Option<Secure<'a>>,
}

impl<'a> Speak<'a> {
    /// What is spoken to an endpoint of an upstream.
    #[must_use]
    pub fn to(upstream: &'a Upstream, endpoint: &'a Endpoint) -> Self {
        let settings = &upstream.settings;
        Self {
            protocol: settings.protocol,
            proxy_protocol: settings.proxy_protocol,
            tls: Secure::of(upstream, endpoint),
        }
    }

    fn offer(&self, settings: &Settings) -> Offer {
        match self.protocol {
            _ if settings.grpc.is_some() => Offer::Http2,
            Protocol::Http1 => Offer::Http1,
            Protocol::Http2 => Offer::Http2,
            Protocol::Auto => Offer::Either,
        }
    }
}

/// Asks an endpoint for its health once, over a new connection that is closed afterwards. `host` is
/// the authority that the request names, such as `payments.internal:8080`. Of the answer to a GET
/// only the head is read.
///
/// # Errors
/// When no answer that is good by the settings came within `settings.timeout`; what happened.
pub async fn check(
    address: &EndpointAddress,
    settings: &Settings,
    host: &str,
    speak: Speak<'_>,
) -> Result<(), String> {
    let tls = speak.tls.is_some();
    // Made before anything is connected to, so that what cannot be asked is said at once.
    let wants_http2 = speak.protocol == Protocol::Http2;
    let call = match &settings.grpc {
        Some(settings) => Some(grpc::request(&settings.service, host, tls)?),
        None => None,
    };
    let expected = request(settings, host, wants_http2, tls)?;
    let timeout: Duration = settings.timeout.get();
    let answer = Box::pin(async {
        let stream = open(address, settings, speak).await?;
        if let Some(call) = call {
            return grpc::ask(stream, call).await;
        }
        let status = if stream.chose_http2() && !wants_http2 {
            ask(stream, request(settings, host, true, tls)?, true).await
        } else {
            ask(stream, expected, wants_http2).await
        };
        judge(settings, status?)
    });
    match clock::until(clock::now() + timeout, answer).await {
        Ok(verdict) => verdict,
        Err(_) => Err(format!("no answer within {}", settings.timeout)),
    }
}

/// A connection of the check's own.
async fn open(
    address: &EndpointAddress,
    settings: &Settings,
    speak: Speak<'_>,
) -> Result<Stream, String> {
    let failed = |error| format!("cannot connect to {address}: {error}");
    let mut stream = connect(address).await.map_err(failed)?;
    if let Some(version) = speak.proxy_protocol {
        let introduced = introduce(&mut stream, version, Origin::Sender).await;
        introduced.map_err(failed)?;
    }
    let Some(secure) = speak.tls else { return Ok(stream) };
    secure.shake(stream, speak.offer(settings)).await.map_err(|cause| cause.to_string())
}

fn judge(settings: &Settings, status: StatusCode) -> Result<(), String> {
    if (settings.expect.from..=settings.expect.to).contains(&status.as_u16()) {
        Ok(())
    } else {
        Err(format!("the answer's status is {}, not {}", status.as_u16(), settings.expect))
    }
}

/// HTTP/1.1 names the authority in `Host` and has the connection closed; HTTP/2 has a field of its
/// own for the authority and forbids `Connection` (RFC 9113 section 8.2.2).
fn request(
    settings: &Settings,
    host: &str,
    http2: bool,
    tls: bool,
) -> Result<Request<Empty<Bytes>>, String> {
    let path = settings.path.as_str();
    let invalid = |why: &dyn std::fmt::Display| {
        format!("a check of path `{path}` at host `{host}` is not a valid request: {why}")
    };
    if !path.starts_with('/') {
        return Err(invalid(&"the path has to start with `/`"));
    }
    let builder = Request::builder().method(Method::GET).header(header::USER_AGENT, USER_AGENT);
    let builder = if http2 {
        let scheme = if tls { "https" } else { "http" };
        let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(path).build();
        builder.version(Version::HTTP_2).uri(uri.map_err(|error| invalid(&error))?)
    } else {
        let close = HeaderValue::from_static("close");
        builder.uri(path).header(header::HOST, host).header(header::CONNECTION, close)
    };
    builder.body(Empty::new()).map_err(|error| invalid(&error))
}

async fn ask(
    stream: Stream,
    request: Request<Empty<Bytes>>,
    http2: bool,
) -> Result<StatusCode, String> {
    let io = TokioIo::new(stream);
    let answer: hyper::Result<Response<Incoming>> = if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.max_header_list_size(MAX_HEAD as u32);
        match builder.handshake(io).await {
            Ok((mut sender, connection)) => drive(sender.send_request(request), connection).await,
            Err(error) => Err(error),
        }
    } else {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD);
        match builder.handshake(io).await {
            Ok((mut sender, connection)) => drive(sender.send_request(request), connection).await,
            Err(error) => Err(error),
        }
    };
    // Dropping the answer with its body unread ends the connection.
    answer.map(|answer| answer.status()).map_err(|error| said(&error))
}

/// Runs the connection for as long as the answer is waited for. A connection that ends has either
/// handed over the answer or made the wait for it fail, so it is the answer that decides.
async fn drive<T>(
    answer: impl Future<Output = hyper::Result<T>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> hyper::Result<T> {
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

/// The error with its causes, which hyper leaves out of its own text.
fn said(error: &hyper::Error) -> String {
    let mut text = format!("the request failed: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
