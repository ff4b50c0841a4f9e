//! Rules of TLS. What is in the files is looked at when the configuration is compiled.

use std::path::Path;

use super::super::tls::{ListenerTls, UpstreamTls};
use super::super::upstream::Upstream;
use super::upstream::is_host;
use super::{At, Check};
use crate::units::Period;

/// The most certificates of one listener: each is looked up by name in every handshake.
const MAX_CERTIFICATES: usize = 100;
/// The most names that clients may have.
const MAX_CLIENT_NAMES: usize = 1_000;
/// Shorter than this, a client far away cannot finish a handshake of two round trips.
const LEAST_HANDSHAKE: Period = Period::from_millis(100);
/// Longer than this, a handshake is a way to hold a connection.
const MOST_HANDSHAKE: Period = Period::from_secs(60);

pub(super) fn listener(check: &mut Check<'_>, at: At<'_>, tls: &ListenerTls) {
    pair(check, at, tls.cert.is_some(), tls.key.is_some());
    match (tls.cert.is_some() || tls.key.is_some(), tls.certificates.is_empty()) {
        (false, true) => {
            check.conflict(at, "has no certificate; write `cert` and `key`, or `certificates`");
        }
        (true, false) => {
            let path = format!("{at}.certificates");
            check.conflict(&path, "stands beside `cert` and `key`; put all into the list");
        }
        _ => {}
    }
    if tls.certificates.len() > MAX_CERTIFICATES {
        let message = format!("has more than {MAX_CERTIFICATES} entries");
        check.problem(&format_args!("{at}.certificates"), message);
    }
    for (under, files) in tls.pairs() {
        file(check, &format_args!("{at}.{under}cert"), Some(&files.cert));
        file(check, &format_args!("{at}.{under}key"), Some(&files.key));
    }
    file(check, &format_args!("{at}.client_ca"), tls.client_ca.as_deref());
    if tls.client_ca.is_none() && tls.require_client_cert.is_some() {
        let message = "does nothing without `client_ca`, the authorities to believe";
        check.conflict(&format_args!("{at}.require_client_cert"), message);
    }
    if !tls.client_names.is_empty() && !tls.requires_client_cert() {
        let message = "would let in clients without a certificate; set `client_ca`, and \
                       `require_client_cert` to true";
        check.conflict(&format_args!("{at}.client_names"), message);
    }
    if tls.client_names.len() > MAX_CLIENT_NAMES {
        let message = format!("has more than {MAX_CLIENT_NAMES} entries");
        check.problem(&format_args!("{at}.client_names"), message);
    }
    for (index, name) in tls.client_names.iter().enumerate() {
        if let Err(why) = client_name(name) {
            check.problem(&format_args!("{at}.client_names[{index}]"), why);
        }
    }
    let path = format!("{at}.handshake_timeout");
    check.range(&path, tls.handshake_timeout, LEAST_HANDSHAKE, MOST_HANDSHAKE);
}

pub(super) fn upstream(check: &mut Check<'_>, at: At<'_>, tls: &UpstreamTls) {
    pair(check, at, tls.cert.is_some(), tls.key.is_some());
    for (key, path) in [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)] {
        file(check, &format_args!("{at}.{key}"), path.as_deref());
    }
    if let Some(name) = &tls.server_name
        && !(is_host(name) || name.parse::<std::net::IpAddr>().is_ok())
    {
        let message = format!("`{name}` is neither a DNS name nor an IP address");
        check.problem(&format_args!("{at}.server_name"), message);
    }
}

/// A unix socket has no name that a certificate could be for.
pub(super) fn names(check: &mut Check<'_>, at: At<'_>, upstream: &Upstream) {
    let Some(UpstreamTls { server_name: None, .. }) = &upstream.tls else { return };
    if upstream.endpoints.iter().any(|endpoint| endpoint.address.starts_with("unix:")) {
        let message = "needs a `server_name`: a unix socket has no name to verify";
        check.conflict(&format_args!("{at}.tls"), message);
    }
}

fn pair(check: &mut Check<'_>, at: At<'_>, cert: bool, key: bool) {
    if cert != key {
        let (there, missing) = if cert { ("cert", "key") } else { ("key", "cert") };
        check.conflict(
            &format_args!("{at}.{there}"),
            format!("stands without `{missing}`; a certificate and its private key go together"),
        );
    }
}

/// The path of a file, which must not be the file's content: that would be printed as a path is.
fn file(check: &mut Check<'_>, at: At<'_>, path: Option<&Path>) {
    let Some(text) = path.map(Path::to_string_lossy) else { return };
    if text.is_empty() || text.contains(['\n', '\0']) || text.contains("-----BEGIN") {
        check.problem(at, "is not the path of a file; write the path of a PEM file");
    }
}

/// Checks a name of a client: a DNS name, with `*.` in front if any label may stand there, or a
/// URI, with `/*` at its end if anything may follow.
fn client_name(name: &str) -> Result<(), String> {
    if let Some((scheme, rest)) = name.split_once("://") {
        let body = rest.strip_suffix("/*").unwrap_or(rest);
        let fine = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && !body.is_empty()
            && !body.contains(['*', ' '])
            && body.is_ascii();
        return if fine {
            Ok(())
        } else {
            Err(format!("`{name}` is not a URI; write it whole, or with `/*` at its end"))
        };
    }
    if is_host(name.strip_prefix("*.").unwrap_or(name)) {
        Ok(())
    } else {
        Err(format!("`{name}` is neither a DNS name nor a URI; `*` stands for a first label alone"))
    }
}
