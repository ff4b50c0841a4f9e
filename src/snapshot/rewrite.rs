//! A route's change of path and host, compiled, and the target that the upstream is asked for.
//!
//! Bytes that are not replaced are passed as they came: nothing is decoded, merged or normalised.

use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri};

use super::host::valid_host;
use crate::config::route;

/// The longest target that is built; `http` can hold no longer one.
const TARGET_MAX: usize = u16::MAX as usize - 1;

/// The changes of path and host of one route.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    path: PathRewrite,
    host: Option<HeaderValue>,
}

#[derive(Clone, Debug, Default)]
enum PathRewrite {
    #[default]
    Keep,
    Prefix(Box<str>),
    Template(Vec<Piece>),
}

#[derive(Clone, Debug)]
enum Piece {
    Text(Box<str>),
    Capture(Box<str>),
}

/// What of the request's path the route matched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Matched<'a> {
    /// How many bytes of the path the matched prefix has; the whole path for an exact match.
    pub prefix: usize,
    /// The template's captures by name, undecoded.
    pub captures: &'a [(&'a str, &'a str)],
}

impl Rewrite {
    /// Compiles a route's `rewrite`.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong with the path, its template or the host.
    pub fn compile(settings: &route::Rewrite) -> Result<Self, String> {
        let path = match (settings.path_prefix.as_deref(), settings.path.as_deref()) {
            (Some(_), Some(_)) => {
                return Err("`path_prefix` and `path` exclude each other; keep one".to_owned());
            }
            (Some(prefix), None) => {
                check_text(prefix, prefix)?;
                PathRewrite::Prefix(prefix.into())
            }
            (None, Some(template)) => PathRewrite::Template(parse_template(template)?),
            (None, None) => PathRewrite::Keep,
        };
        let host = settings.host.as_deref().map(host_value).transpose()?;
        Ok(Self { path, host })
    }

    /// The names of the captures that the new path uses: the route's template must have them all.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        let pieces = match &self.path {
            PathRewrite::Template(pieces) => pieces.as_slice(),
            _ => &[],
        };
        pieces.iter().filter_map(|piece| match piece {
            Piece::Capture(name) => Some(&**name),
            Piece::Text(_) => None,
        })
    }

    /// The path and query to ask the upstream for, in origin form: the new path, and the query as
    /// it came. Without a change of path it is what came, without a copy.
    ///
    /// # Errors
    ///
    /// A sentence for the problem's detail: the request's path does not fit the change, the result
    /// would be no valid target, or a `.` or `..` segment in what is carried over would step out of
    /// the path that the route puts in front of it.
    pub fn target(&self, uri: &Uri, matched: Matched<'_>) -> Result<PathAndQuery, &'static str> {
        let path = match &self.path {
            PathRewrite::Keep => return Ok(origin_form(uri)),
            PathRewrite::Prefix(replacement) => put_prefix(replacement, uri.path(), matched)?,
            PathRewrite::Template(pieces) => fill(pieces, matched.captures)?,
        };
        with_query(path, uri.query())
    }

    /// Makes `Host` what the route says, if it says one.
    pub fn apply_host(&self, headers: &mut HeaderMap) {
        if let Some(host) = &self.host {
            headers.insert(HOST, host.clone());
        }
    }
}

/// The target's path and query as they came; `/` where an absolute form has no path.
#[must_use]
pub fn origin_form(uri: &Uri) -> PathAndQuery {
    match uri.path_and_query() {
        Some(target) if target.as_str().starts_with('?') => {
            // An absolute form may have a query and no path (RFC 9112, 3.2.1).
            PathAndQuery::from_maybe_shared(Bytes::from(format!("/{}", target.as_str())))
                .unwrap_or_else(|_| target.clone())
        }
        Some(target) => target.clone(),
        None => PathAndQuery::from_static("/"),
    }
}

