//! The small languages inside settings: regular expressions, path templates, header names and
//! values.

use regex::bytes::{Regex, RegexBuilder};

/// The longest regular expression, in bytes.
const MAX_REGEX_BYTES: usize = 1024;
/// The most memory of one compiled expression: thousands of routes may have one each.
const MAX_REGEX_MEMORY: usize = 256 << 10;
/// The longest name of a service or method, in bytes.
const MAX_CALL_NAME_BYTES: usize = 1024;
/// The deepest nesting of groups.
const MAX_REGEX_NESTING: u32 = 32;

/// Compiles a regular expression that must match the whole of a value. It works on bytes and knows
/// the letters of ASCII, because that is what paths and header fields are made of.
///
/// # Errors
/// When it is not a regular expression or too large; the text says which.
pub fn compile_regex(text: &str) -> Result<Regex, String> {
    if text.len() > MAX_REGEX_BYTES {
        return Err(format!("the expression is longer than {MAX_REGEX_BYTES} bytes"));
    }
    // Compiled by itself first: `a)|(b` would become something else inside the anchors.
    build(text)?;
    build(&format!("^(?:{text})$"))
}

fn build(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .unicode(false)
        .size_limit(MAX_REGEX_MEMORY)
        .dfa_size_limit(MAX_REGEX_MEMORY)
        .nest_limit(MAX_REGEX_NESTING)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                format!("the expression needs more than {} KiB", MAX_REGEX_MEMORY >> 10)
            }
            // The first lines of a syntax error draw the place with arrows; the last names the
            // cause.
            other => {
                let text = other.to_string();
                let cause = text.lines().last().unwrap_or_default();
                format!("not a regular expression: {}", cause.trim_start_matches("error: "))
            }
        })
}

/// A segment of a path template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment<'a> {
    /// Exactly this.
    Literal(&'a str),
    /// Any one segment, captured under this name: `{name}`.
    One(&'a str),
    /// One or more segments to the end, captured under this name: `{name=**}`.
    Rest(&'a str),
}

/// Reads a path template such as `/v1/users/{id}/{path=**}` into its segments.
///
/// # Errors
/// When it is not a template; the text says why.
pub fn template(text: &str) -> Result<Vec<Segment<'_>>, String> {
    let path = text.strip_prefix('/').ok_or("a path begins with `/`")?;
    let mut segments = Vec::new();
    let mut names = Vec::new();
    for part in path.split('/') {
        if matches!(segments.last(), Some(Segment::Rest(_))) {
            return Err("`{name=**}` stands for the whole rest; nothing can follow it".to_owned());
        }
        let segment = match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
            Some(inner) => match inner.strip_suffix("=**") {
                Some(name) => Segment::Rest(name),
                None => Segment::One(inner),
            },
            None if part.contains(['{', '}']) => {
                return Err(format!("`{part}`: a capture takes a whole segment: `/{{name}}/`"));
            }
            None => Segment::Literal(part),
        };
        if let Segment::One(name) | Segment::Rest(name) = segment {
            if !is_identifier(name) {
                return Err(format!("`{part}` is not a capture; write {{name}} or {{name=**}}"));
            }
            if names.contains(&name) {
                return Err(format!("`{{{name}}}` is captured twice"));
            }
            names.push(name);
        }
        segments.push(segment);
    }
    Ok(segments)
}

/// The names in `{…}` of the path that a rewrite makes.
///
/// # Errors
/// When a brace is not closed or what it holds is not a name.
pub fn references(text: &str) -> Result<Vec<&str>, String> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, tail)) = after.split_once('}') else {
            return Err("`{` is not closed by `}`".to_owned());
        };
        if before.contains('}') || !is_identifier(name) {
            return Err(format!("`{{{name}}}` is not the name of a capture"));
        }
        names.push(name);
        rest = tail;
    }
    if rest.contains('}') { Err("`}` without `{`".to_owned()) } else { Ok(names) }
}

fn is_identifier(name: &str) -> bool {
    name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether it is a token: the alphabet of methods and header names (RFC 9110, 5.6.2).
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Whether it can be the value of a header field (RFC 9110, 5.5): no control characters but the
/// tab, and no space around it.
#[must_use]
pub fn is_field_value(text: &str) -> bool {
    text.trim_matches([' ', '\t']) == text
        && text.bytes().all(|b| b == b'\t' || (b >= 0x20 && b != 0x7f))
}

/// Whether it can be a path in a request: begins with `/`, without spaces, controls, query,
/// fragment.
#[must_use]
pub fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b'?' && b != b'#')
}

/// Whether it can be the name of a service or a method of gRPC: one segment of a path as it stands
/// there, without anything that would have to be encoded.
#[must_use]
pub fn is_call_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_CALL_NAME_BYTES
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"/?#{}%\"<>\\^`|".contains(&b))
}

#[cfg(test)]
mod tests;
