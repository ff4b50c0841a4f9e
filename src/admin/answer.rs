//! Answers to the operator: their status, their fields, their body.

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use serde::Serialize;

use crate::config;

/// An answer, whole and in memory.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    kind: &'static str,
    body: Vec<u8>,
    more: Option<(HeaderName, HeaderValue)>,
}

/// What went wrong, as in RFC 9457.
#[derive(Serialize)]
struct Problem<'a> {
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Fault<'a>>,
}

/// One thing that is wrong with a configuration.
#[derive(Serialize)]
pub(super) struct Fault<'a> {
    line: u32,
    column: u32,
    path: &'a str,
    message: &'a str,
    suggestion: Option<&'a str>,
}

impl<'a> From<&'a config::Problem> for Fault<'a> {
    fn from(problem: &'a config::Problem) -> Self {
        Self {
            line: problem.line,
            column: problem.column,
            path: &problem.path,
            message: &problem.message,
            suggestion: problem.suggestion.as_deref(),
        }
    }
}

impl Answer {
    /// An answer that needs no field but its type.
    pub(super) fn text(kind: &'static str, body: String) -> Self {
        Self { status: StatusCode::OK, kind, body: body.into_bytes(), more: None }
    }

    /// The response. One to `HEAD` has the fields of the one to `GET`, and no body.
    pub(super) fn finish(self, head: bool) -> Response<Full<Bytes>> {
        let length = self.body.len();
        let body = if head { Vec::new() } else { self.body };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status;
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        fields.extend(self.more);
        response
    }
}

/// A value as JSON.
pub(super) fn json(status: u16, value: &impl Serialize) -> Answer {
    encode(status, "application/json", value)
}

/// What went wrong, in a sentence.
pub(super) fn problem(status: u16, detail: &str) -> Answer {
    problems(status, detail, &[])
}

/// What went wrong, with all that is wrong with a configuration.
pub(super) fn problems(status: u16, detail: &str, problems: &[config::Problem]) -> Answer {
    let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let problems = problems.iter().map(Fault::from).collect();
    let problem = Problem { title: title.unwrap_or_default(), status, detail, problems };
    encode(status, "application/problem+json", &problem)
}

/// The method is not for this path.
pub(super) fn not_allowed(allow: &'static str) -> Answer {
    let detail = format!("this path takes {allow}");
    let more = Some((ALLOW, HeaderValue::from_static(allow)));
    Answer { more, ..problem(405, &detail) }
}

/// The token is missing or wrong.
pub(super) fn unauthorized(detail: &str) -> Answer {
    let more = Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"outrigger\"")));
    Answer { more, ..problem(401, detail) }
}

fn encode(status: u16, kind: &'static str, value: &impl Serialize) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match serde_json::to_vec_pretty(value) {
        Ok(mut body) => {
            body.push(b'\n');
            Answer { status, kind, body, more: None }
        }
        Err(error) => {
            tracing::error!(%error, "an answer to the operator cannot be written as JSON");
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Answer { status, kind: "text/plain", body: b"no JSON\n".to_vec(), more: None }
        }
    }
}
