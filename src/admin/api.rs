//! What can be asked and done: one function for each path.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, header};

use super::answer::{self, Answer};
use super::view::{self, Readiness, ReloadView};
use super::{Client, authority, gauges, query, records};
use crate::clock;
use crate::config;
use crate::explain::{Asked, explain};
use crate::policy::Mode;
use crate::proxy::body::KEPT_MAX;
use crate::proxy::{Live, Proxy};
use crate::snapshot::route::Route;
use crate::telemetry::metrics::CONTENT_TYPE;

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call<'a> {
    Index,
    Metrics,
    Alive,
    Ready,
    Config,
    Problems,
    Routes,
    Upstreams,
    Breakers,
    Protection,
    Tls,
    Explain,
    Reload,
    Breaker(Change<'a>),
}

/// A change of circuits by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change<'a> {
    route: &'a str,
    /// Nothing = all upstreams of the route.
    upstream: Option<&'a str>,
    isolate: bool,
}

/// The paths with what they are for, as the index shows them.
const INDEX: &[(&str, &str)] = &[
    ("GET /metrics", "metrics in Prometheus' text format"),
    ("GET /healthz", "200 while the process lives"),
    ("GET /readyz", "200 while requests should be sent here, 503 while draining"),
    ("GET /config", "the configuration in force, defaults filled in, secrets masked"),
    ("GET /problems", "what was wrong with the last file, if it was refused"),
    ("GET /routes", "routes, their policies and the state of their breakers"),
    ("GET /upstreams", "upstreams and their endpoints"),
    ("GET /breakers", "every breaker"),
    ("GET /protection", "how short the proxy itself is of memory, files or time"),
    ("GET /tls", "certificates in use, how long they are good, and files that are refused"),
    ("GET /explain?method=&url=&header=&listener=", "what would happen to a request"),
    ("POST /reload", "read the file again (token)"),
    ("POST /breakers/{route}/{upstream}/isolate", "hold a breaker open (token)"),
    ("POST /breakers/{route}/{upstream}/close", "close a breaker (token)"),
    ("POST /breakers/{route}/isolate", "the same for all upstreams of a route (token)"),
    ("POST /breakers/{route}/close", "the same for all upstreams of a route (token)"),
];

fn calls() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    INDEX.iter().chain(&records::INDEX)
}

impl<'a> Call<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/" => Self::Index,
            "/metrics" => Self::Metrics,
            "/healthz" => Self::Alive,
            "/readyz" => Self::Ready,
            "/config" => Self::Config,
            "/problems" => Self::Problems,
            "/routes" => Self::Routes,
            "/upstreams" => Self::Upstreams,
            "/breakers" => Self::Breakers,
            "/protection" => Self::Protection,
            "/tls" => Self::Tls,
            "/explain" => Self::Explain,
            "/reload" => Self::Reload,
            _ => Self::Breaker(Change::of(path)?),
        })
    }

    const fn changes(self) -> bool {
        matches!(self, Self::Reload | Self::Breaker(_))
    }
}

impl<'a> Change<'a> {
    /// Names consist of letters, digits and `_.-`, so nothing in a path has to be decoded.
    fn of(path: &'a str) -> Option<Self> {
        let (place, verb) = path.strip_prefix("/breakers/")?.rsplit_once('/')?;
        let isolate = match verb {
            "isolate" => true,
            "close" => false,
            _ => return None,
        };
        let (route, upstream) = match place.split_once('/') {
            Some((route, upstream)) => (route, Some(upstream)),
            None => (place, None),
        };
        Some(Self { route, upstream, isolate })
    }

    const fn verb(self) -> &'static str {
        if self.isolate { "isolate" } else { "close" }
    }
}

/// Whether it is asked so often, and is so cheap, that it is answered at once.
pub(super) fn is_probe(path: &str) -> bool {
    matches!(Call::of(path), Some(Call::Alive | Call::Ready))
}

/// The answer to a request whose body does not matter. Blocks while it reads a file or compiles.
pub(super) fn answer(proxy: &Proxy, client: &Client, head: &Parts) -> Answer {
    let live = Arc::clone(&proxy.live());
    let admin = &live.snapshot.config.admin;
    if let Err(refusal) = authority::check_host(admin, client, &head.headers) {
        return *refusal;
    }
    let Some(call) = Call::of(head.uri.path()) else {
        return answer::problem(404, "there is no such path; `/` lists them");
    };
    let fits = match head.method {
        Method::GET | Method::HEAD => !call.changes(),
        Method::POST => call.changes(),
        _ => false,
    };
    if !fits {
        return answer::not_allowed(if call.changes() { "POST" } else { "GET, HEAD" });
    }
    if call.changes()
        && let Err(refusal) = authority::check_change(admin, &head.headers)
    {
        let status = refusal.status.as_u16();
        let path = head.uri.path();
        tracing::warn!(client = client.name, path, status, "operator's change refused");
        return *refusal;
    }
    match call {
        Call::Reload => reload(proxy, client),
        Call::Breaker(change) => change_breakers(&live, client, change),
        call => look(proxy, &live, head, call),
    }
}

