//! Rules of routes.

use super::super::pattern::{
    self, Segment, compile_regex, is_call_name, is_field_value, is_path, is_token, references,
};
use super::super::route::{Grpc, HeaderOps, Match, Rewrite, Route, ValueMatch};
use super::super::suggest::nearest;
use super::upstream::is_host;
use super::{At, Check, Names, each, fallback, idempotency, policy, priority, tunnel};

/// The largest weight of an upstream in a route.
const MOST_WEIGHT: u32 = 1_000_000;
/// The longest host name, path or value that a route can ask for.
const MOST_TEXT: usize = 4096;

/// Fields that belong to a connection or to the framing of a message (RFC 9110, 7.6.1; RFC 9112,
/// 6), or that another setting writes. To set one would break the message.
const RESERVED: [&str; 11] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

pub(super) fn check(check: &mut Check<'_>, at: At<'_>, route: &Route, names: &Names<'_>) {
    check.name(&format_args!("{at}.name"), &route.name);
    matches(check, &format_args!("{at}.match"), &route.matches, names);
    targets(check, at, route, names);
    if let Some(rewrite) = &route.rewrite
        && check.readable(&format_args!("{at}.match"))
    {
        self::rewrite(check, &format_args!("{at}.rewrite"), rewrite, &route.matches);
    }
    mirror_target(check, at, route, names);
    fallback::chain(check, at, route, names);
    idempotency::complete(check, at, route, names);
    policies(check, at, route, names);
}

/// The rules of what can also stand under `defaults.route`.
pub(super) fn policies(check: &mut Check<'_>, at: At<'_>, route: &Route, names: &Names<'_>) {
    header_ops(check, &format_args!("{at}.headers.request"), &route.headers.request);
    header_ops(check, &format_args!("{at}.headers.response"), &route.headers.response);
    tunnel::upgrades(check, &format_args!("{at}.upgrades"), &route.upgrades);
    policy::timeouts(check, &format_args!("{at}.timeouts"), &route.timeouts);
    policy::retry(check, &format_args!("{at}.retry"), &route.retry);
    policy::attempts_fit(check, at, &route.retry, &route.timeouts);
    policy::circuit_breaker(check, &format_args!("{at}.circuit_breaker"), &route.circuit_breaker);
    if let Some(settings) = &route.mirror {
        policy::mirror(check, &format_args!("{at}.mirror"), settings);
    }
    if let Some(settings) = &route.rate_limit {
        policy::rate_limit(check, &format_args!("{at}.rate_limit"), settings);
    }
    if let Some(settings) = &route.cache {
        fallback::cache(check, &format_args!("{at}.cache"), settings);
    }
    if let Some(settings) = &route.hedge {
        policy::hedge(check, &format_args!("{at}.hedge"), settings);
    }
    if let Some(settings) = &route.idempotency {
        idempotency::ranges(check, &format_args!("{at}.idempotency"), settings);
    }
    if let Some(settings) = &route.bulkhead {
        policy::bulkhead(check, &format_args!("{at}.bulkhead"), settings);
    }
    if let Some(tier) = &route.priority {
        priority::known(check, &format_args!("{at}.priority"), tier, names.tiers);
    }
}

fn targets(check: &mut Check<'_>, at: At<'_>, route: &Route, names: &Names<'_>) {
    match (&route.upstream, route.upstreams.is_empty()) {
        (None, true) => check.problem(at, "goes nowhere; write `upstream` or `upstreams`"),
        (Some(_), false) => check.problem(
            &format_args!("{at}.upstreams"),
            "stands beside `upstream`; a route has one of them",
        ),
        (Some(name), true) => known_upstream(check, &format_args!("{at}.upstream"), name, names),
        (None, false) => {}
    }
    // When one of them could not be read, the others are not where their indices say.
    let whole = check.readable(&format_args!("{at}.upstreams"));
    for (index, target) in route.upstreams.iter().enumerate().filter(|_| whole) {
        let path = format!("{at}.upstreams[{index}]");
        known_upstream(check, &format_args!("{path}.name"), &target.name, names);
        check.range(&format_args!("{path}.weight"), target.weight, 0, MOST_WEIGHT);
        if route.upstreams.iter().take(index).any(|other| other.name == target.name) {
            let message = format!("`{}` is in this list already", target.name);
            check.problem(&format_args!("{path}.name"), message);
        }
    }
    if !route.upstreams.is_empty() && route.upstreams.iter().all(|target| target.weight == 0) {
        check.problem(
            &format_args!("{at}.upstreams"),
            "every weight is 0, so that nothing is chosen",
        );
    }
}

