//! What each principal holds, so that one of them cannot fill the server: nobody gets more than a
//! tenth of its memory, where it has a bound.
//!
//! The counts are advisory. They are added up on the server once a second, by the time at which the
//! bytes go, so that what expires leaves the sum without anybody telling; a principal can exceed
//! its share by what it claims in that second, and what is lost in a crash is not counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connect;
use super::link::Link;
use super::ops::{gone_after, kept_for};
use super::script::{QUOTA, to_hex};
use super::shared::Shared;
use super::slots::slot;
use crate::clock;
use crate::policy::idempotency::record::{Principal, Retention};

/// The share of one principal: one part in so many.
const SHARE: u64 = 10;
/// What a record takes without its answer, in bytes: measured with MEMORY USAGE, key included.
const RECORD: i64 = 560;
/// How exactly the time is known at which bytes go.
const SPAN: Duration = Duration::from_secs(3_600);
/// What goes later than this, or never, is counted for this long: the longest retention of answers.
const FAR: u64 = 31 * 24 * 3_600_000;
/// How many principals are counted at a time; who is not counted is not refused.
const PRINCIPALS_MAX: usize = 4_096;
/// How long one is remembered that claims nothing.
const IDLE: Duration = Duration::from_secs(60);
/// How often the counts go to the server.
pub(super) const FLUSH: Duration = Duration::from_secs(1);

/// Bytes by the milliseconds after which they go.
type Pending = HashMap<u64, i64>;

#[derive(Debug)]
struct Account {
    pending: Pending,
    held: u64,
    /// When the server was asked last.
    asked: Option<Instant>,
    used: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    accounts: Mutex<HashMap<Principal, Account>>,
    /// The most that one may hold, in bytes; nothing while the server has no bound.
    bound: Mutex<Option<u64>>,
}

impl Quotas {
    /// Whether one holds its whole share.
    pub(super) fn is_over(&self, principal: &Principal, now: Instant) -> bool {
        let Some(bound) = self.bound().filter(|_| *principal != Principal::ALL) else {
            return false;
        };
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.get_mut(principal).is_some_and(|account| {
            account.used = now;
            account.held >= bound
        })
    }

    fn bound(&self) -> Option<u64> {
        *self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, principal: Principal, bytes: &[(u64, i64)], now: Instant) {
        if self.bound().is_none() {
            return;
        }
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.len() >= PRINCIPALS_MAX && !accounts.contains_key(&principal) {
            return;
        }
        let account = accounts.entry(principal).or_insert_with(|| Account {
            pending: Pending::new(),
            held: 0,
            asked: None,
            used: now,
        });
        account.used = now;
        let span = u64::try_from(SPAN.as_millis()).unwrap_or(u64::MAX);
        for (after, bytes) in bytes {
            // In steps of a span, so that a busy second is a few numbers and not thousands.
            let after = (*after).min(FAR) / span * span;
            *account.pending.entry(after).or_default() += bytes;
        }
    }

    pub(super) fn claimed(&self, whose: Principal, lease: u64, unknown: u64, now: Instant) {
        self.add(whose, &[(gone_after(lease, unknown), RECORD)], now);
    }

    pub(super) fn completed(
        &self,
        whose: Principal,
        answer: usize,
        retention: &Retention,
        now: Instant,
    ) {
        let answer = i64::try_from(answer).unwrap_or(i64::MAX);
        let moved = [
            (gone_after(0, retention.unknown), -RECORD),
            (kept_for(retention), RECORD),
            (retention.body, answer),
        ];
        self.add(whose, &moved, now);
    }

    pub(super) fn released(&self, whose: Principal, now: Instant) {
        self.add(whose, &[(FAR, -RECORD)], now);
    }

    /// Whose counts have to go to the server: those with news, and those who are refused.
    fn due(&self, now: Instant) -> Vec<(Principal, Pending)> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|_, account| {
            !account.pending.is_empty() || now.saturating_duration_since(account.used) < IDLE
        });
        let due = |account: &Account| {
            !account.pending.is_empty()
                || account.asked.is_none_or(|at| now.saturating_duration_since(at) >= 5 * FLUSH)
        };
        accounts
            .iter_mut()
            .filter(|(_, account)| due(account))
            .map(|(principal, account)| {
                account.asked = Some(now);
                (*principal, std::mem::take(&mut account.pending))
            })
            .collect()
    }

    fn told(&self, principal: &Principal, held: u64) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get_mut(principal) {
            account.held = held;
        }
    }
}

impl Shared {
    /// Learns how much the servers take: all of them together, when each has a bound.
    pub(super) fn bound_quotas(&self) {
        let mut room = 0;
        for link in self.links() {
            // What is known of a server that is away for a moment stays as it is.
            let Ok(open) = link.open() else { return };
            if open.facts.max_memory == 0 {
                room = 0;
                break;
            }
            room += open.facts.max_memory;
        }
        let bound = (room > 0).then_some(room / SHARE);
        *self.quotas.bound.lock().unwrap_or_else(PoisonError::into_inner) = bound;
    }

    /// Sends the counts to the servers, and learns the sums.
    pub(super) async fn flush_quotas(self: &Arc<Self>) {
        if self.quotas.bound().is_none() {
            return;
        }
        for (principal, pending) in self.quotas.due(clock::now()) {
            let key = format!("{}q:{}", self.prefix, to_hex(&principal.0)).into_bytes();
            let Some(link) = self.link_of(slot(&key)) else { continue };
            // What does not arrive is not counted: the counts are advisory.
            if let Some(held) = flush(&link, &key, &pending).await {
                self.quotas.told(&principal, held);
            }
        }
    }
}

async fn flush(link: &Link, key: &[u8], pending: &Pending) -> Option<u64> {
    let mut open = link.open().ok()?;
    let mut args = vec![SPAN.as_millis().to_string().into_bytes()];
    for (after, bytes) in pending {
        args.push(after.to_string().into_bytes());
        args.push(bytes.to_string().into_bytes());
    }
    let command = QUOTA.command(false, key, &args);
    match connect::ask(&mut open.connection, &command).await.ok()? {
        redis::Value::BulkString(sum) => std::str::from_utf8(&sum).ok()?.parse().ok(),
        _ => None,
    }
}
