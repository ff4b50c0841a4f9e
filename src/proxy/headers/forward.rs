//! Where a request came from and through whom: `X-Forwarded-*`, `Forwarded` (RFC 7239) and `Via`
//! (RFC 9110, 7.6.3).
//!
//! A list that a request brings is never cut. One hop adds at most an address of 39 bytes, or an
//! element with the host that the request itself brought, and the next listener's limit on the head
//! bounds the whole; cutting would decide in the reader's place which addresses to believe.

use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{Entry, FORWARDED, HOST, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::names::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::config::listener::{Forwarded, ForwardedMode, Trust};

/// A listener's rules for forwarding fields, compiled.
#[derive(Clone, Debug)]
pub struct Forwarding {
    x_forwarded: ForwardedMode,
    forwarded: ForwardedMode,
    /// Whether a scheme and host that the request claims to have had earlier are kept.
    believes: bool,
    via: Option<Via>,
}

/// Our element of `Via`, by the version in which the message was received.
#[derive(Clone, Debug)]
struct Via {
    http10: HeaderValue,
    http11: HeaderValue,
    http2: HeaderValue,
}

/// A client's address as the fields write it. Built once for each connection.
#[derive(Clone, Debug)]
pub struct Client {
    /// For `X-Forwarded-For`; `None` for a Unix socket, which has no address.
    address: Option<HeaderValue>,
    /// For `Forwarded`: the value of `for`, quoted where its grammar wants it.
    node: Box<str>,
}

impl Client {
    /// A client at an IP address, or behind a Unix socket. An IPv4 address that came mapped into
    /// IPv6 is written as IPv4.
    #[must_use]
    pub fn new(ip: Option<IpAddr>) -> Self {
        let Some(ip) = ip.map(|ip| ip.to_canonical()) else {
            return Self { address: None, node: "unknown".into() };
        };
        let node = match ip {
            IpAddr::V4(ip) => ip.to_string(),
            // A colon is not allowed in a token (RFC 7239, 6).
            IpAddr::V6(ip) => format!("\"[{ip}]\""),
        };
        Self { address: HeaderValue::from_str(&ip.to_string()).ok(), node: node.into() }
    }
}

impl Forwarding {
    /// Compiles a listener's rules.
    ///
    /// # Errors
    ///
    /// A sentence, when the name for `Via` is neither a token nor a host.
    pub fn compile(settings: &Forwarded, trust: Trust) -> Result<Self, String> {
        let via = settings.via.as_deref().map(Via::compile).transpose()?;
        Ok(Self {
            x_forwarded: settings.x_forwarded,
            forwarded: settings.forwarded,
            believes: trust == Trust::Local,
            via,
        })
    }

    /// Writes the fields of a request that goes on to an upstream. `tls` and `version` are those of
    /// the client's connection. `Host` must still be the client's, so this comes before a rewrite.
    ///
    /// With `append`, `X-Forwarded-For` and `Forwarded` grow by one element. `X-Forwarded-Proto`
    /// and `-Host` are not lists: what came from a trusted side is kept, for it knows the first
    /// client; what came from any other is replaced. A Unix socket has no address, so nothing is
    /// appended to `X-Forwarded-For`, and `Forwarded` says `for=unknown`.
    pub fn request(&self, headers: &mut HeaderMap, client: &Client, tls: bool, version: Version) {
        let scheme = if tls { "https" } else { "http" };
        match self.x_forwarded {
            ForwardedMode::Pass => {}
            ForwardedMode::Append => {
                if let Some(address) = &client.address {
                    append(headers, &X_FORWARDED_FOR, address);
                }
                self.origin(headers, scheme, self.believes);
            }
            ForwardedMode::Replace => {
                replace(headers, &X_FORWARDED_FOR, client.address.clone());
                self.origin(headers, scheme, false);
            }
            ForwardedMode::Remove => {
                for name in [&X_FORWARDED_FOR, &X_FORWARDED_PROTO, &X_FORWARDED_HOST] {
                    headers.remove(name);
                }
            }
        }
        match self.forwarded {
            ForwardedMode::Pass => {}
            ForwardedMode::Append => {
                // An open quote in what came would swallow our element when the lines are joined.
                if headers.get_all(FORWARDED).iter().any(|v| !well_formed(v.as_bytes())) {
                    headers.remove(FORWARDED);
                }
                if let Some(element) = element(client, scheme, headers.get(HOST)) {
                    append(headers, &FORWARDED, &element);
                }
            }
            ForwardedMode::Replace => {
                let element = element(client, scheme, headers.get(HOST));
                replace(headers, &FORWARDED, element);
            }
            ForwardedMode::Remove => {
                headers.remove(FORWARDED);
            }
        }
        self.add_via(headers, version);
    }

    /// Writes the fields of an answer that goes back to a client; `version` is the upstream's.
    pub fn response(&self, headers: &mut HeaderMap, version: Version) {
        self.add_via(headers, version);
    }

    fn origin(&self, headers: &mut HeaderMap, scheme: &'static str, keep: bool) {
        if !(keep && headers.contains_key(&X_FORWARDED_PROTO)) {
            headers.insert(X_FORWARDED_PROTO.clone(), HeaderValue::from_static(scheme));
        }
        if !(keep && headers.contains_key(&X_FORWARDED_HOST)) {
            let host = headers.get(HOST).cloned();
            replace(headers, &X_FORWARDED_HOST, host);
        }
    }

    fn add_via(&self, headers: &mut HeaderMap, version: Version) {
        let Some(via) = &self.via else { return };
        let value = match version {
            Version::HTTP_09 | Version::HTTP_10 => &via.http10,
            Version::HTTP_11 => &via.http11,
            _ => &via.http2,
        };
        headers.append(VIA, value.clone());
    }
}

impl Via {
    fn compile(name: &str) -> Result<Self, String> {
        let named = !name.is_empty() && name.bytes().all(is_token);
        if !named && !crate::snapshot::host::valid_host(name.as_bytes()) {
            return Err(format!("`{name}` is not a name for Via; write a word or a host"));
        }
        let value = |version: &str| {
            HeaderValue::from_str(&format!("{version} {name}")).map_err(|e| e.to_string())
        };
        Ok(Self { http10: value("1.0")?, http11: value("1.1")?, http2: value("2.0")? })
    }
}

fn replace(headers: &mut HeaderMap, name: &HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => {
            headers.insert(name.clone(), value);
        }
        None => {
            headers.remove(name);
        }
    }
}

