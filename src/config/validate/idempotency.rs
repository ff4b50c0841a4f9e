//! Rules of Idempotency-Keys on routes.

use super::super::pattern::{is_path, is_token};
use super::super::route::Route;
use super::super::suggest::nearest;
use super::{At, Check, Names};
use crate::policy::health_check::StatusRange;
use crate::policy::idempotency::Settings;
use crate::policy::idempotency::settings::{self, Fingerprints, Forget, OnConcurrent, Unknown};
use crate::policy::idempotency::settings::{Probe, Role, Source, UpstreamConflict};
use crate::policy::retry::UnsafeMethods;
use crate::units::{ByteSize, Period};

/// What `role: originate` acts on; it keeps no records.
const OF_ORIGINATE: [&str; 5] = ["role", "methods", "key_header", "status_header", "peer"];
/// What `role: enforce` does not act on.
const NOT_OF_ENFORCE: [&str; 1] = ["peer"];
/// Methods that change nothing, or are not about one operation.
const NEVER_COVERED: [&str; 5] = ["GET", "HEAD", "OPTIONS", "TRACE", "CONNECT"];
/// Fields that say what a request or its connection is, and so cannot carry something else.
const TAKEN: [&str; 8] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "te",
    "transfer-encoding",
];
/// The shortest time after which a late request is taken to have ended.
const LEAST_SETTLE: Period = Period::from_secs(1);
/// The most text of one setting.
const MOST_TEXT: usize = 4096;

/// Each value by itself; this also holds under `defaults.route`.
pub(super) fn ranges(check: &mut Check<'_>, at: At<'_>, s: &Settings) {
    let deadline = (settings::SHORTEST_DEADLINE, settings::LONGEST_DEADLINE);
    let least = Period::from_millis(0);
    let longest = settings::LONGEST_LEASE;
    let lease = s.lease.unwrap_or(longest);
    let periods = [
        ("ttl", s.ttl, settings::SHORTEST_TTL, settings::LONGEST_TTL),
        ("lease", lease, settings::SHORTEST_LEASE, longest),
        ("takeover_grace", s.takeover_grace, settings::SHORTEST_GRACE, longest),
        ("late_result_window", s.late_result_window.unwrap_or(least), least, longest),
        ("claim_deadline", s.claim_deadline, deadline.0, deadline.1),
        ("commit_deadline", s.commit_deadline, deadline.0, deadline.1),
        ("max_wait", s.max_wait, least, longest),
    ];
    for (key, value, low, high) in periods {
        check.range(&format_args!("{at}.{key}"), value, low, high);
    }
    let none = ByteSize::bytes(0);
    let sizes = [
        ("stored_body", s.stored_body, settings::MOST_STORED_BODY),
        ("stored_headers", s.stored_headers, settings::MOST_STORED_HEADERS),
        ("fingerprint_body", s.fingerprint_body, settings::MOST_FINGERPRINT_BODY),
    ];
    for (key, value, most) in sizes {
        check.range(&format_args!("{at}.{key}"), value, none, most);
    }
    check.range(&format_args!("{at}.max_waiters"), s.max_waiters, 1, settings::WAITERS_IN_ALL);
    methods(check, at, s);
    fields(check, at, s);
    scope(check, &format_args!("{at}.scope"), s);
    statuses(check, at, s);
    if let Some(namespace) = &s.namespace
        && (namespace.is_empty() || namespace.len() > settings::LONGEST_NAMESPACE)
    {
        let most = settings::LONGEST_NAMESPACE;
        check.problem(&format_args!("{at}.namespace"), format!("must be 1 to {most} bytes long"));
    }
    if let Some(probe) = &s.probe {
        self::probe(check, &format_args!("{at}.probe"), probe);
    }
    if let Some(conflict) = &s.upstream_conflict {
        upstream_conflict(check, &format_args!("{at}.upstream_conflict"), conflict);
    }
    if let Some(docs) = &s.docs {
        self::docs(check, &format_args!("{at}.docs"), docs);
    }
}

fn methods(check: &mut Check<'_>, at: At<'_>, s: &Settings) {
    let path = format!("{at}.methods");
    if s.methods.is_empty() {
        check.problem(&path, "is empty, so that nothing would be covered; write [POST, PATCH]");
    }
    let whole = check.readable(&path);
    for (index, method) in s.methods.iter().enumerate().filter(|_| whole) {
        let here = format!("{path}[{index}]");
        let upper = method.to_ascii_uppercase();
        if !is_token(method) {
            check.problem(&here, format!("`{method}` cannot be a method"));
        } else if *method != upper {
            let message = format!("`{method}` never matches: methods are in capitals");
            check.problem_like(&here, message, Some(&upper));
        } else if NEVER_COVERED.contains(&method.as_str()) {
            let message = format!(
                "`{method}` cannot be covered: a repetition of it is no second operation, or \
                 there is no answer that could be kept"
            );
            check.problem(&here, message);
        } else if s.methods.iter().take(index).any(|other| other == method) {
            check.problem(&here, format!("`{method}` is in this list already"));
        }
    }
}

