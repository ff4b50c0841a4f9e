//! Which URI of the same host a field such as `Location` names (RFC 3986, 5.2; RFC 9111, 4.4).

/// The path and query that a reference in an answer of this host and target names; nothing if it
/// names another host, or no URI of HTTP. The scheme is not compared: what is kept has none, and to
/// forget too much does no harm.
#[must_use]
pub fn on_same_host(host: &str, target: &str, reference: &str) -> Option<String> {
    let reference = reference.split('#').next().unwrap_or_default().trim();
    if let Some(rest) = without_scheme(reference) {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let same = without_port(authority).eq_ignore_ascii_case(without_port(host));
        return same.then(|| if path.starts_with('/') { path.into() } else { format!("/{path}") });
    }
    let colon = reference.find(':').unwrap_or(usize::MAX);
    if colon < reference.find(['/', '?']).unwrap_or(usize::MAX) {
        return None;
    }
    let path = target.split('?').next().unwrap_or_default();
    match reference.chars().next() {
        None => Some(target.into()),
        Some('/') => Some(without_dots(reference)),
        Some('?') => Some(format!("{path}{reference}")),
        Some(_) => {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            Some(without_dots(&format!("{folder}/{reference}")))
        }
    }
}

/// What follows `http://`, `https://` or `//`.
fn without_scheme(reference: &str) -> Option<&str> {
    let cut = |scheme: &str| {
        let start = reference.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then(|| &reference[scheme.len()..])
    };
    cut("http://").or_else(|| cut("https://")).or_else(|| cut("//"))
}

/// A host without the port that its scheme has anyway.
fn without_port(host: &str) -> &str {
    host.strip_suffix(":80").or_else(|| host.strip_suffix(":443")).unwrap_or(host)
}

/// A path without `.` and `..` (RFC 3986, 5.2.4); its query stays as it is.
fn without_dots(target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut parts: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    parts.pop();
                }
                if last {
                    parts.push("");
                }
            }
            _ => parts.push(segment),
        }
    }
    format!("/{}{query}", parts.join("/"))
}
