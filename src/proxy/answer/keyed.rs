//! Answers to requests whose key hinders them: the vocabulary of
//! [`crate::policy::idempotency::problem`] as problem documents and as gRPC statuses.
//!
//! A gRPC client gets the code as the reason of a `google.rpc.ErrorInfo`, and the wait as a
//! `google.rpc.RetryInfo`, in `grpc-status-details-bin`.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LINK,
    RETRY_AFTER,
};
use http::{Response, StatusCode};
use serde::Serialize;

use super::details::{DOMAIN, Details};
use super::{
    AnswerKind, WAIT_MAX, WAIT_MIN, insert, percent_encode, spread_millis, spread_seconds,
};
use crate::policy::idempotency::Settings;
use crate::policy::idempotency::problem::{Code, RetrySameKey};
use crate::policy::idempotency::record::{Millis, State};
use crate::policy::idempotency::response::Status;
use crate::proxy::headers::names::{
    GRPC_MESSAGE, GRPC_PUSHBACK_MS, GRPC_STATUS, GRPC_STATUS_DETAILS, PROXY_STATUS, REASON,
};
use crate::telemetry::access_log::date;
use crate::telemetry::reason::Reason;

/// What there is to say of a request whose key hinders it.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// What happened.
    pub code: Code,
    /// The same in the vocabulary of all answers.
    pub reason: Reason,
    /// What the status field says.
    pub said: Status,
    /// The HTTP status, where it is not the code's usual one.
    pub status: Option<u16>,
    /// What exactly happened, in place of the code's own sentence.
    pub detail: Option<&'a str>,
    /// Where the record stands.
    pub state: Option<State>,
    /// What an operator finds the record by. Only for the record's own principal.
    pub operation_ref: Option<&'a str>,
    /// When the key was first seen.
    pub first_seen: Option<Millis>,
    /// The status that was seen before the outcome became unknown.
    pub observed_status: Option<u16>,
    /// The status of the answer that is not kept any more.
    pub original_status: Option<u16>,
    /// After how long to come back; 1 s where the code asks to wait and nothing better is known.
    pub retry_after: Option<Duration>,
    /// What happened on the way, a token of RFC 9209, section 2.3, for 502, 503 and 504.
    pub proxy_error: Option<&'static str>,
}

impl Told<'_> {
    /// A code of which nothing more is known.
    #[must_use]
    pub const fn of(code: Code, reason: Reason) -> Self {
        Self {
            code,
            reason,
            said: Status::Rejected(code),
            status: None,
            detail: None,
            state: None,
            operation_ref: None,
            first_seen: None,
            observed_status: None,
            original_status: None,
            retry_after: None,
            proxy_error: None,
        }
    }

    fn detail(&self) -> &str {
        self.detail.unwrap_or_else(|| self.code.detail())
    }

    /// The same for a client of gRPC, in full.
    fn details(&self, message: &str, wait: Option<u64>) -> String {
        let code = self.code;
        let known = [
            ("state", self.state.map(State::name)),
            ("operation_ref", self.operation_ref),
            ("retry_same_key", Some(code.retry_same_key().as_str())),
            ("new_key_safe", Some(if code.new_key_safe() { "true" } else { "false" })),
        ];
        let (reason, code) = (code.as_str(), code.grpc());
        Details { code, message, reason, known: &known, wait }.encode()
    }

    fn wait(&self) -> Option<Duration> {
        let usual = self.code.asks_to_wait().then_some(WAIT_MIN);
        self.retry_after.or(usual).map(|wait| wait.clamp(WAIT_MIN, WAIT_MAX))
    }
}

/// The body (RFC 9457 with members of our own).
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation_ref: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_seen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observed_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_status: Option<u16>,
    retry_same_key: &'static str,
    new_key_safe: bool,
}

/// The answer. `random`, in `[0, 1)`, spreads the wait that a client is asked for.
#[must_use]
pub fn answer(s: &Settings, kind: AnswerKind, told: &Told<'_>, random: f64) -> Response<Bytes> {
    let mut answer = match kind {
        AnswerKind::Http => document(s, told, random),
        AnswerKind::Grpc | AnswerKind::Web => trailers_only(kind, told, random),
    };
    let headers = answer.headers_mut();
    headers.insert(REASON.clone(), HeaderValue::from_static(told.reason.as_str()));
    if let Ok(name) = HeaderName::from_bytes(s.status_header.as_bytes()) {
        insert(headers, &name, &told.said.to_string());
    }
    if let Some(docs) = &s.docs {
        let link = format!("<{}>; rel=\"describedby\"", told.code.link(Some(docs)));
        insert(headers, &LINK, &link);
    }
    answer
}

fn document(s: &Settings, told: &Told<'_>, random: f64) -> Response<Bytes> {
    let code = told.code;
    let status = told.status.unwrap_or_else(|| code.status());
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(&Document {
        r#type: code.link(s.docs.as_deref()),
        title: code.title(),
        status: status.as_u16(),
        detail: told.detail(),
        code: code.as_str(),
        state: told.state.map(State::name),
        operation_ref: told.operation_ref,
        first_seen: told.first_seen.map(rfc3339),
        observed_status: told.observed_status,
        original_status: told.original_status,
        retry_same_key: code.retry_same_key().as_str(),
        new_key_safe: code.new_key_safe(),
    })
    .unwrap_or_default();
    let length = HeaderValue::from(body.len());
    let mut answer = Response::new(Bytes::from(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(wait) = told.wait() {
        headers.insert(RETRY_AFTER, HeaderValue::from(spread_seconds(wait, random)));
    }
    if let Some(error) = told.proxy_error {
        insert(headers, &PROXY_STATUS, &format!("{DOMAIN};error={error}"));
    }
    answer
}

fn trailers_only(kind: AnswerKind, told: &Told<'_>, random: f64) -> Response<Bytes> {
    let code = told.code;
    let message = format!("{}: {}", code.title(), told.detail());
    let mut answer = Response::new(Bytes::new());
    let headers: &mut HeaderMap = answer.headers_mut();
    headers.insert(CONTENT_TYPE, kind.content_type());
    headers.insert(GRPC_STATUS.clone(), HeaderValue::from(code.grpc()));
    insert(headers, &GRPC_MESSAGE, &percent_encode(&message));
    let wait = told.wait().filter(|_| code.retry_same_key() != RetrySameKey::No);
    let millis = wait.map(|wait| spread_millis(wait, random));
    insert(headers, &GRPC_STATUS_DETAILS, &told.details(&message, millis));
    // A negative wait tells gRPC's clients not to send it again by themselves (gRFC A6).
    let pushback = millis.map_or_else(|| "-1".to_owned(), |millis| millis.to_string());
    insert(headers, &GRPC_PUSHBACK_MS, &pushback);
    answer
}

/// A time in UTC, to the second.
fn rfc3339(time: Millis) -> String {
    let seconds = time / 1000;
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests;
