//! The proxy under test: the whole application, on threads of its own and ports that were free.

use std::net::SocketAddr;
use std::path::PathBuf;

use outrigger::app::{Address, App, Start};

use super::upstream::Upstream;

/// What a test's configuration begins with, unless it says so itself: quiet, and off fixed ports.
const BEGINNINGS: [(&str, &str); 4] = [
    ("admin:", "admin: { bind: \"127.0.0.1:0\" }\n"),
    ("runtime:", "runtime: { workers: 2, drain: { timeout: 5s, linger: 0s } }\n"),
    ("telemetry:", "telemetry: { access_log: { to: none } }\n"),
    ("listeners:", "listeners: [{ name: in, bind: \"127.0.0.1:0\" }]\n"),
];

/// A proxy that is not started yet.
pub(crate) struct Builder {
    text: String,
}

/// A proxy of this configuration. What a test leaves out of `admin`, `runtime`, `telemetry` and
/// `listeners` is filled in; `{name}` of [`Builder::with`] is replaced by an address.
pub(crate) fn proxy(yaml: &str) -> Builder {
    let mut text = String::new();
    for (key, beginning) in BEGINNINGS {
        if !yaml.lines().any(|line| line.starts_with(key)) {
            text.push_str(beginning);
        }
    }
    text.push_str(yaml);
    Builder { text }
}

/// One route to one upstream: the shortest scene. The rest is what the route says beside its name
/// and its upstream, as lines of YAML.
pub(crate) fn one_route(upstream: &Upstream, rest: &str) -> Builder {
    let mut yaml = String::from(
        "upstreams: { back: { endpoints: [\"{upstream}\"] } }\nroutes:\n\
         \u{20} - name: r\n    upstream: back\n",
    );
    for line in rest.lines() {
        yaml.push_str(&format!("    {line}\n"));
    }
    proxy(&yaml).with("upstream", upstream.address())
}

impl Builder {
    /// Puts an address, or any text, in place of `{name}`.
    pub(crate) fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        let place = format!("{{{name}}}");
        assert!(self.text.contains(&place), "no {place} in\n{}", self.text);
        self.text = self.text.replace(&place, &value.to_string());
        self
    }

    /// Puts one text in place of another.
    pub(crate) fn replaced(mut self, old: &str, new: &str) -> Self {
        assert!(self.text.contains(old), "no {old} in\n{}", self.text);
        self.text = self.text.replace(old, new);
        self
    }

    /// Puts the upstream's address in place of `{upstream}`.
    pub(crate) fn to(self, upstream: &Upstream) -> Self {
        self.with("upstream", upstream.address())
    }

    /// Gives the listener these settings beside its name and its address.
    pub(crate) fn listening(self, rest: &str) -> Self {
        let listener = format!("{{ name: in, bind: \"127.0.0.1:0\", {rest} }}");
        self.and(&format!("listeners: [{listener}]"))
    }

    /// Adds lines at the top level.
    pub(crate) fn and(mut self, yaml: &str) -> Self {
        if yaml.starts_with("listeners:") {
            self.text = self.text.replace(BEGINNINGS[3].1, "");
        }
        if yaml.starts_with("runtime:") {
            self.text = self.text.replace(BEGINNINGS[1].1, "");
        }
        self.text.push('\n');
        self.text.push_str(yaml);
        self.text.push('\n');
        self
    }

    /// Starts it; whatever is wrong with the configuration fails the test.
    pub(crate) async fn spawn(self) -> Proxy {
        let text = self.text.clone();
        // The start waits for the names of upstreams on its thread.
        let start = tokio::task::spawn_blocking(move || App::start(Start::new(text, None, None)));
        match start.await.expect("the start does not panic") {
            Ok(app) => Proxy { app: Some(app), text: self.text },
            Err(error) => panic!("{error}\n{}", self.text),
        }
    }
}

/// A proxy that runs until this is dropped.
pub(crate) struct Proxy {
    app: Option<App>,
    /// Its configuration, for a reload of a part of it.
    pub(crate) text: String,
}

impl Proxy {
    /// The application.
    pub(crate) fn app(&self) -> &App {
        self.app.as_ref().expect("the proxy runs")
    }

    /// The TCP address of the first listener.
    pub(crate) fn address(&self) -> SocketAddr {
        tcp(&self.app().listeners[0].1)
    }

    /// The TCP address of a listener.
    pub(crate) fn listener(&self, name: &str) -> SocketAddr {
        tcp(self.app().listener(name).expect("the listener exists"))
    }

    /// The value of a metric as it is exposed, with its labels in the order of the exposition. A
    /// child that was never touched is 0; a family that does not exist fails the test.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.metrics();
        let family = name.split('{').next().unwrap_or_default();
        assert!(text.contains(family), "no metric {family} in\n{text}");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a metric is a number"))
    }

    /// The whole exposition.
    pub(crate) fn metrics(&self) -> String {
        self.app().proxy.metrics.render()
    }

    /// Requests in flight on the route `r`, and attempts in flight at the endpoints of the upstream
    /// `back`, together.
    pub(crate) fn in_flight(&self) -> f64 {
        let attempts = "outrigger_endpoint_attempts_in_flight{upstream=\"back\",";
        let text = self.metrics();
        let attempts = text.lines().filter(|line| line.starts_with(attempts));
        let attempts = attempts.map(|line| line.rsplit(' ').next().unwrap_or_default());
        let attempts = attempts.map(|value| value.parse::<f64>().expect("a metric is a number"));
        self.metric("outrigger_route_requests_in_flight{route=\"r\"}") + attempts.sum::<f64>()
    }

    /// Ends it in order, as SIGTERM does.
    pub(crate) async fn drain(mut self) {
        self.app.take().expect("the proxy runs").drain().await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(app) = self.app.take() {
            app.stop();
        }
    }
}

fn tcp(address: &Address) -> SocketAddr {
    match address {
        Address::Tcp(address) => *address,
        Address::Unix(path) => panic!("{} is no TCP address", path.display()),
    }
}

/// A path for a socket that nobody else uses, gone with the folder.
pub(crate) fn socket_path(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}
