//! What would happen to a request: its route, where it leads, and under which policies.
//!
//! It goes through the same matcher and rewriting as a request does, and sends nothing, waits for
//! nothing and changes nothing. What depends on the moment (endpoints, breakers, the budget) is
//! told of a running proxy only. Header values are masked as in the configuration that is printed.

mod explanation;
mod fallback;
mod learned;
mod limit;
pub mod settings;
#[cfg(test)]
mod tests;
mod text;

use std::time::{Duration, Instant};

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

pub use self::explanation::{
    Again, Budget, Destination, Explanation, FallbackLink, Followed, NearMiss, Place, Retry, Sent,
    Timeouts, Understood,
};
pub use self::learned::{Learned, learned};
pub use self::limit::{Limit, limit};
use self::settings::Printed;
use crate::config::listener::{AmbiguousPaths, Trust};
use crate::config::route::{Match, ValueMatch};
use crate::policy::retry::UnsafeMethods;
use crate::policy::{Mode, timeout};
use crate::proxy::headers::{framing, path, trust};
use crate::snapshot::Snapshot;
use crate::snapshot::matcher::{Found, Miss, Target};
use crate::snapshot::route::Route;
use crate::upstream::Upstream;
use crate::upstream::endpoint::Endpoint;

/// How many routes that do not match are told of: the nearest ones.
const MISSES_MAX: usize = 5;

/// A request in words.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The listener that it comes in on; the first of the file unless given.
    pub listener: Option<String>,
    /// The method.
    pub method: String,
    /// `http://host/path?query`, or a path alone, with a `host` among the header fields.
    pub url: String,
    /// Header fields, each `name: value`.
    pub headers: Vec<String>,
}

/// Explains a request under a configuration. `live` is the present time when the configuration is
/// in force; nothing when it is only a file.
///
/// # Errors
/// What is wrong with the request, in a sentence.
pub fn explain(
    snapshot: &Snapshot,
    asked: &Asked,
    live: Option<Instant>,
) -> Result<Explanation, String> {
    let request = Read::of(snapshot, asked)?;
    let target = request.target();
    let host = target.host.to_owned();
    let wanted = request.uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
    let found = snapshot.matcher.find(&target);
    if let Some(found) = found.filter(|_| request.one_reading) {
        path::one_reading(&snapshot.matcher, &target, found.index)
            .map_err(|why| format!("the answer is 400 bad_request: {why}"))?;
    }
    let followed = found.and_then(|found| Some((found, snapshot.routes.get(found.index)?)));
    // A request that found a route is compared with those that it may have been meant for.
    let misses = nearest(snapshot, &target, if followed.is_some() { rank(&Miss::Grpc) } else { 0 });
    let route = match followed {
        Some((found, route)) => Some(follow(snapshot, &request, found, route, live)?),
        None => None,
    };
    let request = Understood {
        listener: request.listener.to_owned(),
        method: request.method.to_string(),
        host,
        target: wanted,
    };
    Ok(Explanation { request, route, misses })
}

/// A request as the proxy would see it.
struct Read<'a> {
    listener: &'a str,
    index: usize,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    /// Whether a path that others could read as one of another route is refused.
    one_reading: bool,
}

impl<'a> Read<'a> {
    fn of(snapshot: &'a Snapshot, asked: &Asked) -> Result<Self, String> {
        let listener = match &asked.listener {
            Some(name) => snapshot.listener(name),
            None => snapshot.config.listeners.iter().enumerate().next(),
        };
        let (index, settings) = listener.ok_or_else(|| {
            let names = snapshot.config.listeners.iter().map(|l| format!("`{}`", l.name));
            let names = names.collect::<Vec<_>>().join(", ");
            let asked = asked.listener.as_deref().unwrap_or_default();
            format!("no listener is named `{asked}`; there is {names}")
        })?;
        let method = Method::from_bytes(asked.method.as_bytes())
            .map_err(|_| format!("`{}` is not a method", asked.method))?;
        let uri = parse_url(&asked.url)?;
        let mut headers = HeaderMap::new();
        for field in &asked.headers {
            let (name, value) = parse_field(field)?;
            headers.append(name, value);
        }
        if settings.trust == Trust::None {
            trust::strip_untrusted(&mut headers, snapshot.importance.header());
        }
        framing::settle_host(&uri, &mut headers);
        let one_reading = settings.ambiguous_paths == AmbiguousPaths::Refuse;
        Ok(Self { listener: &settings.name, index, method, uri, headers, one_reading })
    }

    fn target(&self) -> Target<'_> {
        let host = self.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        Target {
            listener: self.index,
            host: host.unwrap_or_default(),
            path: self.uri.path(),
            query: self.uri.query(),
            method: &self.method,
            headers: &self.headers,
        }
    }
}

