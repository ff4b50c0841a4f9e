//! Rules of a route's cache and fallback chain.

use super::super::fallback::{Link, Respond};
use super::super::pattern::{is_field_value, is_token};
use super::super::route::Route;
use super::route::known_upstream;
use super::{At, Check, Names};
use crate::policy::cache;
use crate::units::ByteSize;

/// The most links: each upstream among them is one more set of attempts.
const MOST_LINKS: usize = 8;
/// The largest fixed body: a file for every request that fails is a server's work.
const MOST_RESPONSE: usize = 64 << 10;
/// The most fields beyond `Vary` by which answers differ; each is looked up in every request.
const MOST_VARY: usize = 16;
/// Less would not hold one answer with its head.
const LEAST_BYTES: ByteSize = ByteSize::kib(4);

/// The rules of the cache, which can also stand under `defaults.route`.
pub(super) fn cache(check: &mut Check<'_>, at: At<'_>, settings: &cache::Settings) {
    if settings.stale_if_error.is_zero() && !settings.coalesce {
        check.conflict(
            &format_args!("{at}.stale_if_error"),
            "is 0, so that nothing stale would be used; write how long past its freshness an \
             answer may be, or remove `cache`",
        );
    }
    let path = format!("{at}.max_bytes");
    if settings.max_bytes < LEAST_BYTES {
        let message =
            format!("is {}, less than one answer needs, {LEAST_BYTES}", settings.max_bytes);
        check.problem(&path, message);
    } else if settings.max_body > settings.max_bytes {
        // The default of one need not fit what is written for the other: the smaller one holds.
        let message =
            format!("is {}, more than `max_bytes`, {}", settings.max_body, settings.max_bytes);
        let default = cache::Settings::default().max_body;
        if settings.max_body != default {
            check.conflict(&format_args!("{at}.max_body"), message);
        }
    }
    if settings.max_body == ByteSize::bytes(0) {
        check.problem(&format_args!("{at}.max_body"), "is 0, so that nothing would be kept");
    }
    let path = format!("{at}.vary");
    if settings.vary.len() > MOST_VARY {
        let count = settings.vary.len();
        check.problem(&path, format!("has {count} entries; {MOST_VARY} is the most"));
    }
    let whole = check.readable(&path);
    for (index, name) in settings.vary.iter().enumerate().filter(|_| whole) {
        if !is_token(name) {
            let message = format!("`{name}` cannot be the name of a header field");
            check.problem(&format_args!("{path}[{index}]"), message);
        }
    }
}

/// The rules of the chain.
pub(super) fn chain(check: &mut Check<'_>, at: At<'_>, route: &Route, names: &Names<'_>) {
    let path = format!("{at}.fallback");
    let links = &route.fallback;
    if links.len() > MOST_LINKS {
        let count = links.len();
        check.problem(&path, format!("has {count} links; {MOST_LINKS} is the most"));
    }
    // When one of them could not be read, the others are not where their indices say.
    if !check.readable(&path) {
        return;
    }
    let mut last = None;
    for (index, link) in links.iter().enumerate() {
        let here = format!("{path}[{index}]");
        if let Some(last) = last {
            let message = format!(
                "stands after `respond`, link {last}, which always answers: it would never be asked"
            );
            check.problem(&here, message);
        } else if links.iter().take(index).any(|other| other == link) {
            check.problem(&here, format!("`{link}` is in this list already"));
        }
        match link {
            Link::Stale if route.cache.is_none() => {
                let message = "needs `cache`, which keeps what is used here";
                if check.readable(&format_args!("{at}.cache")) {
                    check.problem(&here, message);
                }
            }
            Link::Stale => {}
            Link::Upstream(name) => {
                known_upstream(check, &format_args!("{here}.upstream"), name, names);
                if route.upstream.as_ref() == Some(name) {
                    let message = format!("`{name}` is the upstream that has failed by then");
                    check.problem(&format_args!("{here}.upstream"), message);
                }
            }
            Link::Respond(respond) => {
                self::respond(check, &format_args!("{here}.respond"), respond);
                last = last.or(Some(index));
            }
        }
    }
    let unused = route.cache.as_ref().is_some_and(|cache| !cache.coalesce);
    if unused && !links.is_empty() && !links.contains(&Link::Stale) {
        let message = "keeps what nothing uses; put `stale` into `fallback`, or remove `cache`";
        check.problem(&format_args!("{at}.cache"), message);
    }
}

fn respond(check: &mut Check<'_>, at: At<'_>, respond: &Respond) {
    check.range(&format_args!("{at}.status"), respond.status, 200, 599);
    let path = format!("{at}.body");
    if respond.body.len() > MOST_RESPONSE {
        check.problem(&path, format!("is longer than {MOST_RESPONSE} bytes"));
    }
    if matches!(respond.status, 204 | 205 | 304) && !respond.body.is_empty() {
        let message = format!("stands beside status {}, which has no body", respond.status);
        check.problem(&path, message);
    }
    if let Some(text) = respond.content_type.as_ref()
        && (text.is_empty() || !is_field_value(text))
    {
        let message = format!("`{text}` cannot be the value of a header field");
        check.problem(&format_args!("{at}.content_type"), message);
    }
}

#[cfg(test)]
mod tests;
