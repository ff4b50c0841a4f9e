//! Which links of the fallback chain can answer a request.

use http::Method;
use http::header::{AUTHORIZATION, COOKIE};

use super::{FallbackLink, Read};
use crate::policy::retry::UnsafeMethods;
use crate::snapshot::fallback::Does;
use crate::snapshot::grpc::Wire;
use crate::snapshot::route::Route;

/// The links of a route, each with what it depends on.
pub(super) fn links(route: &Route, request: &Read<'_>) -> Vec<FallbackLink> {
    let when = |does: &Does| match does {
        Does::Stale => stale(request),
        Does::Upstream(_) => elsewhere(route, &request.method),
        Does::Respond(_) if Wire::of_message(&request.headers).is_some() => {
            "never: a gRPC client cannot read it"
        }
        Does::Respond(_) => "always",
    };
    let link = |link: &crate::snapshot::fallback::Link| FallbackLink {
        link: link.name.to_str().unwrap_or_default().to_owned(),
        when: when(&link.does),
    };
    route.fallback.iter().map(link).collect()
}

fn stale(request: &Read<'_>) -> &'static str {
    let headers = &request.headers;
    if request.method != Method::GET && request.method != Method::HEAD {
        "never: only GET is answered from what is kept"
    } else if headers.contains_key(AUTHORIZATION) || headers.contains_key(COOKIE) {
        "if a good answer is kept that says it is for everybody"
    } else {
        "if a good answer is kept and not too old"
    }
}

fn elsewhere(route: &Route, method: &Method) -> &'static str {
    match route.settings.retry.unsafe_methods {
        _ if method.is_idempotent() => "if there is time left",
        UnsafeMethods::Always => "if there is time left",
        UnsafeMethods::UnsentOrKeyed => "only if the upstream executed nothing of the request",
        UnsafeMethods::Never => "only if nothing was sent",
    }
}