fn parse_url(text: &str) -> Result<Uri, String> {
    let wanted = || format!("`{text}` is not a URL; write http://host/path?query or /path?query");
    let uri: Uri = text.parse().map_err(|_| wanted())?;
    let http = uri.scheme().is_some_and(|s| *s == Scheme::HTTP || *s == Scheme::HTTPS);
    if http || text.starts_with('/') { Ok(uri) } else { Err(wanted()) }
}

fn parse_field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    // The value is not quoted back: it can be a credential.
    let (name, value) = text.split_once(':').ok_or("a header field is written `name: value`")?;
    let known = HeaderName::from_bytes(name.trim().as_bytes())
        .map_err(|_| format!("`{name}` is not the name of a header field"))?;
    let value = HeaderValue::from_str(value.trim())
        .map_err(|_| format!("the value of `{name}` has characters that a field cannot have"))?;
    Ok((known, value))
}

fn follow(
    snapshot: &Snapshot,
    request: &Read<'_>,
    found: Found,
    route: &Route,
    live: Option<Instant>,
) -> Result<Followed, String> {
    let printed = Printed::of(snapshot)?;
    let total: u32 = route.targets.iter().map(|target| target.weight).sum();
    let destination = |target: &crate::snapshot::route::Target| {
        let settings = &route.settings.circuit_breaker;
        let breaker = live.map(|now| target.circuit.view(settings, now).state.as_str());
        let share = f64::from(target.weight) / f64::from(total.max(1));
        let to = destination(&target.upstream, live);
        let limit = live.and_then(|now| limit(&target.upstream, &snapshot.importance, now));
        Destination { weight: target.weight, share, breaker, limit, ..to }
    };
    Ok(Followed {
        name: route.name.to_string(),
        r#match: printed.conditions(found.index),
        sent: sent(snapshot, request, found, route),
        upstreams: route.targets.iter().map(destination).collect(),
        timeouts: timeouts(route),
        retry: retry(route, &request.method),
        fallback: fallback::links(route, request),
        priority: snapshot.importance.name(tier(request, route)).unwrap_or_default().to_owned(),
        learned_rate: live.and_then(|now| learned(route, now)),
        policies: printed.policies(found.index),
    })
}

/// The tier of importance that the request has.
fn tier(request: &Read<'_>, route: &Route) -> usize {
    let said = || route.importance.tier_of(&request.headers);
    route.tier.as_ref().map_or_else(said, crate::snapshot::importance::Fixed::tier)
}

/// The target and host that the upstream is asked for, as the data path makes them.
fn sent(snapshot: &Snapshot, request: &Read<'_>, found: Found, route: &Route) -> Sent {
    let mut headers = request.headers.clone();
    let target = route.target(&request.uri, &found, snapshot.matcher.capture_names(found.index));
    if let Some(rewrite) = &route.rewrite {
        rewrite.apply_host(&mut headers);
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.map(|host| snapshot.secrets.mask(host));
    match target {
        Ok(target) => {
            Sent { target: Some(snapshot.secrets.mask(target.as_str())), host, refused: None }
        }
        Err(why) => Sent { target: None, host: None, refused: Some(why) },
    }
}

fn destination(upstream: &Upstream, live: Option<Instant>) -> Destination {
    let settings = &upstream.settings;
    let endpoints = match live {
        Some(now) => {
            let set = upstream.state.endpoints.load();
            set.endpoints.iter().map(|endpoint| place(endpoint, now)).collect()
        }
        None => {
            let one = |address: &str, weight, zone: Option<&String>| Place {
                address: address.to_owned(),
                weight,
                zone: zone.cloned(),
                state: None,
            };
            let listed = settings.endpoints.iter();
            let listed = listed.map(|e| one(&e.address, e.weight, e.zone.as_ref()));
            listed.chain(settings.dns.iter().map(|dns| one(&dns.name, 1, None))).collect()
        }
    };
    Destination {
        name: upstream.name.to_string(),
        weight: 1,
        share: 1.0,
        protocol: settings.protocol,
        load_balancing: settings.load_balancing.policy,
        endpoints,
        breaker: None,
        limit: None,
        retry_budget: Budget {
            ratio: settings.retry_budget.ratio.to_string(),
            min_per_second: settings.retry_budget.min_per_second,
            available: live.map(|now| {
                let balance = upstream.budget(now);
                (balance.ratio_millis + balance.floor_millis) as f64 / 1000.0
            }),
        },
    }
}

fn place(endpoint: &Endpoint, now: Instant) -> Place {
    Place {
        address: endpoint.name.to_string(),
        weight: endpoint.weight,
        zone: endpoint.zone.as_deref().map(str::to_owned),
        state: Some(standing(endpoint, now)),
    }
}

/// Whether an endpoint can be chosen: `available`, `ejected` for its failures, or `unhealthy` by
/// its checks, which know more than the attempts. Looking ends no ejection.
#[must_use]
pub fn standing(endpoint: &Endpoint, now: Instant) -> &'static str {
    match (endpoint.healthy(), endpoint.ejected_until(now)) {
        (false, _) => "unhealthy",
        (true, Some(_)) => "ejected",
        (true, None) => "available",
    }
}

