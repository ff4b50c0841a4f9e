//! What a client is told that gets no answer of the upstream: a problem document (RFC 9457), or a
//! gRPC status with its details.

use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Response, StatusCode, Version};

use super::asked::Asked;
use crate::clock;
use crate::policy::idempotency::problem::Code;
use crate::policy::idempotency::record::{Millis, State};
use crate::policy::idempotency::response::{Status, Unstored};
use crate::proxy::answer;
use crate::proxy::answer::keyed::Told;
use crate::proxy::body::Body;
use crate::proxy::context::Context;
use crate::proxy::error::Refusal;
use crate::proxy::headers::names::SHED;
use crate::snapshot::keys::Keys;
use crate::telemetry::reason::Reason;

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
        let told = Told {
            said,
            status: self.status(reason),
            detail: self.why,
            state: self.known.state,
            operation_ref: reference.as_deref(),
            first_seen: self.known.first_seen.filter(|at| *at > 0),
            observed_status: self.known.observed_status,
            original_status: self.known.original_status,
            retry_after: self.wait,
            proxy_error: proxy_error(reason),
            ..Told::of(self.code, reason)
        };
        let kind = ctx.answers();
        if ctx.grpc {
            ctx.grpc_status = Some(self.code.grpc());
        }
        let mut response = answer::keyed::answer(&keys.settings, kind, &told, fastrand::f64());
        let headers = response.headers_mut();
        if answer::is_refusal(reason) {
            headers.insert(SHED.clone(), HeaderValue::from_static("1"));
        }
        // What the client still sends of its body is not read.
        if ctx.version < Version::HTTP_2
            && (reason == Reason::BodyTooLarge || ctx.peer.last_request())
        {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        ctx.reason = Some(reason);
        ctx.status = Some(response.status().as_u16());
        let (head, bytes) = response.into_parts();
        Response::from_parts(head, Body::Local(Some(bytes), ctx))
    }

    /// The cause's own status, where the code can have it.
    fn status(&self, reason: Reason) -> Option<u16> {
        // What has none is an answer that was cut off, and was not begun here.
        let status = match reason.status() {
            0 => StatusCode::BAD_GATEWAY.as_u16(),
            status => status,
        };
        self.code.statuses().contains(&status).then_some(status)
    }
}

/// The reference of the record, where the store can say it at once.
async fn reference(keys: &Keys, asked: Option<&Asked>) -> Option<String> {
    let (ledger, asked) = (keys.ledger.as_ref()?, asked?);
    let by = clock::now() + REFERENCE_WAIT;
    ledger.reference(&asked.rid, by).await.ok()
}

/// A reference is a help, and not worth a wait.
const REFERENCE_WAIT: Duration = Duration::from_millis(20);

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
        Reason::Deadline | Reason::PerTryTimeout => "http_response_timeout",
        Reason::UpstreamCut => "http_response_incomplete",
        Reason::UpstreamReset => "connection_terminated",
        Reason::ConnectFailure => "connection_refused",
        Reason::ConnectTimeout => "connection_timeout",
        Reason::UpstreamRefused => "http_request_error",
        _ => return None,
    })
}
