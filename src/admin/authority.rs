//! Who may look and who may change: the guard against web pages, and the token.
//!
//! A page that somebody visits can make their browser ask a loopback address. What it asks under a
//! foreign name (DNS rebinding) it could also read, so a connection that reached us on a loopback
//! address must name an address or `localhost` as its `Host`. Elsewhere names are left alone: there
//! a scraper asks by whatever name its service has.

use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HOST, ORIGIN};

use super::Client;
use super::answer::{self, Answer};
use crate::config::admin::Admin;
use crate::config::listener::Bind;

/// The longest token; a file that is longer is not one.
const TOKEN_BYTES: u64 = 4096;

/// Refuses a request that a web page may have made under a foreign name.
pub(super) fn check_host(
    admin: &Admin,
    client: &Client,
    headers: &HeaderMap,
) -> Result<(), Box<Answer>> {
    if !client.local.is_some_and(|local| local.is_loopback()) {
        return Ok(());
    }
    // A browser always sends it; what does not is a tool of HTTP/1.0.
    let Some(host) = headers.get(HOST) else { return Ok(()) };
    let name = name_of(host.to_str().unwrap_or_default());
    let configured = match &admin.bind {
        Bind::Tcp(bind) => name_of(bind).eq_ignore_ascii_case(name),
        Bind::Unix(_) => false,
    };
    let address = name.parse::<IpAddr>().is_ok() || bracketed(name);
    if configured || address || name.eq_ignore_ascii_case("localhost") {
        return Ok(());
    }
    let detail = "on a loopback address, ask for an IP address or localhost; other names could be \
                  a web page's";
    Err(Box::new(answer::problem(421, detail)))
}

/// Refuses what is not the operator's, of what is the operator's alone: what a web page of another
/// origin asks for, or what comes without the token.
pub(super) fn check_change(admin: &Admin, headers: &HeaderMap) -> Result<(), Box<Answer>> {
    if from_elsewhere(headers) {
        let detail = "this may not come from a web page of another origin";
        return Err(Box::new(answer::problem(403, detail)));
    }
    let Some(file) = &admin.token_file else {
        let detail = "this is off: set admin.token_file to a file that holds a secret, and \
                      send it as `Authorization: Bearer <secret>`";
        return Err(Box::new(answer::problem(403, detail)));
    };
    let token = match read_token(file) {
        Ok(token) => token,
        Err(why) => {
            tracing::error!(file = %file.display(), why, "changes and records are off: no token");
            let detail = format!("this is off: admin.token_file {why}");
            return Err(Box::new(answer::problem(403, &detail)));
        }
    };
    match bearer(headers) {
        None => Err(Box::new(answer::unauthorized(
            "this needs `Authorization: Bearer <secret>` with the content of admin.token_file",
        ))),
        Some(given) if same(given, &token) => Ok(()),
        Some(_) => Err(Box::new(answer::unauthorized(
            "the token is not the one that admin.token_file holds",
        ))),
    }
}

/// Whether a browser says that the request was made by a page of another origin.
fn from_elsewhere(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(http::HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return true;
    }
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let own = headers.get(HOST).and_then(|host| host.to_str().ok());
    let given = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
    given.is_none() || given != own
}

/// Reads the token anew at each use, so that it can be replaced without a restart.
fn read_token(file: &Path) -> Result<Vec<u8>, String> {
    let mut token = Vec::new();
    File::open(file)
        .and_then(|file| file.take(TOKEN_BYTES + 1).read_to_end(&mut token))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if token.len() as u64 > TOKEN_BYTES {
        return Err(format!("holds more than {TOKEN_BYTES} bytes"));
    }
    let token = token.trim_ascii();
    if token.is_empty() { Err("is empty".to_owned()) } else { Ok(token.to_vec()) }
}

/// The credentials of the scheme `Bearer`, whose name has no letter case (RFC 9110, 11.1). Nothing
/// when the field is there more than once.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let field = fields.next()?.as_bytes();
    let (scheme, given) = field.split_at_checked("bearer ".len())?;
    (fields.next().is_none() && scheme.eq_ignore_ascii_case(b"bearer "))
        .then(|| given.trim_ascii())
        .filter(|given| !given.is_empty())
}

/// Compares every byte whatever the others are, so that the time tells nothing but the length.
fn same(given: &[u8], token: &[u8]) -> bool {
    let differing = given.iter().zip(token).fold(0, |bits, (a, b)| black_box(bits | (a ^ b)));
    given.len() == token.len() && differing == 0
}

/// The host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

fn bracketed(name: &str) -> bool {
    let inside = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inside.is_some_and(|inside| inside.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests;