fn timeouts(route: &Route) -> Timeouts {
    let settings = &route.settings.timeouts;
    Timeouts {
        total: settings.total.map(|total| total.to_string()),
        per_try: timeout::per_try(settings, route.max_attempts).map(shown),
        connect: settings.connect.to_string(),
        idle: settings.idle.to_string(),
    }
}

/// A length of time as people write it, to a millisecond.
fn shown(time: Duration) -> String {
    let millis = time.as_millis();
    if millis.is_multiple_of(1000) { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
}

fn retry(route: &Route, method: &Method) -> Retry {
    let settings = &route.settings.retry;
    let (this_request, because) = match (settings.mode, settings.unsafe_methods) {
        (Mode::Off, _) => (Again::No, "retry.mode is off"),
        (Mode::Observe, _) => (Again::No, "retry.mode is observe: counted, not made"),
        _ if route.max_attempts <= 1 => (Again::No, "max_attempts is 1"),
        _ if method.is_idempotent() => (Again::Yes, "the method is safe to repeat"),
        (_, UnsafeMethods::Always) => (Again::Yes, "unsafe_methods is always"),
        (_, UnsafeMethods::Never) => {
            (Again::No, "the method is not safe to repeat, and unsafe_methods is never")
        }
        (_, UnsafeMethods::UnsentOrKeyed) => {
            (Again::OnlyUnsent, "the method is not safe to repeat")
        }
    };
    Retry {
        this_request,
        because,
        max_attempts: route.max_attempts,
        on: settings.on.iter().map(ToString::to_string).collect(),
    }
}

/// The routes that miss by the latest condition, in the order of the file among equals; none that
/// misses by one before `least`.
fn nearest(snapshot: &Snapshot, target: &Target<'_>, least: u8) -> Vec<NearMiss> {
    let routes = snapshot.routes.iter().enumerate();
    let mut misses: Vec<(Miss, usize)> = routes
        .filter_map(|(index, _)| Some((snapshot.matcher.miss(index, target)?, index)))
        .filter(|(miss, _)| rank(miss) >= least)
        .collect();
    misses.sort_by(|(a, i), (b, j)| rank(b).cmp(&rank(a)).then(i.cmp(j)));
    let near = |(miss, index): (Miss, usize)| {
        let route = snapshot.routes.get(index)?;
        let (condition, wants) = wanted(&miss, &route.settings.matches);
        let wants = snapshot.secrets.mask(&wants);
        Some(NearMiss { route: route.name.to_string(), condition, wants })
    };
    misses.into_iter().take(MISSES_MAX).filter_map(near).collect()
}

const fn rank(miss: &Miss) -> u8 {
    match miss {
        Miss::Host => 0,
        Miss::Path => 1,
        Miss::Grpc => 2,
        Miss::Method => 3,
        Miss::Header(_) => 4,
        Miss::Query(_) => 5,
        Miss::Listener => 6,
    }
}

/// The condition's name, and what it wants. Values of header fields and parameters are not told:
/// they can be credentials.
fn wanted(miss: &Miss, matches: &Match) -> (&'static str, String) {
    let kind = |value: Option<&ValueMatch>| match value {
        Some(ValueMatch::Present(true)) => "present",
        Some(ValueMatch::Present(false)) => "absent",
        Some(ValueMatch::Regex(_)) => "with a value that the expression matches",
        _ => "with the value of the file",
    };
    match miss {
        Miss::Host => ("host", matches.host.clone().unwrap_or_default()),
        Miss::Path => ("path", path_of(matches)),
        Miss::Grpc => ("grpc", "a POST with content-type application/grpc".to_owned()),
        Miss::Method => ("method", matches.methods.join(", ")),
        Miss::Header(name) => {
            let all = matches.headers.iter();
            let value = all.clone().find(|(key, _)| key.eq_ignore_ascii_case(name));
            ("header", format!("{name} {}", kind(value.map(|(_, value)| value))))
        }
        Miss::Query(name) => ("query", format!("{name} {}", kind(matches.query.get(name)))),
        Miss::Listener => ("listener", matches.listeners.join(", ")),
    }
}

fn path_of(matches: &Match) -> String {
    let prefix = matches.path_prefix.as_ref().map(|prefix| format!("{prefix} and below"));
    let regex = matches.path_regex.as_ref().map(|regex| format!("matching {regex}"));
    let any = |name: &Option<String>| name.clone().unwrap_or_else(|| "*".to_owned());
    if let Some(grpc) = &matches.grpc {
        return format!("/{}/{}", any(&grpc.service), any(&grpc.method));
    }
    let path = matches.path.clone().or_else(|| matches.path_template.clone());
    path.or(prefix).or(regex).unwrap_or_default()
}
