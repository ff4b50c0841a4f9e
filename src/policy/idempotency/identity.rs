//! What tells one request and one principal from another, as bytes for a digest.
//!
//! Exact bytes decide: nothing is normalised, since two requests that only look alike to the proxy
//! may be two operations to the service. Digests are made elsewhere, with each part's length before
//! it, so that no two lists of parts are alike.

use super::settings::{Fingerprints, Settings, Source};

/// The recipe of [`fingerprint`]. It is stored with each record, and grows when the recipe changes.
pub const FINGERPRINT_VERSION: u8 = 1;

/// The recipe of a record's name: namespace, principal, key.
pub const NAME_VERSION: u8 = 1;

/// Between the values of a field that is there more than once; no value holds it.
const BETWEEN: u8 = 0;

/// The principal of a request: the first source that it has. `fields` gives all values of a field,
/// and `san` the name in the client's certificate. Nothing when it has none of them, which refuses
/// it.
///
/// The kind of the source is a part of it, so that a name in a field is not the same name in a
/// certificate. An empty value is none, and a field that is there twice names nobody: whoever set
/// it first did not expect a second.
#[must_use]
pub fn principal<'a>(
    sources: &[Source],
    mut fields: impl FnMut(&str) -> Vec<&'a [u8]>,
    san: Option<&[u8]>,
) -> Option<Vec<u8>> {
    for source in sources {
        let mut single = |name: &str| {
            let values = fields(name);
            match values.as_slice() {
                [one] => Some(one.trim_ascii().to_vec()),
                _ => None,
            }
        };
        let value = match source {
            Source::Header(name) => single(name),
            Source::Authorization => single("authorization"),
            Source::MtlsSan => san.map(<[u8]>::to_vec),
            Source::Nobody => return Some(source.to_string().into_bytes()),
        };
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let mut principal = source.to_string().into_bytes();
            principal.push(BETWEEN);
            principal.extend_from_slice(&value);
            return Some(principal);
        }
    }
    None
}

/// The parts of a request's fingerprint, but for its body, which is the last one: method, path and
/// query as they are forwarded, and the fields that the route names, by name in order.
#[must_use]
pub fn fingerprint<'a>(
    s: &Settings,
    method: &str,
    target: &str,
    mut fields: impl FnMut(&str) -> Vec<&'a [u8]>,
) -> Vec<Vec<u8>> {
    let mut parts = vec![method.as_bytes().to_vec(), target.as_bytes().to_vec()];
    if s.fingerprint == Fingerprints::None {
        return parts;
    }
    let mut names: Vec<String> =
        s.fingerprint_headers.iter().map(|name| name.to_ascii_lowercase()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let values = fields(&name);
        // A field that is not there differs from one that is empty.
        if values.is_empty() {
            continue;
        }
        let mut part = name.into_bytes();
        for value in values {
            part.push(BETWEEN);
            part.extend_from_slice(value.trim_ascii());
        }
        parts.push(part);
    }
    parts
}

/// Whether the body is a part of the fingerprint, and so has to be read whole before it is sent.
#[must_use]
pub const fn covers_body(s: &Settings) -> bool {
    matches!(s.fingerprint, Fingerprints::Full)
}

#[cfg(test)]
mod tests;