/// The answers that change nothing.
fn look(proxy: &Proxy, live: &Live, head: &Parts, call: Call<'_>) -> Answer {
    let snapshot = &live.snapshot;
    let now = clock::now();
    match call {
        Call::Index => index(head),
        Call::Metrics => {
            gauges::refresh(snapshot, proxy, now);
            proxy.metrics.kept_bodies(proxy.kept.get(), KEPT_MAX);
            Answer::text(CONTENT_TYPE, proxy.metrics.render())
        }
        Call::Alive => Answer::text(PLAIN, "alive\n".to_owned()),
        Call::Ready => {
            let draining = proxy.draining();
            let reason = draining.then_some("draining");
            let generation = snapshot.generation;
            let status = if draining { 503 } else { 200 };
            answer::json(status, &Readiness { ready: !draining, reason, generation })
        }
        Call::Config => match config::to_yaml(&snapshot.config, &snapshot.secrets) {
            Ok(yaml) => Answer::text("application/yaml", yaml),
            Err(error) => answer::problem(500, &error),
        },
        Call::Problems => {
            let problems = proxy.last_problems();
            let faults: Vec<_> = problems.iter().map(answer::Fault::from).collect();
            answer::json(200, &faults)
        }
        Call::Routes => match view::routes(snapshot, now) {
            Ok(routes) => answer::json(200, &routes),
            Err(error) => answer::problem(500, &error),
        },
        Call::Upstreams => answer::json(200, &view::upstreams(snapshot, now)),
        Call::Breakers => {
            let all = snapshot.routes.iter().flat_map(|route| view::breakers(route, None, now));
            answer::json(200, &all.collect::<Vec<_>>())
        }
        Call::Protection => answer::json(200, &view::protection(proxy)),
        Call::Tls => answer::json(200, &view::tls(snapshot, clock::wall_now())),
        Call::Explain => explain_request(live, head),
        Call::Reload | Call::Breaker(_) => answer::not_allowed("POST"),
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

/// The list of paths, as a page for browsers.
fn index(head: &Parts) -> Answer {
    let accept = head.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let version = env!("CARGO_PKG_VERSION");
    if !accept.is_some_and(|accept| accept.contains("text/html")) {
        let lines = calls().map(|(call, what)| format!("{call:<46} {what}\n"));
        let text = format!("outrigger {version}\n\n{}", lines.collect::<String>());
        return Answer::text(PLAIN, text);
    }
    let row = |(call, what): &(&str, &str)| {
        let path = call.strip_prefix("GET ").filter(|path| !path.contains('?'));
        let call = match path {
            Some(path) => format!("<a href=\"{path}\">{call}</a>"),
            None => call.replace('&', "&amp;"),
        };
        format!("<tr><td><code>{call}</code></td><td>{what}</td></tr>\n")
    };
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>outrigger</title>\n\
         <h1>outrigger {version}</h1>\n<table>\n{}</table>\n</html>\n",
        calls().map(row).collect::<String>()
    );
    Answer::text("text/html; charset=utf-8", page)
}

fn explain_request(live: &Live, head: &Parts) -> Answer {
    let mut asked = Asked { method: "GET".to_owned(), ..Asked::default() };
    for (name, value) in query::pairs(head.uri.query().unwrap_or_default()) {
        match name.as_str() {
            "method" if value.is_empty() => {}
            "method" => asked.method = value,
            "url" => asked.url = value,
            "listener" => asked.listener = Some(value).filter(|name| !name.is_empty()),
            "header" => asked.headers.push(value),
            _ => {
                let detail =
                    format!("`{name}` is no parameter; give method, url, listener and header");
                return answer::problem(400, &detail);
            }
        }
    }
    match explain(&live.snapshot, &asked, Some(clock::now())) {
        Ok(explanation) => answer::json(200, &explanation),
        Err(detail) => answer::problem(400, &detail),
    }
}

fn reload(proxy: &Proxy, client: &Client) -> Answer {
    let client = client.name.as_str();
    match proxy.reload_from_file() {
        Ok(reloaded) => {
            let (generation, changed) = (reloaded.generation, reloaded.changed);
            tracing::info!(client, action = "reload", generation, changed, "operator's change");
            answer::json(200, &ReloadView::from(reloaded))
        }
        Err(problems) => {
            let count = problems.len();
            tracing::info!(client, action = "reload", problems = count, "operator's change failed");
            let detail = "the configuration is refused, and the one before stays in force";
            answer::problems(422, detail, &problems)
        }
    }
}

/// Isolates or closes circuits.
fn change_breakers(live: &Live, client: &Client, change: Change<'_>) -> Answer {
    let known = live.snapshot.routes.iter().find(|route| *route.name == *change.route);
    let Some(route) = known else {
        return answer::problem(404, &format!("no route is named `{}`", change.route));
    };
    if let Some(upstream) = change.upstream
        && route.circuit(upstream).is_none()
    {
        let detail = format!("route `{}` does not lead to upstream `{upstream}`", change.route);
        return answer::problem(404, &detail);
    }
    if let Some(detail) = without_effect(route, change) {
        return answer::problem(409, &detail);
    }
    for (upstream, circuit) in route.circuits() {
        if change.upstream.is_none_or(|wanted| wanted == &**upstream) {
            if change.isolate {
                circuit.isolate();
            } else {
                circuit.close();
            }
        }
    }
    tracing::info!(
        client = client.name,
        action = change.verb(),
        route = change.route,
        upstream = change.upstream.unwrap_or("all"),
        "operator's change"
    );
    let views: Vec<_> = view::breakers(route, change.upstream, clock::now()).collect();
    answer::json(200, &views)
}

/// Only a breaker in `enforce` refuses anything: to isolate another would look like a stop and be
/// none.
fn without_effect(route: &Route, change: Change<'_>) -> Option<String> {
    let mode = match route.settings.circuit_breaker.mode {
        Mode::Enforce => return None,
        Mode::Observe => "observe",
        Mode::Off => "off",
    };
    change.isolate.then(|| {
        format!(
            "circuit_breaker.mode of route `{}` is {mode}, so an isolated breaker would stop \
             nothing; set it to enforce",
            route.name
        )
    })
}

#[cfg(test)]
mod tests;
