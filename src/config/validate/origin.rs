//! Rules between listeners, routes and the upstreams to which requests bring their destination.

use super::super::Config;
use super::super::fallback::Link;
use super::super::route::Route;
use super::{Check, join};
use crate::policy::Mode;

pub(super) fn check<'v>(
    check: &mut Check<'_>,
    config: &Config,
    routes: impl Iterator<Item = (usize, &'v Route)>,
) {
    let brings = |name: &str| {
        config.upstreams.get(name).is_some_and(|upstream| upstream.original_destination.is_some())
    };
    if !config.listeners.iter().any(|listener| listener.original_destination) {
        for (name, _) in config.upstreams.iter().filter(|(name, _)| brings(name.as_str())) {
            let path = format!("{}.original_destination", join("upstreams", name));
            let message = "has no listener that takes the destination from the kernel; set \
                           `original_destination: true` on one";
            if check.readable(&"listeners") {
                check.problem(&path, message);
            }
        }
    }
    for (index, route) in routes {
        if let Some(mirror) = route.mirror.as_ref().filter(|mirror| brings(&mirror.upstream)) {
            let message = format!("`{}` has no endpoints of its own to copy to", mirror.upstream);
            check.problem(&format_args!("routes[{index}].mirror.upstream"), message);
        }
        if route.circuit_breaker.mode != Mode::Off
            && let Some(name) = targets(route).find(|name| brings(name))
        {
            let message = format!(
                "would close the way to every destination of `{name}` when one of them fails; a \
                 route to `original_destination` needs `circuit_breaker: {{ mode: off }}`"
            );
            check.conflict(&format_args!("routes[{index}].circuit_breaker"), message);
        }
    }
}

/// Every upstream that a request of the route can be sent to.
fn targets(route: &Route) -> impl Iterator<Item = &str> {
    let links = route.fallback.iter().filter_map(|link| match link {
        Link::Upstream(name) => Some(name.as_str()),
        _ => None,
    });
    let targets = route.upstreams.iter().map(|target| target.name.as_str());
    route.upstream.as_deref().into_iter().chain(targets).chain(links)
}

#[cfg(test)]
mod tests;
