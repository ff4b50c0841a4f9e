//! Records by name, for operators.
//!
//! The server has no order of keys, so each page looks at every key (`SCAN`, which blocks nobody
//! for long) and keeps the smallest names after the last page: the order is exact, the memory is
//! bounded, and the time of a page grows with the number of records.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use redis::{Value, cmd};

use super::connect;
use super::link::Link;
use super::script::rid_of;
use super::shared::Shared;
use crate::clock;
use crate::policy::idempotency::record::{Entry, Rid, State};
use crate::records::{Cause, Fault, Kind, PAGE_MAX, Page, Wanted};

/// How many keys the server looks at for each answer.
const STEP: u32 = 1_000;

fn late() -> Fault {
    let what = "not all records could be looked at in time; allow more";
    Fault::NotApplied(Cause::new(Kind::Timeout, what))
}

impl Shared {
    pub(super) async fn list(
        self: Arc<Self>,
        wanted: Wanted,
        deadline: Instant,
    ) -> Result<Page, Fault> {
        let limit = wanted.limit.clamp(1, PAGE_MAX);
        let mut page = Page::default();
        let mut after = wanted.after;
        let links = self.links();
        if links.is_empty() {
            let cause = self
                .target()
                .err()
                .unwrap_or_else(|| Cause::new(Kind::Unreachable, "no server is known"));
            return Err(Fault::NotApplied(cause));
        }
        loop {
            let mut names = BTreeSet::new();
            for link in &links {
                self.smallest(link, after, limit, &mut names, deadline).await?;
            }
            let is_last = names.len() < limit;
            for rid in names {
                after = Some(rid);
                let (seen, _) = self.read(rid, clock::now() + self.op_timeout).await?;
                let state = match &seen.entry {
                    Entry::Unreadable => Some(State::Unknown),
                    _ => seen.state,
                };
                if state.is_some_and(|state| wanted.states.contains(&state)) {
                    page.records.push((rid, seen));
                }
                if page.records.len() >= limit {
                    page.next = after;
                    return Ok(page);
                }
            }
            if is_last {
                return Ok(page);
            }
            if clock::now() >= deadline {
                // What was found is given, and where to go on.
                page.next = after;
                return Ok(page);
            }
        }
    }

    /// The smallest names of one server after another, at most so many together with those that are
    /// there.
    async fn smallest(
        &self,
        link: &Link,
        after: Option<Rid>,
        limit: usize,
        names: &mut BTreeSet<Rid>,
        deadline: Instant,
    ) -> Result<(), Fault> {
        let mut open = link.open().map_err(Fault::NotApplied)?;
        let pattern = format!("{}r:*", escaped(&self.prefix));
        let mut cursor = b"0".to_vec();
        loop {
            if clock::now() >= deadline {
                return Err(late());
            }
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(STEP);
            let value =
                connect::ask(&mut open.connection, &scan).await.map_err(Fault::NotApplied)?;
            let Some((next, keys)) = scanned(value) else {
                let what = "the answer to SCAN makes no sense";
                return Err(Fault::NotApplied(Cause::new(Kind::Protocol, what)));
            };
            for rid in keys.iter().filter_map(|key| rid_of(&self.prefix, key)) {
                if after.is_none_or(|after| rid > after) {
                    names.insert(rid);
                    if names.len() > limit {
                        names.pop_last();
                    }
                }
            }
            if next == b"0" {
                return Ok(());
            }
            cursor = next;
        }
    }
}

/// The prefix as a pattern that means itself.
fn escaped(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len());
    for letter in prefix.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}

/// Where to go on, and the keys.
type Scanned = (Vec<u8>, Vec<Vec<u8>>);

fn scanned(value: Value) -> Option<Scanned> {
    let Value::Array(parts) = value else { return None };
    let [Value::BulkString(cursor), Value::Array(keys)] = <[Value; 2]>::try_from(parts).ok()?
    else {
        return None;
    };
    let keys = keys.into_iter().map(|key| match key {
        Value::BulkString(key) => Some(key),
        _ => None,
    });
    Some((cursor, keys.collect::<Option<_>>()?))
}