fn fields(check: &mut Check<'_>, at: At<'_>, s: &Settings) {
    let named = [
        ("key_header", Some(&s.key_header)),
        ("status_header", Some(&s.status_header)),
        ("fence_header", s.fence_header.as_ref()),
    ];
    let named: Vec<(&str, &str)> =
        named.into_iter().filter_map(|(key, name)| Some((key, name?.as_str()))).collect();
    for (index, (key, name)) in named.iter().enumerate() {
        let path = format!("{at}.{key}");
        let lower = name.to_ascii_lowercase();
        if !is_token(name) {
            check.problem(&path, format!("`{name}` cannot be the name of a header field"));
        } else if TAKEN.contains(&lower.as_str()) || lower.starts_with("x-outrigger-") {
            check.problem(&path, format!("`{name}` says something else already"));
        } else if let Some((other, _)) =
            named.iter().take(index).find(|(_, other)| other.eq_ignore_ascii_case(name))
        {
            check.conflict(&path, format!("is the field of `{other}` as well"));
        }
    }
    let path = format!("{at}.fingerprint_headers");
    let count = s.fingerprint_headers.len();
    let most = settings::MOST_FINGERPRINT_HEADERS;
    if count > most {
        check.problem(&path, format!("has {count} entries; {most} is the most"));
    }
    let whole = check.readable(&path);
    for (index, name) in s.fingerprint_headers.iter().enumerate().filter(|_| whole) {
        if !is_token(name) {
            let message = format!("`{name}` cannot be the name of a header field");
            check.problem(&format_args!("{path}[{index}]"), message);
        }
    }
}

fn scope(check: &mut Check<'_>, at: At<'_>, s: &Settings) {
    let count = s.scope.len();
    if count > settings::MOST_SOURCES {
        let most = settings::MOST_SOURCES;
        check.problem(at, format!("has {count} entries; {most} is the most"));
    }
    let whole = check.readable(at);
    for (index, source) in s.scope.iter().enumerate().filter(|_| whole) {
        let path = format!("{at}[{index}]");
        match source {
            Source::Nobody if count > 1 => check.problem(
                &path,
                "stands beside others: a request without any of them would share the keys of all \
                 callers; write `none` alone, or remove it",
            ),
            Source::Header(name) if !is_token(name) => {
                check.problem(&path, format!("`{name}` cannot be the name of a header field"));
            }
            Source::Header(name) if name.eq_ignore_ascii_case(&s.key_header) => {
                check.problem(&path, "is the field of the key itself, which says nothing of whom");
            }
            _ if s.scope.iter().take(index).any(|other| other == source) => {
                check.problem(&path, format!("`{source}` is in this list already"));
            }
            _ => {}
        }
    }
}

fn statuses(check: &mut Check<'_>, at: At<'_>, s: &Settings) {
    let lists = [
        ("store_statuses", &s.store_statuses),
        ("release_statuses", &s.release_statuses),
        ("unknown_statuses", &s.unknown_statuses),
    ];
    let mut before: Vec<(String, StatusRange)> = Vec::new();
    for (key, list) in lists {
        let path = format!("{at}.{key}");
        if list.len() > settings::MOST_STATUSES {
            let (count, most) = (list.len(), settings::MOST_STATUSES);
            check.problem(&path, format!("has {count} entries; {most} is the most"));
            continue;
        }
        let whole = check.readable(&path);
        for (index, range) in list.iter().enumerate().filter(|_| whole) {
            let here = format!("{path}[{index}]");
            if range.from < 200 {
                let message = format!("`{range}`: a final answer has a status of 200 to 599");
                check.problem(&here, message);
            }
            let same = |other: &StatusRange| range.from <= other.to && other.from <= range.to;
            if let Some((other, _)) = before.iter().find(|(_, other)| same(other)) {
                check.conflict(&here, format!("`{range}` is in `{other}` already, in part or all"));
            }
            before.push((key.to_owned(), *range));
        }
    }
}

