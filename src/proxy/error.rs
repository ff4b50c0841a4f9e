//! Why the proxy answers itself, and the one place where that becomes an answer.

use std::time::Duration;

use http::{HeaderValue, Response};

use super::answer::{self, Detail, RateLimitFields};
use super::body::Body;
use super::context::Context;
use super::headers::names::TRIED;
use crate::policy::rate_limit;
use crate::policy::retry::Suppressed;
use crate::telemetry::reason::Reason;

/// The end of a request by our own decision.
#[derive(Debug)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// When trying again can help.
    pub retry_after: Option<Duration>,
    /// The limit that was reached.
    pub rate_limit: Option<RateLimitFields>,
    /// What exactly was wrong, for people.
    pub detail: Option<&'static str>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, retry_after: None, rate_limit: None, detail: None }
    }
}

impl From<Reason> for Box<Refusal> {
    fn from(reason: Reason) -> Self {
        Self::new(reason.into())
    }
}

impl Refusal {
    /// A request that is not valid.
    pub fn bad_request(detail: &'static str) -> Self {
        Self { detail: Some(detail), ..Reason::BadRequest.into() }
    }

    /// A circuit that will be tried again after a time.
    pub fn circuit_open(retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Reason::CircuitOpen.into() }
    }

    /// The same with the limit that was reached, where it was one.
    pub fn with_rate_limit(self, policy: rate_limit::Policy) -> Self {
        let Some(retry_after) = self.retry_after else { return self };
        let fields = RateLimitFields {
            quota: u64::from(policy.limit),
            window: policy.window.as_secs().max(1),
            remaining: 0,
            reset: retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0),
        };
        Self { rate_limit: Some(fields), ..self }
    }

    /// The answer to the client. The only place where a refusal becomes one.
    pub fn answer(self, mut ctx: Box<Context>) -> Response<Body> {
        ctx.reason = Some(self.reason);
        let detail = Detail {
            route: ctx.route.as_ref().map(|route| &*route.name),
            upstream: ctx.upstream(),
            retry_after: self.retry_after,
            detail: self.detail,
            rate_limit: self.rate_limit,
            // What the client still sends of its body is not read.
            close: ctx.peer.last_request()
                || (self.reason == Reason::SelfProtection
                    && ctx.worker.proxy.protection.of_connections() > 0.0)
                || matches!(
                    self.reason,
                    Reason::RequestTimeout | Reason::BodyTooLarge | Reason::BadRequest
                ),
            head: ctx.method == http::Method::HEAD,
        };
        let kind = ctx.answers();
        let mut answer = answer::local(self.reason, kind, &detail, fastrand::f64());
        if ctx.suppressed.is_some_and(Suppressed::is_final) {
            answer.headers_mut().insert(TRIED.clone(), HeaderValue::from_static("1"));
        }
        if let Some((name, value)) = ctx.said.take() {
            answer.headers_mut().insert(name, value);
        }
        ctx.status = Some(self.reason.status());
        if ctx.grpc {
            ctx.grpc_status = Some(answer::grpc_code(self.reason));
        }
        let (head, bytes) = answer.into_parts();
        Response::from_parts(head, Body::Local(Some(bytes), ctx))
    }
}
