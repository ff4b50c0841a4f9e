//! Records by name, for operators.

use std::collections::HashSet;
use std::time::Instant;

use super::layout::{There, listed};
use super::wire::{RANGE, RangeRequest, RangeResponse};
use super::{Inner, PAGE_MAX, seen, wall};
use crate::policy::idempotency::record::Rid;
use crate::records::{Fault, Page, Wanted};

/// How many records are read at once.
const BATCH: usize = 250;
/// How many are looked at for one page: a page that is not full says where to go on.
const LOOKED_AT_MAX: usize = 5_000;

/// One page.
pub(crate) async fn page(inner: &Inner, wanted: &Wanted, deadline: Instant) -> Result<Page, Fault> {
    inner.identity()?;
    let limit = wanted.limit.min(PAGE_MAX);
    let mut page = Page::default();
    let (mut after, mut looked_at) = (wanted.after, 0);
    loop {
        let batch = batch(inner, after, deadline).await?;
        let more = batch.more;
        let last = batch.records.last().map(|(rid, _)| *rid);
        looked_at += batch.records.len();
        for (rid, found) in batch.records {
            if !found.state.is_some_and(|state| wanted.states.contains(&state)) {
                continue;
            }
            if page.records.len() >= limit {
                // There is at least this one.
                page.next = page.records.last().map_or(wanted.after, |(rid, _)| Some(*rid));
                return Ok(page);
            }
            page.records.push((rid, found));
        }
        after = last.or(after);
        if !more {
            return Ok(page);
        }
        if looked_at >= LOOKED_AT_MAX {
            page.next = after;
            return Ok(page);
        }
    }
}

struct Batch {
    records: Vec<(Rid, crate::records::Seen)>,
    more: bool,
}

async fn batch(inner: &Inner, after: Option<Rid>, deadline: Instant) -> Result<Batch, Fault> {
    let records = range(inner, "r", after, None, deadline).await?;
    let names: Vec<_> = records.kvs.iter().map(|key| name_of(&key.key)).collect();
    let Some(last) = names.iter().rev().flatten().next() else {
        return Ok(Batch { records: Vec::new(), more: false });
    };
    // What hangs on the records of this stretch. A moment later, which is fine for people.
    let (leases, bodies) = tokio::try_join!(
        range(inner, "l", after, Some(*last), deadline),
        range(inner, "b", after, Some(*last), deadline)
    )?;
    let there = |found: RangeResponse| -> HashSet<Rid> {
        found.kvs.iter().filter_map(|key| name_of(&key.key)).collect()
    };
    let (leases, bodies) = (there(leases), there(bodies));
    let now = wall();
    let found = records.kvs.iter().zip(names).filter_map(|(key, rid)| {
        let rid = rid?;
        let there = There { lease: leases.contains(&rid), body: bodies.contains(&rid) };
        let with = (&rid, &inner.common.seal, now);
        Some((rid, seen(listed(&key.value, key.mod_revision, there, with), now)))
    });
    Ok(Batch { records: found.collect(), more: records.more })
}

/// Keys of one kind after a name: a batch with what they hold, or all of them up to another name
/// without.
async fn range(
    inner: &Inner,
    part: &str,
    after: Option<Rid>,
    last: Option<Rid>,
    deadline: Instant,
) -> Result<RangeResponse, Fault> {
    let start = format!("{}{part}/", inner.prefix);
    // The next key after one is that with a zero byte more; after all comes "0", as it follows "/".
    let past = |rid: Rid| [start.as_bytes(), format!("{rid}").as_bytes(), &[0]].concat();
    let end = format!("{}{part}0", inner.prefix).into_bytes();
    let question = RangeRequest {
        key: after.map_or_else(|| start.clone().into_bytes(), past),
        range_end: last.map_or(end, past),
        limit: if last.is_some() { 0 } else { i64::try_from(BATCH).unwrap_or(1) },
        keys_only: last.is_some(),
        count_only: false,
    };
    let answer = inner.cluster.ask(RANGE, &question, deadline).await;
    answer.map_err(|trouble| Fault::NotApplied(trouble.cause))
}

/// The name at the end of a key.
fn name_of(key: &[u8]) -> Option<Rid> {
    let digits = std::str::from_utf8(key.get(key.len().checked_sub(64)?..)?).ok()?;
    let mut name = [0; 32];
    for (at, byte) in name.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(Rid(name))
}
