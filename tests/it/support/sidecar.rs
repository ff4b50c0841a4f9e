//! A proxy in this process, with one listener on a port of the system's choice.

use std::fmt::Write as _;
use std::net::SocketAddr;

use outrigger::app::{Address, App, Start};
use outrigger::clock;
use outrigger::policy::circuit_breaker;
use outrigger::snapshot::circuit::Circuit;
use std::sync::Arc;

use super::PATIENCE;
use super::caller::Caller;
use super::service::Service;

/// A running proxy; stopped when this is dropped.
pub(crate) struct Sidecar {
    app: Option<App>,
    pub(crate) address: SocketAddr,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if let Some(app) = self.app.take() {
            app.stop();
        }
    }
}

/// What stands above the upstreams and routes.
pub(crate) const HEAD: &str = "\
admin: { bind: 127.0.0.1:0 }
telemetry: { access_log: { to: none } }
reload: { watch: false }
listeners: [{ name: in, bind: 127.0.0.1:0 }]
";

/// A configuration with upstream `u` on these services and route `r` to it. Settings are written as
/// in a flow mapping, such as `retry: { max_attempts: 2 }`.
pub(crate) fn config(services: &[&Service], upstream: &str, route: &str) -> String {
    let addresses: Vec<SocketAddr> = services.iter().map(|service| service.address).collect();
    config_to(&addresses, upstream, route)
}

/// The same with bare addresses.
pub(crate) fn config_to(addresses: &[SocketAddr], upstream: &str, route: &str) -> String {
    let mut list = String::new();
    for address in addresses {
        let _ = write!(list, "\"{address}\",");
    }
    config_with(1, &format!("endpoints: [{list}], {upstream}"), route)
}

/// The same with whole settings of the upstream, and this many workers.
pub(crate) fn config_with(workers: usize, upstream: &str, route: &str) -> String {
    format!(
        "{HEAD}runtime: {{ workers: {workers} }}\nupstreams: {{ u: {{ {upstream} }} }}\n\
         routes: [{{ name: r, upstream: u, {route} }}]\n"
    )
}

impl Sidecar {
    pub(crate) fn start(text: &str) -> Self {
        Self::with(Start::new(text.to_owned(), None, None))
    }

    pub(crate) fn with(start: Start) -> Self {
        let app = App::start(start).unwrap_or_else(|error| panic!("{error}"));
        let Some(Address::Tcp(address)) = app.listener("in").cloned() else { panic!("no `in`") };
        Self { app: Some(app), address }
    }

    pub(crate) fn app(&self) -> &App {
        self.app.as_ref().unwrap()
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller::new(self.address)
    }

    /// A sample of the exposition, by its name and labels as they are written there; 0 when it is
    /// not there, as for a reason that never occurred.
    pub(crate) fn metric(&self, sample: &str) -> f64 {
        self.sample(sample).unwrap_or(0.0)
    }

    /// The same; nothing when it is not there.
    pub(crate) fn sample(&self, sample: &str) -> Option<f64> {
        let text = self.app().proxy.metrics.render();
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map(|value| value.parse().unwrap())
    }

    /// How many retries of route `r` were suppressed for this reason.
    pub(crate) fn suppressed(&self, reason: &str) -> f64 {
        let name = "outrigger_route_retries_suppressed_total";
        self.metric(&format!("{name}{{route=\"r\",reason=\"{reason}\"}}"))
    }

    /// How many retries route `r` made.
    pub(crate) fn retries(&self) -> f64 {
        self.metric("outrigger_route_retries_total{route=\"r\"}")
    }

    /// How often a policy of route `r` in observe mode would have acted.
    pub(crate) fn would(&self, policy: &str) -> f64 {
        let name = "outrigger_route_would_act_total";
        self.metric(&format!("{name}{{route=\"r\",policy=\"{policy}\"}}"))
    }

    /// How often the circuit from `r` to `u` went into a state.
    pub(crate) fn transitions(&self, to: &str) -> f64 {
        let name = "outrigger_breaker_transitions_total";
        self.metric(&format!("{name}{{route=\"r\",upstream=\"u\",to=\"{to}\"}}"))
    }

    /// The circuit from `r` to `u`.
    pub(crate) fn circuit(&self) -> Arc<Circuit> {
        let live = self.app().proxy.live();
        let route = live.snapshot.routes.iter().find(|route| &*route.name == "r").unwrap();
        Arc::clone(route.circuit("u").unwrap())
    }

    /// The state of that circuit.
    pub(crate) fn circuit_state(&self) -> circuit_breaker::State {
        let live = self.app().proxy.live();
        let settings = &live.snapshot.routes[0].settings.circuit_breaker;
        self.circuit().view(settings, clock::now()).state
    }
}

/// Asks again and again, at short intervals, until it is so. For what no event tells of.
pub(crate) async fn eventually(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let end = clock::now() + PATIENCE;
    while !so().await {
        assert!(clock::now() < end, "never so: {what}");
        clock::sleep(std::time::Duration::from_millis(5)).await;
    }
}
