//! The endpoints of an upstream to which requests bring their destination: known from their first
//! request on, up to a bound, above which the one not used for longest makes room.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Upstream;
use super::address::EndpointAddress;
use super::endpoint::Endpoint;
use super::set::Spec;
use crate::policy::ejection::WhenAllEjected;
use crate::telemetry::metrics::Metrics;

impl Upstream {
    /// The endpoint of a destination. Nothing when it is ejected and the settings would rather fail
    /// than use it, or when as many destinations as may be known have work.
    pub fn reach(
        &self,
        destination: SocketAddr,
        metrics: &Metrics,
        now: Instant,
    ) -> Option<Arc<Endpoint>> {
        let turn = self.state.turn.fetch_add(1, Ordering::Relaxed);
        let known = self.state.endpoints.load().at(&destination).cloned();
        let endpoint = match known {
            Some(endpoint) => endpoint,
            None => self.admit(destination, metrics, turn)?,
        };
        endpoint.use_in(turn);
        let fails_fast = self.settings.ejection.when_all_ejected == WhenAllEjected::FailFast;
        (endpoint.available(now) || !fails_fast).then_some(endpoint)
    }

    #[cold]
    fn admit(
        &self,
        destination: SocketAddr,
        metrics: &Metrics,
        turn: usize,
    ) -> Option<Arc<Endpoint>> {
        let most = self.settings.original_destination.as_ref()?.max_endpoints;
        let one_at_a_time = self.state.publishing.lock();
        let set = self.state.endpoints.load_full();
        if let Some(endpoint) = set.at(&destination) {
            return Some(Arc::clone(endpoint));
        }
        let oldest = || {
            let all = set.endpoints.iter().enumerate();
            let idle = all.filter(|(_, endpoint)| endpoint.in_flight() == 0);
            idle.min_by_key(|(_, endpoint)| endpoint.used()).map(|(place, _)| place)
        };
        let leaves = if set.endpoints.len() >= most { Some(oldest()?) } else { None };
        let all = set.endpoints.iter().enumerate();
        let stay = all.filter(|(place, _)| Some(*place) != leaves);
        let mut specs: Vec<Spec> = stay.map(|(_, endpoint)| endpoint.spec()).collect();
        specs.push(Spec {
            address: EndpointAddress::Tcp(destination),
            weight: 1,
            zone: None,
            host: destination.ip().to_string().into(),
        });
        self.replace(metrics, &specs, &one_at_a_time);
        let endpoint = self.state.endpoints.load().at(&destination).cloned()?;
        // Before another destination can take it for the oldest.
        endpoint.use_in(turn);
        Some(endpoint)
    }
}

#[cfg(test)]
mod tests;
