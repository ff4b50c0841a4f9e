//! Removal of fields that steer us, on sides that are not believed.

use http::{HeaderMap, HeaderName};

use super::names::OWN_PREFIX;

/// The fields that steer us, beside all of [`OWN_PREFIX`].
///
/// `grpc-timeout` and `grpc-previous-rpc-attempts` are not among them: they belong to the protocol
/// between the gRPC client and its server, and from us they can get only less, a shorter deadline
/// or fewer retries.
const STEERING: [&str; 5] = [
    "x-retry-attempt",
    "x-request-timeout-ms",
    "x-envoy-expected-rq-timeout-ms",
    "x-priority",
    "x-brownout",
];

/// Fields that are written by their rules, whatever came. Under a name with underscores nobody has
/// written them but to deceive.
const FORWARDED: [&str; 3] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];

/// Removes what only a trusted side may say: our own fields, the attempt number, deadlines and the
/// priority, also under the name that the configuration gives it. For listeners with `trust: none`;
/// before anything reads them.
///
/// Applications behind CGI, WSGI and the like see `-` and `_` in a name as one character. A field
/// that they would take for one of these goes as well, and so does one that they would take for a
/// forwarding field.
pub fn strip_untrusted(headers: &mut HeaderMap, priority: &HeaderName) {
    let priority = priority.as_str();
    let steers = |name: &str| steers(name) || alike(name, priority);
    // Nothing is collected, and so nothing allocated, in a request without such fields.
    let found: Vec<HeaderName> =
        headers.keys().filter(|name| steers(name.as_str())).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

fn steers(name: &str) -> bool {
    // Names in a map are lower case already.
    let own = |name: &str| name.get(..OWN_PREFIX.len()).is_some_and(|it| alike(it, OWN_PREFIX));
    (name.starts_with("x-") || name.starts_with("x_"))
        && (own(name)
            || STEERING.iter().any(|it| alike(name, it))
            || (name.contains('_') && FORWARDED.iter().any(|it| alike(name, it))))
}

/// Whether two names are one where `-` and `_` are.
fn alike(name: &str, wanted: &str) -> bool {
    let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte };
    name.len() == wanted.len()
        && name.bytes().zip(wanted.bytes()).all(|(a, b)| dashed(a) == dashed(b))
}

#[cfg(test)]
mod tests;
