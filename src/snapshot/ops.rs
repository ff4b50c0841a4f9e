//! The header changes of a route, compiled: every name and value is built when the file is read.

use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::route::HeaderOps;

/// Fields that say where a message goes and where it ends. Changing them by text would let two
/// recipients read one message differently.
const FRAMING: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The changes of header fields of one direction of a route, ready to apply.
#[derive(Clone, Debug, Default)]
pub struct CompiledOps {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

impl CompiledOps {
    /// Builds the names and values.
    ///
    /// # Errors
    ///
    /// A sentence that names the field, for what is not a header name or value, and for fields that
    /// a route may not change. The value is never quoted: it can be a credential.
    pub fn compile(ops: &HeaderOps) -> Result<Self, String> {
        let pair = |(name, value): (&String, &String)| {
            let name = changeable(name)?;
            let value = value_of(&name, value)?;
            Ok((name, value))
        };
        Ok(Self {
            remove: ops.remove.iter().map(|name| changeable(name)).collect::<Result<_, _>>()?,
            set: ops.set.iter().map(pair).collect::<Result<_, String>>()?,
            add: ops.add.iter().map(pair).collect::<Result<_, String>>()?,
        })
    }

    /// True when there is nothing to change.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Makes the changes, in the order remove, set, add. Costs nothing when there are none, and
    /// allocates at most where the map grows: values share their bytes.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
    }
}

fn changeable(name: &str) -> Result<HeaderName, String> {
    let parsed = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("`{name}` is not a header name; write letters, digits and `-`"))?;
    if parsed == http::header::HOST {
        return Err("`host` cannot be changed here; use `rewrite: { host: … }`".to_owned());
    }
    if FRAMING.contains(&parsed.as_str()) {
        return Err(format!(
            "`{parsed}` cannot be changed: it says where a message ends or how its connection is \
             used, which the proxy itself decides; remove this line"
        ));
    }
    Ok(parsed)
}

fn value_of(name: &HeaderName, value: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(value.trim_ascii()).map_err(|_| {
        format!("the value of `{name}` is not a header value; use visible ASCII characters only")
    })?;
    // Keeps it out of debug output and out of HTTP/2's compression tables.
    value.set_sensitive(
        [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE].contains(name)
            || ["key", "secret", "token"].iter().any(|word| name.as_str().ends_with(word)),
    );
    Ok(value)
}

#[cfg(test)]
mod tests;
