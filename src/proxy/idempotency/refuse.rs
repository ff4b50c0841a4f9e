//! What a client is told that gets no answer of the upstream: a problem document (RFC 9457), or a
//! gRPC status with its details.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, LINK};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::asked::Asked;
use super::details;
use crate::clock;
use crate::policy::idempotency::problem::Code;
use crate::policy::idempotency::record::{Millis, State};
use crate::policy::idempotency::response::{Status, Unstored};
use crate::proxy::answer::{self, AnswerKind};
use crate::proxy::body::Body;
use crate::proxy::context::Context;
use crate::proxy::error::Refusal;
use crate::proxy::headers::names::{GRPC_MESSAGE, GRPC_PUSHBACK_MS, GRPC_STATUS, REASON, SHED};
use crate::snapshot::keys::Keys;
use crate::telemetry::access_log::Rfc3339;
use crate::telemetry::reason::Reason;

/// What failed beside an answer (RFC 9209).
static PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// A gRPC status with its details.
static GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// Why a request under a key is not answered by the upstream.
pub struct Problem {
    code: Code,
    /// The cause, where it is one that other requests have as well.
    reason: Option<Reason>,
    /// What exactly is wrong.
    why: Option<&'static str>,
    /// When to come back; the code's own wait otherwise.
    wait: Option<Duration>,
    /// What is known of the record.
    known: Known,
    /// The refusal itself, where it has nothing to do with the key.
    other: Option<Box<Refusal>>,
}

/// What is known of a record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// Where it stands.
    pub state: Option<State>,
    /// When it was first claimed.
    pub first_seen: Option<Millis>,
    /// The status that was seen before the outcome became unknown.
    pub observed_status: Option<u16>,
    /// The status that the operation was answered with.
    pub original_status: Option<u16>,
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Box::new(refusal).into()
    }
}

impl From<Box<Refusal>> for Problem {
    fn from(refusal: Box<Refusal>) -> Self {
        Self { other: Some(refusal), ..Self::new(Code::NotExecuted) }
    }
}

impl Problem {
    /// A problem by its code alone.
    #[must_use]
    pub const fn new(code: Code) -> Self {
        let known =
            Known { state: None, first_seen: None, observed_status: None, original_status: None };
        Self { code, reason: None, why: None, wait: None, known, other: None }
    }

    /// With what exactly is wrong.
    #[must_use]
    pub const fn because(mut self, why: &'static str) -> Self {
        self.why = Some(why);
        self
    }