/// Puts the replacement where the matched prefix was, with exactly one slash between the two.
fn put_prefix(replacement: &str, path: &str, matched: Matched<'_>) -> Result<String, &'static str> {
    let rest = path.get(matched.prefix..).ok_or("The path is shorter than the matched prefix")?;
    if has_dot_segment(rest) {
        return Err("The path has a dot segment, which a rewritten path may not have");
    }
    let mut out = String::with_capacity(replacement.len() + rest.len() + 1);
    out.push_str(replacement);
    let rest = match (replacement.ends_with('/'), rest.strip_prefix('/')) {
        (true, Some(after)) => after,
        (false, None) if !rest.is_empty() => {
            out.push('/');
            rest
        }
        _ => rest,
    };
    out.push_str(rest);
    Ok(out)
}

fn fill(pieces: &[Piece], captures: &[(&str, &str)]) -> Result<String, &'static str> {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Capture(name) => {
                let value = captures.iter().find(|(key, _)| *key == &**name).map(|(_, v)| *v);
                out.push_str(value.ok_or("The matched path has no value for the new path")?);
            }
        }
    }
    // The whole is looked at, because `a{x}` and `.{x}` make segments of two parts.
    if has_dot_segment(&out) {
        return Err("The path has a dot segment, which a rewritten path may not have");
    }
    Ok(out)
}

fn with_query(mut path: String, query: Option<&str>) -> Result<PathAndQuery, &'static str> {
    // Both would end the path early, and `http` drops what follows a `#` without a word.
    if path.contains(['?', '#']) {
        return Err("The rewritten path has a `?` or `#` in it");
    }
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    if let Some(query) = query {
        path.push('?');
        path.push_str(query);
    }
    if path.len() > TARGET_MAX {
        return Err("The rewritten target is too long");
    }
    PathAndQuery::from_maybe_shared(Bytes::from(path))
        .map_err(|_| "The rewritten path is not a valid path")
}

/// True when a segment is `.` or `..`, also percent-encoded, or with parameters behind it, as some
/// servers cut them off before they resolve the path.
fn has_dot_segment(path: &str) -> bool {
    path.split('/').any(|segment| {
        let mut rest = segment.split(';').next().unwrap_or_default();
        let mut dots = 0;
        while !rest.is_empty() {
            let after = rest.strip_prefix('.');
            let after = after.or_else(|| rest.strip_prefix("%2e"));
            let Some(after) = after.or_else(|| rest.strip_prefix("%2E")) else { return false };
            rest = after;
            dots += 1;
        }
        dots == 1 || dots == 2
    })
}

fn parse_template(template: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once('{') {
        let (name, after) = after
            .split_once('}')
            .ok_or_else(|| format!("`{template}` opens a `{{` that it does not close"))?;
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || !name.bytes().all(fits) {
            return Err(format!(
                "`{{{name}}}` in `{template}` is not a capture; write `{{name}}`, letters, digits \
                 and `_`"
            ));
        }
        push_text(&mut pieces, text);
        pieces.push(Piece::Capture(name.into()));
        rest = after;
    }
    push_text(&mut pieces, rest);
    let sample = |piece: &Piece| match piece {
        Piece::Text(text) => text.to_string(),
        Piece::Capture(_) => "x".to_owned(),
    };
    check_text(&pieces.iter().map(sample).collect::<String>(), template)?;
    Ok(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.into()));
    }
}

/// Checks a path that replaces another; `whole` is what the file says, for the message.
fn check_text(path: &str, whole: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!("`{whole}` is not a path; it begins with `/`"));
    }
    if has_dot_segment(path) {
        return Err(format!("`{whole}` has a `.` or `..` segment; write the path it leads to"));
    }
    let bad = |b: u8| !b.is_ascii_graphic() || b"?#{}\"<>\\^`|".contains(&b);
    match path.bytes().find(|b| bad(*b)) {
        None => Ok(()),
        Some(b'?' | b'#') => Err(format!(
            "`{whole}` has a query or fragment; only the path is rewritten, the query is kept"
        )),
        Some(_) => Err(format!("`{whole}` has a character that a path may not have; encode it")),
    }
}

fn host_value(host: &str) -> Result<HeaderValue, String> {
    let wanted = || format!("`{host}` is not a host; write `name`, `name:port` or `[v6]:port`");
    if !valid_host(host.as_bytes()) {
        return Err(wanted());
    }
    HeaderValue::from_str(host).map_err(|_| wanted())
}

#[cfg(test)]
mod tests;