/// Makes `item` the last of a list. All lines become one, since many readers see only the first.
fn append(headers: &mut HeaderMap, name: &HeaderName, item: &HeaderValue) {
    match headers.entry(name) {
        Entry::Vacant(place) => {
            place.insert(item.clone());
        }
        Entry::Occupied(mut place) => {
            let size = place.iter().map(|value| value.len() + 2).sum::<usize>() + item.len();
            let mut joined = BytesMut::with_capacity(size);
            for value in place.iter().filter(|value| !value.is_empty()) {
                joined.put_slice(value.as_bytes());
                joined.put_slice(b", ");
            }
            joined.put_slice(item.as_bytes());
            let joined = HeaderValue::from_maybe_shared(joined.freeze());
            place.insert(joined.unwrap_or_else(|_| item.clone()));
        }
    }
}

/// Our element of `Forwarded`: `for`, `host` when the request has one, and `proto`.
fn element(client: &Client, scheme: &str, host: Option<&HeaderValue>) -> Option<HeaderValue> {
    let mut text = format!("for={}", client.node);
    if let Some(host) = host.and_then(|host| host.to_str().ok()).filter(|host| !host.is_empty()) {
        if host.bytes().all(is_token) {
            let _ = write!(text, ";host={host}");
        } else {
            let escaped = host.replace('\\', "\\\\").replace('"', "\\\"");
            let _ = write!(text, ";host=\"{escaped}\"");
        }
    }
    let _ = write!(text, ";proto={scheme}");
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}

/// True for a character of a token (RFC 9110, 5.6.2).
const fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_'
        )
        || matches!(b, b'`' | b'|' | b'~')
}

/// True when a line of `Forwarded` follows its grammar (RFC 7239, 4), with any white space around
/// the separators and empty elements allowed.
fn well_formed(line: &[u8]) -> bool {
    let mut rest = line.trim_ascii();
    loop {
        while let [b',' | b';' | b' ' | b'\t', tail @ ..] = rest {
            rest = tail;
        }
        if rest.is_empty() {
            return true;
        }
        let Some(after) = after_pair(rest) else { return false };
        rest = after.trim_ascii_start();
        if !matches!(rest.first(), None | Some(b',' | b';')) {
            return false;
        }
    }
}

/// What follows one `name=value`.
fn after_pair(text: &[u8]) -> Option<&[u8]> {
    match after_token(text)? {
        [b'=', b'"', tail @ ..] => after_quoted(tail),
        [b'=', tail @ ..] => after_token(tail),
        _ => None,
    }
}

fn after_token(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|b| !is_token(*b)).unwrap_or(text.len());
    if end == 0 { None } else { text.get(end..) }
}

/// What follows the closing quote of a quoted text whose opening one is already read.
fn after_quoted(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = match text {
            [b'"', tail @ ..] => return Some(tail),
            [b'\\', _, tail @ ..] => tail,
            [b'\\'] | [] => return None,
            [_, tail @ ..] => tail,
        };
    }
}

#[cfg(test)]
mod tests;