fn probe(check: &mut Check<'_>, at: At<'_>, probe: &Probe) {
    let path = format!("{at}.path");
    let (target, query) = probe.path.split_once('?').unwrap_or((&probe.path, ""));
    let plain = |text: &str| !text.bytes().any(|b| b <= b' ' || b >= 0x7f || b == b'#');
    if !is_path(&target.replace("{key}", "k")) || !plain(query) || probe.path.len() > MOST_TEXT {
        check.problem(&path, format!("`{}` is not a path; it begins with `/`", probe.path));
    } else if probe.path.matches("{key}").count() != 1 {
        check.problem(&path, "must have `{key}` once, in whose place the key is put");
    }
    if probe.settle_delay < LEAST_SETTLE {
        let message = format!("is {}; it must be {LEAST_SETTLE} or more", probe.settle_delay);
        check.problem(&format_args!("{at}.settle_delay"), message);
    }
    let (low, high) = (settings::SHORTEST_DEADLINE, settings::LONGEST_DEADLINE);
    check.range(&format_args!("{at}.timeout"), probe.timeout, low, high);
    let (yes, no) = (probe.executed, probe.not_executed);
    if yes.from <= no.to && no.from <= yes.to {
        let message = format!("is {no}, of which `executed`, {yes}, says the opposite");
        check.conflict(&format_args!("{at}.not_executed"), message);
    }
}

fn upstream_conflict(check: &mut Check<'_>, at: At<'_>, conflict: &UpstreamConflict) {
    check.range(&format_args!("{at}.status"), conflict.status, 400, 599);
    if let Some(name) = conflict.header.as_ref().filter(|name| !is_token(name)) {
        let message = format!("`{name}` cannot be the name of a header field");
        check.problem(&format_args!("{at}.header"), message);
    }
    match &conflict.contains {
        Some(_) if conflict.header.is_none() => {
            check.conflict(&format_args!("{at}.contains"), "needs `header`, whose value it is in");
        }
        Some(text) if text.is_empty() => {
            check.problem(&format_args!("{at}.contains"), "is empty; write null for any value");
        }
        _ => {}
    }
}

fn docs(check: &mut Check<'_>, at: At<'_>, docs: &str) {
    let rest = docs.strip_prefix("https://").or_else(|| docs.strip_prefix("http://"));
    let fits = rest.is_some_and(|rest| {
        let plain = |b: u8| b.is_ascii_graphic() && !b"<>\"#\\^`{|}".contains(&b);
        !rest.is_empty() && rest.len() <= MOST_TEXT && rest.bytes().all(plain)
    });
    if !fits {
        let message = "is not the address of a page; write http:// or https://, without `#`";
        check.problem(at, message);
    }
}

/// What a whole route must say, and what must not stand beside it.
pub(super) fn complete(check: &mut Check<'_>, at: At<'_>, route: &Route, names: &Names<'_>) {
    let Some(s) = &route.idempotency else { return };
    let at = format!("{at}.idempotency");
    roles(check, &at, s.role);
    if s.role == Role::Originate {
        return;
    }
    store(check, &at, s, names);
    if s.scope.is_empty() {
        check.problem(
            &format_args!("{at}.scope"),
            "is missing; write what says whose a key is, such as [header:x-tenant] or [mtls.san], \
             or [none] when all callers are one",
        );
    }
    retention(check, &at, s);
    together(check, &at, s);
    beside(check, &at, route, s);
}

fn roles(check: &mut Check<'_>, at: &str, role: Role) {
    for key in check.written(at) {
        let path = format!("{at}.{key}");
        match role {
            Role::Originate if !OF_ORIGINATE.contains(&key.as_str()) => check.problem(
                &path,
                "has no effect with `role: originate`, which keeps no records; remove it",
            ),
            Role::Enforce if NOT_OF_ENFORCE.contains(&key.as_str()) => {
                check.problem(&path, "has no effect without `role: originate`; remove it");
            }
            Role::Originate | Role::Enforce => {}
        }
    }
}

fn store(check: &mut Check<'_>, at: &str, s: &Settings, names: &Names<'_>) {
    let path = format!("{at}.store");
    let Some(name) = &s.store else {
        let message = match names.stores.len() {
            0 => {
                "is missing, and there are no `stores`; write \
                  `stores: { local: { memory: {} } }` and `store: local`"
            }
            _ => "is missing; write the name of one of `stores`",
        };
        return check.problem(&path, message);
    };
    match names.stores.get(name.as_str()) {
        None => {
            let meant = nearest(name, names.stores.keys().copied());
            check.problem_like(&path, format!("there is no store `{name}`"), meant);
        }
        Some(false) if s.allow_set_cookie => check.conflict(
            &format_args!("{at}.allow_set_cookie"),
            format!(
                "needs `stores.{name}.aead_key`: cookies give access, and would be stored in clear"
            ),
        ),
        Some(_) => {}
    }
}

