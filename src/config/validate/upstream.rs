//! Rules of upstreams.

use std::collections::HashSet;

use super::super::upstream::{Dns, OriginalDestination, Protocol, Upstream};
use super::{At, Check, MAX_ENDPOINTS, policy, tls};
use crate::policy::Mode;
use crate::units::Period;

/// The largest weight: above it a share can no longer be told from all.
const MOST_WEIGHT: u32 = 1000;

pub(super) fn check(check: &mut Check<'_>, at: At<'_>, upstream: &Upstream) {
    // An absent name and an empty list are the same here: neither says where requests go.
    match (upstream.endpoints.is_empty(), &upstream.dns) {
        (true, None) if upstream.original_destination.is_some() => {}
        (true, None) => check.problem(at, "has no endpoints; write `endpoints` or `dns`"),
        (false, Some(_)) => check.problem(
            &format_args!("{at}.dns"),
            "stands beside `endpoints`; an upstream has one of them",
        ),
        _ => {}
    }
    if upstream.endpoints.len() > MAX_ENDPOINTS {
        let message = format!("has more than {MAX_ENDPOINTS} entries");
        check.problem(&format_args!("{at}.endpoints"), message);
    }
    let mut seen = HashSet::new();
    // When one of them could not be read, the others are not where their indices say.
    let whole = check.readable(&format_args!("{at}.endpoints"));
    for (index, endpoint) in upstream.endpoints.iter().enumerate().filter(|_| whole) {
        let path = format!("{at}.endpoints[{index}]");
        if let Err(why) = address(&endpoint.address, true) {
            check.problem(&check.either(&path, "address"), why);
        }
        if !seen.insert(&endpoint.address) {
            check.problem(
                &check.either(&path, "address"),
                format!("`{}` is in this list already", endpoint.address),
            );
        }
        check.range(&format_args!("{path}.weight"), endpoint.weight, 1, MOST_WEIGHT);
        if let Some(zone) = &endpoint.zone {
            check.name(&format_args!("{path}.zone"), zone);
        }
    }
    if let Some(dns) = &upstream.dns {
        resolved(check, &format_args!("{at}.dns"), dns);
    }
    if let Some(zone) = &upstream.zone {
        check.name(&format_args!("{at}.zone"), zone);
    }
    tls::names(check, at, upstream);
    if let Some(settings) = &upstream.original_destination {
        original(check, at, upstream, settings);
    }
    policies(check, at, upstream);
    let asks = upstream.health_check.as_ref().is_some_and(|settings| settings.grpc.is_some());
    let speaks = match upstream.protocol {
        Protocol::Http2 => true,
        Protocol::Auto => upstream.tls.is_some(),
        Protocol::Http1 => false,
    };
    if asks && !speaks {
        let path = format!("{at}.health_check.grpc");
        check.conflict(&path, "needs HTTP/2 to the endpoints; write `protocol: http2`");
    }
}

/// An upstream of destinations that have nothing in common but the way to them.
fn original(check: &mut Check<'_>, at: At<'_>, upstream: &Upstream, own: &OriginalDestination) {
    let path = format!("{at}.original_destination");
    check.range(&format_args!("{path}.max_endpoints"), own.max_endpoints, 1, MAX_ENDPOINTS);
    if !upstream.endpoints.is_empty() || upstream.dns.is_some() {
        check.conflict(&path, "stands beside `endpoints` or `dns`; an upstream has one of them");
    }
    if upstream.health_check.is_some() {
        let message = "would ask every server that anybody has called for its health; leave it out";
        check.conflict(&format_args!("{at}.health_check"), message);
    }
    if upstream.zone.is_some() {
        let message = "does nothing here: each request brings its one endpoint; leave it out";
        check.conflict(&format_args!("{at}.zone"), message);
    }
    if upstream.concurrency.mode != Mode::Off {
        let message = "would let one slow destination take the places of all; an upstream with \
                       `original_destination` needs `concurrency: { mode: off }`";
        check.conflict(&format_args!("{at}.concurrency"), message);
    }
}

pub(super) fn policies(check: &mut Check<'_>, at: At<'_>, upstream: &Upstream) {
    if upstream.proxy_protocol.is_some() && upstream.protocol != Protocol::Http1 {
        let message = "needs `protocol: http1`: a connection of HTTP/2 is shared by many clients, \
                       and the header can name one";
        check.conflict(&format_args!("{at}.proxy_protocol"), message);
    }
    let pool = &upstream.pool;
    if pool.max_connections == 0 {
        check.problem(
            &format_args!("{at}.pool.max_connections"),
            "is 0, so that nothing could be sent",
        );
    }
    if pool.max_age.is_some_and(|age| age.is_zero()) {
        let path = format!("{at}.pool.max_age");
        check.problem(&path, "is 0; write null for connections that may grow old");
    }
    policy::load_balancing(check, &format_args!("{at}.load_balancing"), &upstream.load_balancing);
    policy::ejection(check, &format_args!("{at}.ejection"), &upstream.ejection);
    if let Some(settings) = &upstream.tls {
        tls::upstream(check, &format_args!("{at}.tls"), settings);
    }
    if let Some(settings) = &upstream.health_check {
        policy::health_check(check, &format_args!("{at}.health_check"), settings);
    }
    policy::concurrency(check, &format_args!("{at}.concurrency"), &upstream.concurrency);
    let budget = &upstream.retry_budget;
    if budget.burst < Period::from_secs(1) {
        let path = format!("{at}.retry_budget.burst");
        check.problem(&path, format!("is {}; it must be 1s or more", budget.burst));
    }
}

fn resolved(check: &mut Check<'_>, at: At<'_>, dns: &Dns) {
    if let Err(why) = address(&dns.name, false) {
        check.problem(&format_args!("{at}.name"), why);
    }
    let refresh = &dns.refresh;
    if refresh.min.is_zero() {
        check.problem(
            &format_args!("{at}.refresh.min"),
            "is 0, so that the resolver would never rest",
        );
    }
    if refresh.min > refresh.max {
        let message = format!("is {}, longer than `max`, {}", refresh.min, refresh.max);
        check.conflict(&format_args!("{at}.refresh.min"), message);
    }
}

/// Checks an address to send to: `host:port`, `[v6]:port` or, where it may be, `unix:/path`.
fn address(text: &str, unix: bool) -> Result<(), String> {
    let forms = if unix { "host:port, [v6]:port or unix:/path" } else { "host:port" };
    let wrong = || Err(format!("`{text}` is not an address; write {forms}"));
    if let Some(path) = text.strip_prefix("unix:") {
        return if unix && path.len() > 1 && path.starts_with('/') { Ok(()) } else { wrong() };
    }
    let Some((host, port)) = text.rsplit_once(':') else { return wrong() };
    if !matches!(port.parse::<u16>(), Ok(1..)) {
        return wrong();
    }
    if let Some(v6) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return if v6.parse::<std::net::Ipv6Addr>().is_ok() { Ok(()) } else { wrong() };
    }
    if is_host(host) { Ok(()) } else { wrong() }
}

/// Whether it is an IPv4 address or a name that can be resolved (RFC 1123, with `_` as in SRV
/// names).
pub(super) fn is_host(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}
