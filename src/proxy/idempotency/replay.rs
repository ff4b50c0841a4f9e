//! Answers that come from a record.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};

use super::asked::Asked;
use super::refuse::{Known, Problem};
use crate::policy::idempotency::machine::Found;
use crate::policy::idempotency::problem::Code;
use crate::policy::idempotency::record::{Doubt, Field, State, Stored};
use crate::policy::idempotency::response::{self, Status};
use crate::proxy::body::{Body, Whole};
use crate::proxy::context::Context;
use crate::proxy::pipeline;
use crate::snapshot::keys::Keys;
use crate::snapshot::route::Route;

/// The longest time that a client is told to wait for somebody else's lease.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// What this proxy is called in `Cache-Status`.
const NAME: &str = "outrigger";

/// Answers a request by what was found of it.
pub(super) async fn answer(
    ctx: Box<Context>,
    route: &Route,
    keys: &Arc<Keys>,
    asked: &Asked,
    found: Found,
    waited: Option<Duration>,
) -> Response<Body> {
    let (problem, known) = match found {
        Found::Completed { answer, completed, age } => {
            let waited = waited.map(super::millis);
            let status = Status::Replayed { created: completed / 1000, age: age / 1000, waited };
            return replayed(ctx, route, keys, answer, status);
        }
        Found::InFlight { remaining, first_seen } => {
            let known = Known { first_seen: Some(first_seen), ..of(State::InFlight) };
            // Most operations end long before their leases do.
            let wait = Duration::from_millis(remaining).min(Duration::from_secs(1)).min(WAIT_MAX);
            (Problem::new(Code::InProgress).after(wait), known)
        }
        Found::Gone { status, first_seen } => {
            let original_status = (status > 0).then_some(status);
            let known = Known { first_seen: Some(first_seen), ..of(State::Tombstone) };
            (Code::ResultUnavailable.into(), Known { original_status, ..known })
        }
        Found::Unknown { observed_status, first_seen, doubt } => {
            let known = Known { first_seen: Some(first_seen), ..of(State::Unknown) };
            let probes = &ctx.worker.proxy.probes;
            let wait =
                if doubt == Doubt::Unreadable { None } else { probes.begin(route, keys, asked) };
            let problem = Problem::from(Code::OutcomeUnknown);
            let problem = match wait {
                Some(wait) => problem.after(wait),
                None => problem,
            };
            (problem, Known { observed_status, ..known })
        }
        Found::Mismatch { state, first_seen } => {
            let known = Known { first_seen: Some(first_seen), ..of(state) };
            (Code::KeyReused.into(), known)
        }
    };
    problem.knowing(known).answer(ctx, keys, Some(asked)).await
}

const fn of(state: State) -> Known {
    Known { state: Some(state), first_seen: None, observed_status: None, original_status: None }
}

/// The answer that was kept, as it goes to a client that asks again.
fn replayed(
    mut ctx: Box<Context>,
    route: &Route,
    keys: &Keys,
    answer: Stored,
    status: Status,
) -> Response<Body> {
    keys.metrics.ended(&status);
    let Stored { status: code, headers, body, trailers, .. } = answer;
    let bytes = body.map(Bytes::from_owner).unwrap_or_default();
    let mut fields = map(&headers);
    for (name, value) in response::replay_fields(&keys.settings, NAME, status) {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value))
        {
            fields.insert(name, value);
        }
    }
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::OK);
    if !has_no_body(code) && trailers.is_empty() {
        fields.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    }
    debug_assert!(!fields.contains_key(DATE) || fields.get_all(DATE).iter().count() == 1);
    pipeline::dress(&ctx, route, &mut fields, Version::HTTP_11);
    ctx.status = Some(code.as_u16());
    let trailers = (!trailers.is_empty()).then(|| map(&trailers));
    let mut response =
        Response::new(Body::Whole(Box::new(Whole { pieces: [bytes].into(), trailers }), ctx));
    *response.status_mut() = code;
    *response.headers_mut() = fields;
    response
}

/// Statuses whose answers have no body, nor a length of one (RFC 9110, 8.6).
pub(super) fn has_no_body(status: StatusCode) -> bool {
    status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

/// Kept fields as a map again; what is no field is left out.
fn map(fields: &[Field]) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len() + 4);
    for (name, value) in fields {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            map.append(name, value);
        }
    }
    map
}