    /// With the time to come back after.
    #[must_use]
    pub const fn after(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// With a cause that other requests have as well.
    #[must_use]
    pub const fn with(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// With what is known of the record.
    #[must_use]
    pub const fn knowing(mut self, known: Known) -> Self {
        self.known = known;
        self
    }

    /// What the answer says of the key.
    const fn said(&self) -> Status {
        match (self.code, self.reason) {
            (Code::ResponseTimeout, _) => Status::Unstored(Unstored::Pending),
            // The first sending; a repeated request is refused without one.
            (Code::OutcomeUnknown, Some(_)) => Status::Unstored(Unstored::OutcomeUnknown),
            (code, _) => Status::Rejected(code),
        }
    }

    /// The answer to the client.
    pub async fn answer(
        mut self,
        mut ctx: Box<Context>,
        keys: &Keys,
        asked: Option<&Asked>,
    ) -> Response<Body> {
        let said = self.said();
        keys.metrics.ended(&said);
        ctx.say(keys, &said);
        if let Some(refusal) = self.other.take() {
            return refusal.answer(ctx);
        }
        let reason = self.reason.unwrap_or_else(|| reason_of(self.code));
        let reference = reference(keys, asked).await;
        let kind = if ctx.grpc { AnswerKind::Grpc } else { AnswerKind::Http };
        let mut response = match kind {
            AnswerKind::Http => self.document(keys, reason, reference),
            AnswerKind::Grpc => self.status(reason),
        };
        let headers = response.headers_mut();
        self.common(headers, reason, kind);
        if reason == Reason::BodyTooLarge && !ctx.grpc {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some((name, value)) = ctx.said.take() {
            headers.insert(name, value);
        }
        ctx.reason = Some(reason);
        ctx.status = Some(response.status().as_u16());
        let (head, bytes) = response.into_parts();
        Response::from_parts(head, Body::Local(Some(bytes), ctx))
    }

    /// The fields that problem documents and gRPC statuses have alike.
    fn common(&self, headers: &mut HeaderMap, reason: Reason, kind: AnswerKind) {
        headers.insert(REASON.clone(), HeaderValue::from_static(reason.as_str()));
        if answer::is_refusal(reason) {
            headers.insert(SHED.clone(), HeaderValue::from_static("1"));
        }
        if self.code.asks_to_wait() || self.wait.is_some() {
            let wait = self.wait.unwrap_or(Duration::from_secs(1));
            answer::ask_to_wait(headers, kind, wait, fastrand::f64());
        } else if kind == AnswerKind::Grpc && self.code == Code::OutcomeUnknown {
            headers.insert(GRPC_PUSHBACK_MS.clone(), HeaderValue::from_static("-1"));
        }
        if let Some(error) = proxy_error(reason) {
            headers.insert(PROXY_STATUS.clone(), HeaderValue::from_static(error));
        }
    }

    /// The problem document.
    fn document(&self, keys: &Keys, reason: Reason, reference: Option<String>) -> Response<Bytes> {
        let code = self.code;
        // What has no status of its own is an answer that was cut off, and was not begun here.
        let of_cause = match reason.status() {
            0 => StatusCode::BAD_GATEWAY.as_u16(),
            status => status,
        };
        let fits = code.statuses().contains(&of_cause);
        let status = if fits { of_cause } else { code.status() };
        let link = code.link(keys.settings.docs.as_deref());
        let known = &self.known;
        let document = Document {
            r#type: &link,
            title: code.title(),
            status,
            detail: self.why.unwrap_or_else(|| code.detail()),
            instance: uuid(),
            code: code.as_str(),
            state: known.state.map(State::name),
            operation_ref: reference,
            first_seen: known.first_seen.filter(|at| *at > 0).map(instant),
            observed_status: known.observed_status,
            original_status: known.original_status,
            retry_same_key: code.retry_same_key().as_str(),
            new_key_safe: code.new_key_safe(),
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let length = HeaderValue::from(body.len());
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::CONFLICT);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CONTENT_LENGTH, length);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(docs) = &keys.settings.docs
            && let Ok(value) = HeaderValue::from_str(&format!("<{docs}>; rel=\"describedby\""))
        {
            headers.insert(LINK, value);
        }
        response
    }

    /// A gRPC answer of one header block.
    fn status(&self, reason: Reason) -> Response<Bytes> {
        let code = self.code;
        let message = self.why.unwrap_or_else(|| code.title());
        let wait = code.asks_to_wait().then(|| self.wait.unwrap_or(Duration::from_secs(1)));
        let details = details::status(code, message, reason.as_str(), wait);
        let mut response = Response::new(Bytes::new());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(GRPC_STATUS.clone(), HeaderValue::from(code.grpc()));
        if let Ok(value) = HeaderValue::from_str(&answer::percent_encode(message)) {
            headers.insert(GRPC_MESSAGE.clone(), value);
        }
        if let Ok(value) = HeaderValue::from_str(&details) {
            headers.insert(GRPC_DETAILS.clone(), value);
        }
        response
    }
}

/// The body of the answer (RFC 9457), with what a program needs to decide what to do next.
#[derive(Serialize)]
struct Document<'a> {
    r#type: &'a str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    instance: String,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation_ref: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_seen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observed_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_status: Option<u16>,
    retry_same_key: &'static str,
    new_key_safe: bool,
}

/// The reference of the record, where the store can say it at once.
async fn reference(keys: &Keys, asked: Option<&Asked>) -> Option<String> {
    let (ledger, asked) = (keys.ledger.as_ref()?, asked?);
    let by = clock::now() + REFERENCE_WAIT;
    ledger.reference(&asked.rid, by).await.ok()
}

/// A reference is a help, and not worth a wait.
const REFERENCE_WAIT: Duration = Duration::from_millis(20);

fn uuid() -> String {
    use crate::policy::idempotency::fresh;
    let unix = clock::wall_now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let unix = u64::try_from(unix.as_millis()).unwrap_or_default();
    let mut random = [0; fresh::RANDOM];
    fastrand::fill(&mut random);
    let text = fresh::uuid_v7(unix, random);
    format!("urn:uuid:{}", String::from_utf8_lossy(&text))
}

/// A time of the store as RFC 3339 has it, in seconds.
fn instant(at: Millis) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_millis(at);
    Rfc3339(at).to_string()
}

const fn reason_of(code: Code) -> Reason {
    match code {
        Code::KeyMissing => Reason::KeyMissing,
        Code::KeyInvalid => Reason::KeyInvalid,
        Code::ScopeMissing => Reason::ScopeMissing,
        Code::BodyTooLarge => Reason::BodyTooLarge,
        Code::KeyReused => Reason::KeyReused,
        Code::InProgress => Reason::KeyInProgress,
        Code::ResponseTimeout => Reason::Deadline,
        Code::OutcomeUnknown => Reason::OutcomeUnknown,
        Code::ResultUnavailable => Reason::ResultUnavailable,
        Code::KeyExpired => Reason::KeyExpired,
        Code::StoreUnavailable => Reason::StoreUnavailable,
        Code::StoreFull => Reason::StoreFull,
        Code::NotExecuted => Reason::ConnectFailure,
        Code::Quota => Reason::KeyQuota,
    }
}

/// What failed between the proxy and the upstream (RFC 9209, 2.3).
const fn proxy_error(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::Deadline | Reason::PerTryTimeout => "outrigger; error=http_response_timeout",
        Reason::UpstreamCut => "outrigger; error=http_response_incomplete",
        Reason::UpstreamReset => "outrigger; error=connection_terminated",
        Reason::ConnectFailure => "outrigger; error=connection_refused",
        Reason::ConnectTimeout => "outrigger; error=connection_timeout",
        Reason::UpstreamRefused => "outrigger; error=http_request_error",
        _ => return None,
    })
}
