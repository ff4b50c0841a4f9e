//! An explanation for people: one screen, the answer first.

use std::fmt;

use serde_json::Value;

use super::learned::in_words;
use super::{Again, Destination, Explanation, Followed, Place, Retry};

/// How many endpoints of an upstream are listed.
const ENDPOINTS_SHOWN: usize = 8;
/// Where the second column begins.
const COLUMN: usize = 12;
/// Where a line is broken.
const WIDTH: usize = 100;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = &self.request;
        let host = if asked.host.is_empty() { String::new() } else { format!("{} ", asked.host) };
        writeln!(f, "{} {host}{} on {}", asked.method, asked.target, asked.listener)?;
        writeln!(f)?;
        let title = match &self.route {
            Some(route) => {
                followed(f, &asked.method, route)?;
                "not"
            }
            None => {
                line(f, "route", "none matches; the answer is 404 no_route")?;
                "nearest"
            }
        };
        for (at, miss) in self.misses.iter().enumerate() {
            let key = if at == 0 { title } else { "" };
            let text = format!("{}: wants {} {}", miss.route, miss.condition, miss.wants);
            line(f, key, text.trim_end())?;
        }
        Ok(())
    }
}

/// A line with its key, broken between words where it is too wide for a screen.
fn line(f: &mut fmt::Formatter<'_>, key: &str, text: &str) -> fmt::Result {
    let indent = text.len() - text.trim_start().len();
    let (mut key, mut row) = (key, " ".repeat(indent));
    for word in text.trim_start().split(' ') {
        let full = row.chars().count() + word.chars().count() + 1 > WIDTH - COLUMN;
        if full && !row.trim_start().is_empty() {
            writeln!(f, "{key:<COLUMN$}{row}")?;
            (key, row) = ("", " ".repeat(indent));
        }
        if !row.trim_start().is_empty() {
            row.push(' ');
        }
        row.push_str(word);
    }
    writeln!(f, "{key:<COLUMN$}{row}")
}

