//! Rules of what can become a tunnel: upgrades and CONNECT.

use std::collections::BTreeMap;

use super::super::pattern::is_token;
use super::super::route::Route;
use super::super::upstream::Upstream;
use super::{At, Check};

/// The most protocols that a route can let through; each is compared with what is offered.
const MOST_UPGRADES: usize = 16;

/// Protocols that end at the next hop whatever a configuration says: to pass them on would let a
/// client speak past the proxy, to which all that follows would be one opaque stream.
const OWN: [&str; 4] = ["h2c", "h2", "http", "tls"];

pub(super) fn upgrades(check: &mut Check<'_>, at: At<'_>, upgrades: &[String]) {
    if upgrades.len() > MOST_UPGRADES {
        let message = format!("has {} entries; {MOST_UPGRADES} is the most", upgrades.len());
        check.problem(at, message);
    }
    // When one of them could not be read, the others are not where their indices say.
    let whole = check.readable(at);
    for (index, protocol) in upgrades.iter().enumerate().filter(|_| whole) {
        let path = format!("{at}[{index}]");
        let lower = protocol.to_ascii_lowercase();
        let wrong = if !protocol.splitn(2, '/').all(is_token) {
            format!("`{protocol}` is not a protocol; write a name or name/version")
        } else if lower.split('/').next().is_some_and(|name| OWN.contains(&name)) {
            format!("`{protocol}` cannot pass: the proxy could not see the requests in it")
        } else if upgrades.iter().take(index).any(|other| other.eq_ignore_ascii_case(protocol)) {
            format!("`{protocol}` is in this list already")
        } else {
            continue;
        };
        check.problem(&path, wrong);
    }
}

/// Upstreams that a CONNECT cannot go to.
pub(super) fn connect(
    check: &mut Check<'_>,
    at: At<'_>,
    route: &Route,
    upstreams: &BTreeMap<String, Upstream>,
) {
    if !route.matches.methods.iter().any(|method| method == "CONNECT") {
        return;
    }
    let one = route.upstream.iter().map(|name| (format!("{at}.upstream"), name));
    let many = route.upstreams.iter().enumerate();
    let many = many.map(|(index, one)| (format!("{at}.upstreams[{index}].name"), &one.name));
    for (path, name) in one.chain(many) {
        if upstreams.get(name).is_some_and(|upstream| upstream.tls.is_some()) {
            let message = format!(
                "`{name}` has `tls`, and what goes through CONNECT is encrypted by the client \
                 already; name an upstream without `tls`"
            );
            check.problem(&path, message);
        }
    }
}

#[cfg(test)]
mod tests;
