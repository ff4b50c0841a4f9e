//! A 304 that says that a kept answer is still the present one (RFC 9111, 4.3.4).
//!
//! The client has the answer and asks whether it is still good. The upstream's 304 goes to the
//! client; if what is kept here is the same answer, it is as good as new.

use std::sync::Arc;

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED, SET_COOKIE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::super::context::Context;
use super::{Answered, copied, exchange, key, selecting_fields, times, value_of};
use crate::policy::cache::freshness::storable;
use crate::policy::cache::validators::Validators;
use crate::snapshot::cache::Kept;
use crate::snapshot::route::Route;

/// What says how the body is to be read, which is not sent again (RFC 9111, 3.2).
const OF_THE_BODY: [HeaderName; 3] = [CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE];

/// Renews the kept answer of which a 304 speaks, or forgets it if it may be kept no longer.
pub fn confirm<B>(ctx: &Context, route: &Route, answered: &Answered<'_, B>) {
    let (Some(cache), Some(settings)) = (&route.cache, &route.settings.cache) else { return };
    let response = answered.response;
    if response.status() != StatusCode::NOT_MODIFIED || ctx.method != Method::GET {
        return;
    }
    let (request, key) = (answered.request, key(ctx));
    let Some(kept) = cache.find(&key, &|name| value_of(request, name)) else { return };
    if !validators(response.headers()).confirm(&validators(&kept.headers)) {
        return;
    }
    let headers = renewed(&kept.headers, response.headers());
    let exchange = exchange(settings, request, &headers);
    if !storable(&exchange) {
        // It may be that only this request's answer is not for others; then what is kept stays.
        let answer = exchange.answer;
        if answer.no_store || answer.private || answer.no_cache {
            cache.invalidate(&key);
        }
        return;
    }
    let confirmed = Kept {
        times: times(ctx, &headers, response.headers().get(AGE)),
        version: kept.version,
        body: kept.body.clone(),
        headers,
    };
    let selecting = selecting_fields(settings, request, &confirmed.headers);
    cache.confirm(settings, &key, selecting, Arc::new(confirmed));
}

fn validators(headers: &HeaderMap) -> Validators<'_> {
    let value = |name: HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    Validators { etag: value(ETAG), modified: value(LAST_MODIFIED) }
}

/// The kept fields, with those of the 304 in the place of their namesakes.
fn renewed(kept: &HeaderMap, new: &HeaderMap) -> HeaderMap {
    let mut all = kept.clone();
    let mut new = copied(new);
    for name in OF_THE_BODY {
        new.remove(name);
    }
    // One that sets a cookie is this client's alone.
    new.remove(SET_COOKIE);
    for name in new.keys() {
        all.remove(name);
    }
    for (name, value) in &new {
        all.append(name.clone(), value.clone());
    }
    all
}