fn mirror_target(check: &mut Check<'_>, at: At<'_>, route: &Route, names: &Names<'_>) {
    let Some(mirror) = &route.mirror else { return };
    let path = format!("{at}.mirror.upstream");
    known_upstream(check, &path, &mirror.upstream, names);
    let targets = route.upstreams.iter().map(|target| &target.name).chain(&route.upstream);
    if targets.into_iter().any(|target| *target == mirror.upstream) {
        let message = format!("`{}` gets the route's requests already", mirror.upstream);
        check.problem(&path, message);
    }
}

pub(super) fn known_upstream(check: &mut Check<'_>, path: At<'_>, name: &str, names: &Names<'_>) {
    if !names.upstreams.contains(name) {
        let meant = nearest(name, names.upstreams.iter().copied());
        check.problem_like(path, format!("there is no upstream `{name}`"), meant);
    }
}

fn matches(check: &mut Check<'_>, at: At<'_>, matches: &Match, names: &Names<'_>) {
    if let Some(host) = &matches.host {
        self::host(check, &format_args!("{at}.host"), host, true);
    }
    paths(check, at, matches);
    let whole = check.readable(&format_args!("{at}.methods"));
    for (index, method) in matches.methods.iter().enumerate().filter(|_| whole) {
        let path = format!("{at}.methods[{index}]");
        if !is_token(method) {
            check.problem(&path, format!("`{method}` cannot be a method"));
        } else if method.bytes().any(|b| b.is_ascii_lowercase()) {
            let upper = method.to_ascii_uppercase();
            let message = format!("`{method}` never matches: methods are in capitals");
            check.problem_like(&path, message, Some(&upper));
        }
    }
    for (path, name, value) in each(&format_args!("{at}.headers"), &matches.headers) {
        if !is_token(name) {
            check.problem(&path, format!("`{name}` cannot be the name of a header field"));
        }
        value_match(check, &path, value);
    }
    for (path, _, value) in each(&format_args!("{at}.query"), &matches.query) {
        value_match(check, &path, value);
    }
    let whole = check.readable(&format_args!("{at}.listeners"));
    for (index, name) in matches.listeners.iter().enumerate().filter(|_| whole) {
        if !names.listeners.contains(name.as_str()) {
            let meant = nearest(name, names.listeners.iter().copied());
            let path = format!("{at}.listeners[{index}]");
            check.problem_like(&path, format!("there is no listener `{name}`"), meant);
        }
    }
}

fn value_match(check: &mut Check<'_>, path: At<'_>, value: &ValueMatch) {
    match value {
        ValueMatch::Regex(text) => {
            if let Err(why) = compile_regex(text) {
                check.problem(&format_args!("{path}.regex"), why);
            }
        }
        ValueMatch::Exact(text) if text.len() > MOST_TEXT => {
            check.problem(path, format!("is longer than {MOST_TEXT} bytes"));
        }
        ValueMatch::Exact(_) | ValueMatch::Present(_) => {}
    }
}

fn host(check: &mut Check<'_>, path: At<'_>, host: &str, wildcard: bool) {
    let name = host.strip_prefix("*.").filter(|_| wildcard).unwrap_or(host);
    let (name, port) = match name.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
        _ => (name, None),
    };
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let named =
        bracketed.map_or_else(|| is_host(name), |v6| v6.parse::<std::net::Ipv6Addr>().is_ok());
    if !named || port.is_some_and(|port| !matches!(port.parse::<u16>(), Ok(1..))) {
        let forms = if wildcard { "a name, name:port or *.suffix" } else { "a name or name:port" };
        check.problem(path, format!("`{host}` is not a host; write {forms}"));
    }
}

fn paths(check: &mut Check<'_>, at: At<'_>, matches: &Match) {
    let forms = [
        ("path", &matches.path),
        ("path_prefix", &matches.path_prefix),
        ("path_regex", &matches.path_regex),
        ("path_template", &matches.path_template),
    ];
    let mut given = forms.iter().filter_map(|(key, value)| value.as_ref().map(|text| (*key, text)));
    let first = given.next();
    if let Some(grpc) = &matches.grpc {
        call(check, &format_args!("{at}.grpc"), grpc);
        if let Some((key, _)) = first {
            let message = format!("stands beside `{key}`; a route has one of them");
            check.problem(&format_args!("{at}.grpc"), message);
        }
        if !matches.methods.is_empty() && matches.methods.iter().all(|method| method != "POST") {
            let message = "never matches beside `grpc`: every call is a POST";
            check.problem(&format_args!("{at}.methods"), message);
        }
    }
    if let (Some((first, _)), Some((second, _))) = (first, given.next()) {
        let message = format!("stands beside `{first}`; a route has one of them");
        check.problem(&format_args!("{at}.{second}"), message);
    }
    for (key, text) in forms.iter().filter_map(|(key, value)| value.as_ref().map(|v| (*key, v))) {
        let path = format!("{at}.{key}");
        let wrong = match key {
            _ if text.len() > MOST_TEXT => Some(format!("is longer than {MOST_TEXT} bytes")),
            "path_regex" => compile_regex(text).err(),
            "path_template" => pattern::template(text).err(),
            _ if !is_path(text) => Some(format!(
                "`{text}` is not a path; it begins with `/` and has no spaces, `?` or `#`"
            )),
            _ => None,
        };
        if let Some(why) = wrong {
            check.problem(&path, why);
        }
    }
}

