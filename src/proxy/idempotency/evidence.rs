//! What an exchange says of its operation, put in the words of
//! [`crate::policy::idempotency::outcome`].

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::policy::cache::directives::Directives;
use crate::policy::idempotency::outcome::APPLICATION_FIELD;
use crate::policy::idempotency::outcome::{Answer, Application, Body, End, Grpc};
use crate::policy::idempotency::record::{Field, Stored};
use crate::policy::idempotency::response;
use crate::policy::outcome;
use crate::proxy::attempt::Tried;
use crate::proxy::headers::hint;
use crate::snapshot::keys::Keys;

/// The head of an answer.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    status: StatusCode,
    headers: &'a HeaderMap,
}

impl<'a> From<&'a http::response::Parts> for Head<'a> {
    fn from(parts: &'a http::response::Parts) -> Self {
        Self { status: parts.status, headers: &parts.headers }
    }
}

/// How an attempt ended, as far as its head tells.
#[must_use]
pub(super) fn of_attempt(keys: &Keys, grpc: bool, tried: &Tried) -> End {
    let outcome = &tried.outcome;
    if let Ok(answer) = &tried.answer {
        let (status, headers) = (answer.response.status(), answer.response.headers());
        let body = if grpc { Body::Streaming } else { Body::Whole };
        let trailers = answer.response.body().peeked_trailers();
        return End::Answered(of_answer(keys, grpc, Head { status, headers }, trailers, body));
    }
    match outcome.end {
        outcome::End::ConnectFailure | outcome::End::ConnectTimeout => End::NoConnection,
        outcome::End::Refused => End::Refused,
        _ if outcome.unsent => End::HeadUnwritten,
        outcome::End::PerTryTimeout | outcome::End::DeadlineExceeded => End::TimedOut,
        outcome::End::Reset | outcome::End::Answer { .. } => End::Lost,
    }
}

/// What an answer says, as far as it decides.
#[must_use]
pub(super) fn of_answer(
    keys: &Keys,
    grpc: bool,
    head: Head<'_>,
    trailers: Option<&HeaderMap>,
    body: Body,
) -> Answer {
    let Head { status, headers } = head;
    let code = hint::grpc_status(headers).or_else(|| trailers.and_then(hint::grpc_status));
    let grpc = match (grpc, code) {
        (false, _) => Grpc::No,
        (true, Some(code)) => Grpc::Status(code),
        // The status of a call that goes on is still to come.
        (true, None) if body != Body::Whole => Grpc::No,
        (true, None) => Grpc::Missing,
    };
    let status = status.as_u16();
    let field = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let conflict = &keys.settings.upstream_conflict;
    Answer {
        status,
        grpc,
        application: field(APPLICATION_FIELD).and_then(Application::parse),
        retry_after: headers.contains_key(header::RETRY_AFTER),
        conflict: conflict.as_ref().is_some_and(|conflict| conflict.matches(status, field)),
        no_store: no_store(headers),
        body,
    }
}

fn no_store(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CACHE_CONTROL).iter().map(HeaderValue::as_bytes);
    Directives::read(lines).no_store
}

/// An answer as it is stored; nothing when its fields are too large for that.
#[must_use]
pub(super) fn stored(
    keys: &Keys,
    head: &http::response::Parts,
    pieces: &[Bytes],
    trailers: Option<&HeaderMap>,
) -> Option<Stored> {
    let kept = |map: &HeaderMap| -> Vec<Field> {
        let pairs: Vec<_> =
            map.iter().map(|(n, v)| (n.as_str().as_bytes(), v.as_bytes())).collect();
        response::stored(&keys.settings, pairs.iter().copied())
    };
    let (headers, trailers) = (kept(&head.headers), trailers.map(kept).unwrap_or_default());
    let size = response::size(&headers) + response::size(&trailers);
    if size > keys.settings.stored_headers.as_usize() {
        return None;
    }
    let body = Some(pieces.concat().into());
    let status = head.status.as_u16();
    Some(Stored { status, indeterminate: false, headers, body, trailers })
}
