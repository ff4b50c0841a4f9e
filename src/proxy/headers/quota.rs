//! What an upstream advertises of its rate limit: `RateLimit` and `RateLimit-Policy` of IETF draft
//! `ratelimit-headers`, revision 8 and later (structured fields: `"name";q=100;w=60`).
//!
//! The `X-RateLimit-*` fields that came before are not read. No document defines them: the same
//! `-Reset` is seconds from now with some, a time of day with others, and milliseconds with a few,
//! and a wrong guess stops all traffic. Their senders say 429 all the same.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::names::{RATE_LIMIT, RATE_LIMIT_POLICY};
use crate::policy::learned_rate::Advice;

/// How many limits of one answer are read: third parties have two or three.
const LIMITS_MAX: usize = 8;

/// The longest time that is taken as said: the longest quotas are by the month.
const TIME_MAX: u64 = 366 * 24 * 3600;

/// What an answer's head advertises, of the limit that allows least. What cannot be read says
/// nothing.
#[must_use]
pub fn advice(headers: &HeaderMap) -> Option<Advice> {
    let mut limits: Vec<(String, Advice)> = Vec::new();
    for (field, amount, time) in [(&RATE_LIMIT_POLICY, "q", "w"), (&RATE_LIMIT, "r", "t")] {
        for item in items(headers, field) {
            let Some(member) = Member::read(&item) else { continue };
            let name = member.name;
            let seconds = member.number(time).map(|time| Duration::from_secs(time.min(TIME_MAX)));
            let Some(pair) = member.number(amount).zip(seconds) else { continue };
            let known = limits.iter().position(|(known, _)| known == name);
            if known.is_none() && limits.len() < LIMITS_MAX {
                limits.push((name.to_owned(), Advice::default()));
            }
            let place = known.unwrap_or(limits.len().saturating_sub(1));
            let Some((_, advice)) = limits.get_mut(place).filter(|(known, _)| known == name) else {
                continue;
            };
            if *field == RATE_LIMIT { advice.left = Some(pair) } else { advice.quota = Some(pair) }
        }
    }
    let all = limits.into_iter().map(|(_, advice)| advice);
    let pace = |advice: &Advice| advice.pace().unwrap_or(f64::INFINITY);
    all.min_by(|a, b| pace(a).total_cmp(&pace(b)))
}

/// The members of a list field, over all of its lines; a comma within quotes ends none.
fn items(headers: &HeaderMap, field: &HeaderName) -> Vec<String> {
    let mut items = Vec::new();
    for value in headers.get_all(field) {
        let Ok(text) = value.to_str() else { continue };
        let mut quoted = false;
        let ends = |c: char| {
            quoted ^= c == '"';
            c == ',' && !quoted
        };
        items.extend(text.split(ends).take(LIMITS_MAX).map(str::to_owned));
    }
    items
}

/// A member of a list: a name and its parameters.
struct Member<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Member<'a> {
    /// A quoted name may not hold a semicolon here: none does.
    fn read(item: &'a str) -> Option<Self> {
        let mut parts = item.split(';');
        let name = parts.next()?.trim();
        let parameters = parts.filter_map(|part| {
            let (key, value) = part.split_once('=')?;
            Some((key.trim(), value.trim()))
        });
        (!name.is_empty() && !name.contains('='))
            .then(|| Self { name, parameters: parameters.collect() })
    }

    fn number(&self, key: &str) -> Option<u64> {
        let (_, value) = self.parameters.iter().find(|(known, _)| *known == key)?;
        value.parse().ok()
    }
}

#[cfg(test)]
mod tests;
