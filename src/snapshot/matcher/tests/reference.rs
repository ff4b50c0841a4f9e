//! The documented rules written down a second time, plainly: every route is tried, and the most
//! specific one that matches is taken.

use std::cmp::Reverse;

use regex::Regex;

use super::*;

pub(super) fn find(routes: &[Match], listeners: &[String], request: &Request) -> Option<usize> {
    let matching =
        routes.iter().enumerate().filter(|(_, route)| matches(route, listeners, request));
    matching.min_by_key(|(index, route)| (host_order(route), order(route), *index)).map(|(i, _)| i)
}

pub(super) fn matches(route: &Match, listeners: &[String], request: &Request) -> bool {
    let values = |name: &str| -> Vec<String> {
        let all = request.headers.get_all(name).iter();
        all.map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    let parameters = |name: &str| -> Vec<String> {
        let query = request.query.clone().unwrap_or_default();
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.replace('+', " ")).collect()
    };
    host_matches(route, &request.host)
        && path_matches(route, &request.path)
        && method_matches(route, request.method.as_str())
        && (route.grpc.is_none()
            || request.method == Method::POST
                && values("content-type")
                    .first()
                    .is_some_and(|kind| kind.starts_with("application/grpc")))
        && (route.listeners.is_empty() || route.listeners.contains(&listeners[request.listener]))
        && route.headers.iter().all(|(name, wanted)| value_matches(wanted, &values(name)))
        && route.query.iter().all(|(name, wanted)| value_matches(wanted, &parameters(name)))
}

fn method_matches(route: &Match, method: &str) -> bool {
    let named = route.methods.iter().any(|m| m == method);
    if method == "CONNECT" { named } else { named || route.methods.is_empty() }
}

fn value_matches(wanted: &ValueMatch, values: &[String]) -> bool {
    match wanted {
        ValueMatch::Exact(text) => values.contains(text),
        ValueMatch::Regex(text) => values.iter().any(|value| whole(text, value)),
        ValueMatch::Present(present) => values.is_empty() != *present,
    }
}

fn whole(pattern: &str, text: &str) -> bool {
    Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(text)
}

fn name_and_port(host: &str) -> (String, Option<String>) {
    let host = host.to_lowercase();
    match host.split_once(':') {
        Some((name, port)) => (name.to_owned(), Some(port.to_owned())),
        None => (host, None),
    }
}

fn host_matches(route: &Match, host: &str) -> bool {
    let Some(pattern) = &route.host else { return true };
    let ((wanted, wanted_port), (name, port)) = (name_and_port(pattern), name_and_port(host));
    let name_matches = match wanted.strip_prefix('*') {
        Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
        None => name == wanted,
    };
    name_matches && (wanted_port.is_none() || wanted_port == port)
}

fn segments(path: &str) -> Vec<&str> {
    path[1..].split('/').collect()
}

fn path_matches(route: &Match, path: &str) -> bool {
    if let Some(grpc) = &route.grpc {
        let names = [&grpc.service, &grpc.method];
        let parts = segments(path);
        return parts.len() == 2
            && names.iter().zip(parts).all(|(name, part)| match name {
                Some(name) => *name == part,
                None => !part.is_empty(),
            });
    }
    if let Some(exact) = &route.path {
        return exact == path;
    }
    if let Some(pattern) = &route.path_regex {
        return whole(pattern, path);
    }
    if let Some(prefix) = &route.path_prefix {
        let prefix = prefix.trim_end_matches('/');
        return path == prefix || path.starts_with(&format!("{prefix}/"));
    }
    let Some(template) = &route.path_template else { return true };
    let (template, path) = (segments(template), segments(path));
    let open = template.last().unwrap().ends_with("=**}");
    let fixed = template.len() - usize::from(open);
    let enough = if open { path.len() > fixed } else { path.len() == fixed };
    enough
        && template[..fixed].iter().zip(path).all(|(wanted, part)| {
            if wanted.starts_with('{') { !part.is_empty() } else { *wanted == part }
        })
}

fn host_order(route: &Match) -> (u8, Reverse<usize>, bool) {
    let Some(pattern) = &route.host else { return (9, Reverse(0), false) };
    let (name, port) = name_and_port(pattern);
    match name.strip_prefix('*') {
        Some(suffix) => (1, Reverse(suffix.len()), port.is_none()),
        None => (0, Reverse(0), port.is_none()),
    }
}

type PathOrder = (u8, Reverse<usize>, Reverse<usize>, Vec<bool>, bool);

type Order = (PathOrder, bool, bool, Reverse<usize>, Reverse<usize>, bool);

fn order(route: &Match) -> Order {
    (
        path_order(route),
        route.grpc.is_none(),
        route.methods.is_empty() || route.grpc.is_some(),
        Reverse(route.headers.len()),
        Reverse(route.query.len()),
        route.listeners.is_empty(),
    )
}

fn path_order(route: &Match) -> PathOrder {
    let plain = |kind| (kind, Reverse(0), Reverse(0), vec![], false);
    if route.path.is_some() {
        return plain(0);
    }
    if let Some(grpc) = &route.grpc {
        let captures = vec![grpc.service.is_none(), grpc.method.is_none()];
        let literals = captures.iter().filter(|capture| !**capture).count();
        let closed = (1, Reverse(2), Reverse(literals), captures, false);
        return if literals == 2 { plain(0) } else { closed };
    }
    if route.path_regex.is_some() {
        return plain(2);
    }
    if let Some(prefix) = &route.path_prefix {
        let segments = prefix.trim_end_matches('/').matches('/').count();
        return (3, Reverse(segments), Reverse(segments), vec![false; segments], true);
    }
    let Some(template) = &route.path_template else { return plain(4) };
    if !template.contains('{') {
        return plain(0);
    }
    let mut parts = segments(template);
    let open = parts.last().unwrap().ends_with("=**}");
    if open {
        parts.pop();
    }
    let captures: Vec<bool> = parts.iter().map(|part| part.starts_with('{')).collect();
    let literals = captures.iter().filter(|capture| !**capture).count();
    (if open { 3 } else { 1 }, Reverse(parts.len()), Reverse(literals), captures, false)
}