fn followed(f: &mut fmt::Formatter<'_>, method: &str, route: &Followed) -> fmt::Result {
    line(f, "route", &route.name)?;
    line(f, "match", &or_else(flat(&route.r#match), "everything"))?;
    match (&route.sent.target, route.sent.refused) {
        (Some(target), _) => {
            let host = route.sent.host.as_ref().map(|host| format!(", host {host}"));
            line(f, "sent as", &format!("{method} {target}{}", host.unwrap_or_default()))?;
        }
        (None, why) => line(f, "refused", &format!("400: {}", why.unwrap_or_default()))?,
    }
    for destination in &route.upstreams {
        upstream(f, destination, route.upstreams.len() > 1)?;
    }
    let limit = |time: &Option<String>| time.clone().unwrap_or_else(|| "none".to_owned());
    let times = &route.timeouts;
    let (total, per_try) = (limit(&times.total), limit(&times.per_try));
    let (connect, idle) = (&times.connect, &times.idle);
    line(
        f,
        "timeouts",
        &format!("total {total}, per try {per_try}, connect {connect}, idle {idle}"),
    )?;
    retry(f, method, &route.retry)?;
    let policy = |key: &str| route.policies.get(key).map(flat).filter(|text| !text.is_empty());
    line(f, "breaker", &or_else(policy("circuit_breaker").unwrap_or_default(), "none"))?;
    line(f, "priority", &route.priority)?;
    if let Some(learned) = &route.learned_rate {
        line(f, "learned", &in_words(learned))?;
    }
    if let Some(keys) = route.policies.get("idempotency") {
        line(f, "idempotency", &keyed(keys, method))?;
    }
    for (key, shown) in [
        ("rate_limit", "rate limit"),
        ("bulkhead", "bulkhead"),
        ("hedge", "hedge"),
        ("mirror", "mirror"),
        ("rewrite", "rewrite"),
        ("headers", "headers"),
        ("cache", "cache"),
    ] {
        if let Some(text) = policy(key) {
            line(f, shown, &text)?;
        }
    }
    for (at, link) in route.fallback.iter().enumerate() {
        let key = if at == 0 { "fallback" } else { "" };
        line(f, key, &format!("{}. {}: {}", at + 1, link.link, link.when))?;
    }
    Ok(())
}

/// What is done with the request's key: the few settings that decide it.
fn keyed(keys: &Value, method: &str) -> String {
    let text = |key: &str| keys.get(key).map(flat).unwrap_or_default();
    let covered = |methods: &Value| {
        methods.as_array().is_some_and(|all| all.iter().any(|one| one.as_str() == Some(method)))
    };
    if !keys.get("methods").is_some_and(covered) {
        return format!("{method} is not covered, {} is", text("methods"));
    }
    if text("role") == "originate" {
        return "gets a key if it has none, the same for all attempts".to_owned();
    }
    let without = if text("required") == "true" { "refused" } else { "sent unprotected" };
    format!(
        "executed once for each key of {}, in store {}; {without} without one",
        text("scope"),
        text("store")
    )
}

fn upstream(f: &mut fmt::Formatter<'_>, to: &Destination, several: bool) -> fmt::Result {
    let share =
        if several { format!(" {:.1}% of requests,", to.share * 100.0) } else { String::new() };
    let state = to.breaker.map(|state| format!(", breaker {state}")).unwrap_or_default();
    let text =
        format!("{},{share} {}, {}{state}", to.name, word(to.protocol), word(to.load_balancing));
    line(f, "upstream", &text)?;
    for endpoint in to.endpoints.iter().take(ENDPOINTS_SHOWN) {
        line(f, "", &format!("  {}", endpoint_text(endpoint)))?;
    }
    match to.endpoints.len() {
        0 => line(f, "", "  no endpoint is known; the answer is 503 no_endpoint")?,
        count if count > ENDPOINTS_SHOWN => {
            line(f, "", &format!("  and {} more", count - ENDPOINTS_SHOWN))?;
        }
        _ => {}
    }
    if let Some(limit) = &to.limit {
        let (taken, limit, waiting) = (limit.in_flight, limit.limit, limit.waiting);
        let text = format!("  limit: {taken} of {limit} in flight, {waiting} wait");
        line(f, "", &text)?;
    }
    let budget = &to.retry_budget;
    let now = budget.available.map(|now| format!(", {now:.1} now")).unwrap_or_default();
    let (ratio, floor) = (&budget.ratio, budget.min_per_second);
    line(f, "", &format!("  retries: {ratio} of requests and {floor} a second{now}"))
}

fn endpoint_text(endpoint: &Place) -> String {
    let weight = Some(endpoint.weight).filter(|weight| *weight != 1);
    let parts = [
        weight.map(|weight| format!("weight {weight}")),
        endpoint.zone.as_ref().map(|zone| format!("zone {zone}")),
        endpoint.state.map(str::to_owned),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("{} {}", endpoint.address, parts.join(", ")).trim_end().to_owned()
}

fn retry(f: &mut fmt::Formatter<'_>, method: &str, retry: &Retry) -> fmt::Result {
    let because = retry.because.replace("the method", method);
    let verdict = match retry.this_request {
        Again::Yes => format!("yes, up to {} attempts: {because}", retry.max_attempts),
        Again::OnlyUnsent => format!("only if the upstream executed nothing of it: {because}"),
        Again::No => return line(f, "retry", &format!("no: {because}")),
    };
    line(f, "retry", &verdict)?;
    line(f, "", &format!("on {}", retry.on.join(", ")))
}

/// The spelling of a setting in the file.
fn word(setting: impl serde::Serialize) -> String {
    serde_json::to_value(setting).map(|value| flat(&value)).unwrap_or_default()
}

/// The settings of a mapping in one line, without those that are null.
fn flat(value: &Value) -> String {
    match value {
        Value::Object(entries) => {
            let shown = entries.iter().filter(|(_, value)| !value.is_null());
            let shown = shown.map(|(key, value)| (key, value, flat(value)));
            let shown = shown.filter(|(_, _, text)| !text.is_empty());
            let one = |(key, value, text): (&String, &Value, String)| match value {
                Value::Object(_) => format!("{key} {{{text}}}"),
                _ => format!("{key} {text}"),
            };
            shown.map(one).collect::<Vec<_>>().join(", ")
        }
        Value::Array(items) => items.iter().map(flat).collect::<Vec<_>>().join(" "),
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn or_else(text: String, empty: &str) -> String {
    if text.is_empty() { empty.to_owned() } else { text }
}