fn call(check: &mut Check<'_>, at: At<'_>, grpc: &Grpc) {
    for (key, name) in [("service", &grpc.service), ("method", &grpc.method)] {
        let Some(name) = name.as_ref().filter(|name| !is_call_name(name)) else { continue };
        let path = format!("{at}.{key}");
        let last = match key {
            "service" => name.trim_matches('/').split('/').next(),
            _ => name.rsplit(['/', '.']).next(),
        };
        let message = format!("`{name}` is not the name of a {key}; it has no slashes and blanks");
        check.problem_like(&path, message, last.filter(|last| is_call_name(last)));
    }
}

fn rewrite(check: &mut Check<'_>, at: At<'_>, rewrite: &Rewrite, matches: &Match) {
    if let Some(name) = &rewrite.host {
        host(check, &format_args!("{at}.host"), name, false);
    }
    if let Some(prefix) = &rewrite.path_prefix {
        let path = format!("{at}.path_prefix");
        if !is_path(prefix) {
            check.problem(&path, format!("`{prefix}` is not a path; it begins with `/`"));
        }
        if matches.path_prefix.is_none() && matches.path.is_none() {
            let message = "needs `match.path_prefix` or `match.path`, in whose place it is put";
            check.problem(&path, message);
        }
        if rewrite.path.is_some() {
            check.problem(&path, "stands beside `path`; a rewrite has one of them");
        }
    }
    let Some(text) = &rewrite.path else { return };
    let path = format!("{at}.path");
    let captures: Vec<&str> = matches
        .path_template
        .as_deref()
        .and_then(|text| pattern::template(text).ok())
        .unwrap_or_default()
        .into_iter()
        .filter_map(|segment| match segment {
            Segment::One(name) | Segment::Rest(name) => Some(name),
            Segment::Literal(_) => None,
        })
        .collect();
    if !is_path(text) {
        check.problem(&path, format!("`{text}` is not a path; it begins with `/`"));
    }
    match references(text) {
        Err(why) => check.problem(&path, why),
        Ok(names) => {
            for name in names.iter().filter(|name| !captures.contains(name)) {
                let meant = nearest(name, captures.iter().copied());
                let message = format!("`{{{name}}}` is not captured by `match.path_template`");
                check.problem_like(&path, message, meant);
            }
        }
    }
}

fn header_ops(check: &mut Check<'_>, at: At<'_>, ops: &HeaderOps) {
    for (verb, fields) in [("set", &ops.set), ("add", &ops.add)] {
        for (path, name, value) in each(&format_args!("{at}.{verb}"), fields) {
            field_name(check, &path, name);
            if name.to_ascii_lowercase().starts_with("x-outrigger-") {
                check.problem(&path, format!("`{name}` is written by the proxy itself"));
            }
            if !is_field_value(value) {
                let message = "cannot be the value of a header field: it has control characters, \
                               or spaces around it";
                check.problem(&path, message);
            } else if value.len() > MOST_TEXT {
                check.problem(&path, format!("is longer than {MOST_TEXT} bytes"));
            }
        }
    }
    let whole = check.readable(&format_args!("{at}.remove"));
    for (index, name) in ops.remove.iter().enumerate().filter(|_| whole) {
        field_name(check, &format_args!("{at}.remove[{index}]"), name);
    }
}

fn field_name(check: &mut Check<'_>, path: At<'_>, name: &str) {
    let lower = name.to_ascii_lowercase();
    if !is_token(name) {
        check.problem(path, format!("`{name}` cannot be the name of a header field"));
    } else if lower == "host" {
        check.problem(path, "`host` is changed with `rewrite.host`");
    } else if RESERVED.contains(&lower.as_str()) {
        let message = format!("`{name}` belongs to the connection or the message's framing");
        check.problem(path, message);
    }
}
