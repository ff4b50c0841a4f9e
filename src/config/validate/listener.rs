//! Rules of listeners.

use std::collections::HashMap;

use super::super::listener::{Bind, Limits, Listener};
use super::super::pattern::is_token;
use super::{At, Check, tls};
use crate::policy::flood::RATE_MAX;
use crate::units::ByteSize;

/// The smallest head that clients are used to being able to send.
const LEAST_HEADER_BYTES: ByteSize = ByteSize::kib(8);
/// More than this is a body in disguise, and is held in memory for each request.
const MOST_HEADER_BYTES: ByteSize = ByteSize::kib(1024);
/// More streams than this on one connection are more than one client can have use for.
const MOST_STREAMS: u32 = 1_000_000;
/// More fields than this are an attack on hash tables.
const MOST_HEADERS: usize = 1000;

pub(super) fn check(check: &mut Check<'_>, at: At<'_>, listener: &Listener) {
    check.name(&format_args!("{at}.name"), &listener.name);
    if listener.protocols.is_empty() {
        check.problem(&format_args!("{at}.protocols"), "is empty; write http1, http2 or both");
    }
    if let Some(via) = listener.forwarded.via.as_deref().filter(|via| !is_token(via)) {
        check.problem(
            &format_args!("{at}.forwarded.via"),
            format!("`{via}` cannot stand in a Via field; write a name without spaces, or null"),
        );
    }
    if listener.socket_mode.is_some() && matches!(listener.bind, Bind::Tcp(_)) {
        let path = format!("{at}.socket_mode");
        check.conflict(&path, "does nothing without a unix socket; leave it out");
    }
    if listener.original_destination {
        redirected(check, &format_args!("{at}.original_destination"), listener);
    }
    if let Some(settings) = &listener.tls {
        tls::listener(check, &format_args!("{at}.tls"), settings);
    }
    limits(check, &format_args!("{at}.limits"), &listener.limits);
}

/// Only the kernel's word for a TCP connection is believed.
fn redirected(check: &mut Check<'_>, at: At<'_>, listener: &Listener) {
    if matches!(listener.bind, Bind::Unix(_)) {
        check.conflict(at, "does nothing on a unix socket: only TCP can be redirected");
    }
    if listener.proxy_protocol {
        let message = "stands beside `proxy_protocol`: whoever writes that header has connected \
                       to this listener itself";
        check.conflict(at, message);
    }
}

fn limits(check: &mut Check<'_>, at: At<'_>, limits: &Limits) {
    let zeros = [
        ("max_connections", limits.max_connections == 0),
        ("max_requests_per_connection", limits.max_requests_per_connection == Some(0)),
        ("header_timeout", limits.header_timeout.is_zero()),
        ("body_timeout", limits.body_timeout.is_zero()),
        ("idle_timeout", limits.idle_timeout.is_zero()),
    ];
    for (key, _) in zeros.iter().filter(|(_, zero)| *zero) {
        check.problem(&format_args!("{at}.{key}"), "is 0, so that nothing could pass");
    }
    let path = format!("{at}.header_bytes");
    check.range(&path, limits.header_bytes, LEAST_HEADER_BYTES, MOST_HEADER_BYTES);
    check.range(&format_args!("{at}.headers"), limits.headers, 1, MOST_HEADERS);
    let rates = [
        ("resets_per_second", limits.http2.resets_per_second),
        ("pings_per_second", limits.http2.pings_per_second),
        ("settings_per_second", limits.http2.settings_per_second),
    ];
    for (key, rate) in rates {
        check.range(&format_args!("{at}.http2.{key}"), rate, 1, RATE_MAX);
    }
    let streams = format!("{at}.http2.max_concurrent_streams");
    check.range(&streams, limits.http2.max_concurrent_streams, 1, MOST_STREAMS);
}

/// Addresses that two listeners, or a listener and the operator's, would both open.
pub(super) fn binds<'v>(
    check: &mut Check<'_>,
    admin: &'v Bind,
    listeners: impl Iterator<Item = (usize, &'v Listener)>,
) {
    let mut taken = HashMap::from([(admin.to_string(), "admin.bind".to_owned())]);
    for (index, listener) in listeners {
        let path = format!("listeners[{index}].bind");
        let address = listener.bind.to_string();
        if address.ends_with(":0") {
            continue;
        }
        if let Some(other) = taken.get(&address) {
            check.problem(&path, format!("`{address}` is taken already, by {other}"));
        } else {
            taken.insert(address, path);
        }
    }
}