fn retention(check: &mut Check<'_>, at: &str, s: &Settings) {
    let least = s.ttl.get().saturating_add(settings::LONGEST_LEASE.get());
    if s.key_ttl.get() < least {
        let message = format!(
            "is {}; it must be longer than `ttl`, {}, by {}, the longest that a request can last",
            s.key_ttl,
            s.ttl,
            settings::LONGEST_LEASE
        );
        check.conflict(&format_args!("{at}.key_ttl"), message);
    }
    if let Forget::After(period) = s.unknown_ttl
        && period < s.key_ttl
    {
        let message = format!(
            "is {period}, shorter than `key_ttl`, {}: what nobody knows would be forgotten before \
             what is known",
            s.key_ttl
        );
        check.conflict(&format_args!("{at}.unknown_ttl"), message);
    }
}

fn together(check: &mut Check<'_>, at: &str, s: &Settings) {
    if s.unknown == Unknown::Redispatch && !s.upstream_idempotent {
        check.conflict(
            &format_args!("{at}.unknown"),
            "is `redispatch` without `upstream_idempotent: true`: an operation that may have been \
             executed would be executed again; write `hold`",
        );
    }
    let written = check.written(at);
    let has = |key: &str| written.iter().any(|written| written == key);
    if s.unknown == Unknown::Hold && has("takeover_grace") {
        let message = "has no effect without `unknown: redispatch`";
        check.conflict(&format_args!("{at}.takeover_grace"), message);
    }
    if s.on_concurrent == OnConcurrent::Conflict {
        for key in ["max_wait", "max_waiters"].into_iter().filter(|key| has(key)) {
            let message = "has no effect without `on_concurrent: wait`";
            check.conflict(&format_args!("{at}.{key}"), message);
        }
    } else if s.max_wait.is_zero() {
        let message = "is 0, so that nobody could wait; write `on_concurrent: conflict`";
        check.conflict(&format_args!("{at}.max_wait"), message);
    }
    if s.fingerprint == Fingerprints::None {
        for key in ["fingerprint_body", "fingerprint_headers"].into_iter().filter(|key| has(key)) {
            let message = "has no effect with `fingerprint: none`";
            check.conflict(&format_args!("{at}.{key}"), message);
        }
    }
    if s.strip_key && s.upstream_idempotent {
        check.conflict(
            &format_args!("{at}.strip_key"),
            "takes away the key by which the upstream would recognise a repetition \
             (`upstream_idempotent`)",
        );
    }
}

/// Other policies of the route that would send an operation twice.
fn beside(check: &mut Check<'_>, at: &str, route: &Route, s: &Settings) {
    let outer = at.strip_suffix(".idempotency").unwrap_or(at);
    if route.hedge.is_some() {
        let message = "cannot stand beside `idempotency`: a hedge sends an operation twice; write \
                       a route of its own for the methods that are not covered";
        check.problem(&format_args!("{outer}.hedge"), message);
    }
    if route.retry.unsafe_methods == UnsafeMethods::Always && !s.upstream_idempotent {
        let message = "is `always` beside `idempotency`: an operation that may have been executed \
                       would be sent again; write `unsent_or_keyed`, or \
                       `upstream_idempotent: true`";
        check.conflict(&format_args!("{outer}.retry.unsafe_methods"), message);
    }
    let links = format!("{outer}.fallback");
    let whole = check.readable(&links);
    for (index, link) in route.fallback.iter().enumerate().filter(|_| whole) {
        if matches!(link, super::super::fallback::Link::Upstream(_)) {
            let message = "sends what may have been executed to another upstream, which cannot \
                           stand beside `idempotency`";
            check.problem(&format_args!("{links}[{index}].upstream"), message);
        }
    }
}

/// The routes that share the keys of a store: the first of them, and where they all go.
struct Shared<'a> {
    store: &'a str,
    targets: Vec<&'a str>,
    route: &'a str,
}

/// Routes of one store without a namespace share their keys, and so must be one service.
pub(super) fn namespaces<'v>(
    check: &mut Check<'_>,
    routes: impl Iterator<Item = (usize, &'v Route)>,
) {
    let mut first: Vec<Shared<'_>> = Vec::new();
    for (index, route) in routes {
        let Some(s) = &route.idempotency else { continue };
        let (Some(store), None, Role::Enforce) = (&s.store, &s.namespace, s.role) else { continue };
        let targets: Vec<&str> = route
            .upstreams
            .iter()
            .map(|target| target.name.as_str())
            .chain(route.upstream.as_deref())
            .collect();
        let Some(known) = first.iter_mut().find(|known| known.store == store) else {
            first.push(Shared { store, targets, route: &route.name });
            continue;
        };
        if targets.iter().any(|target| known.targets.contains(target)) {
            known.targets.extend(targets);
        } else if !targets.is_empty() {
            let name = known.route;
            let message = format!(
                "shares the keys of route `{name}`, which goes to another upstream: one key of \
                 both would be one operation; write a `namespace` in each"
            );
            check.problem(&format_args!("routes[{index}].idempotency"), message);
        }
    }
}

#[cfg(test)]
mod tests;
