//! Asks the upstream what became of operations whose outcome is unknown.
//!
//! Only a request that is there has its key: records hold none. So a probe begins when an outcome
//! becomes unknown here, or when a client asks again for one that is. It runs on the control
//! runtime, one question after the other at a bounded rate, and says of a record what an operator
//! could: that it was executed, at once; that it was not, only when the upstream has had its time
//! to execute late what it has read.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::asked::Asked;
use crate::clock;
use crate::policy::health_check::{Settings as Check, StatusRange};
use crate::policy::idempotency::machine::{Resolution, Settled};
use crate::policy::idempotency::record::{Entry, Rid, State};
use crate::policy::idempotency::settings::Probe;
use crate::proxy::Proxy;
use crate::records::operator::{self, Named, Word};
use crate::shared::Shared;
use crate::snapshot::keys::Keys;
use crate::snapshot::route::Route;
use crate::upstream::Upstream;
use crate::upstream::health::{self, Speak};

/// The most records that are being asked about; each holds its key.
const PENDING_MAX: usize = 256;
/// The pause between two questions, of all records together: probes come in crowds, after an
/// upstream has failed, and must not be what keeps it down.
const PACE: Duration = Duration::from_millis(50);
/// How often a question without a usable answer is asked again, and after how long at first.
const TRIES: u32 = 5;
const AGAIN: Duration = Duration::from_secs(1);
/// How long the store may take.
const STORE_TIME: Duration = Duration::from_secs(5);
/// What an operation is said to have been answered with of which no status was seen.
const OK: u16 = 200;

/// What is to be found out.
struct Question {
    asked: Asked,
    keys: Arc<Keys>,
    /// All that the route leads to: which of them has read the request is not known any more.
    upstreams: Vec<Arc<Upstream>>,
}

/// The records that are being asked about.
pub struct Probes {
    pending: Shared<HashSet<Rid>>,
    questions: mpsc::Sender<Question>,
    asked: Shared<Option<mpsc::Receiver<Question>>>,
}

impl Default for Probes {
    fn default() -> Self {
        let (questions, asked) = mpsc::channel(PENDING_MAX);
        Self { pending: Shared::default(), questions, asked: Shared::new(Some(asked)) }
    }
}

impl Probes {
    /// Finds out what became of an operation, if its route says how and there is room. When its
    /// client may look again, if so.
    pub fn begin(&self, route: &Route, keys: &Arc<Keys>, asked: &Asked) -> Option<Duration> {
        let probe = keys.settings.probe.as_ref()?;
        let wait = Some(probe.timeout.get().max(AGAIN));
        keys.ledger.as_ref()?;
        {
            let mut pending = self.pending.lock();
            if pending.contains(&asked.rid) {
                return wait;
            }
            if pending.len() >= PENDING_MAX {
                return None;
            }
            pending.insert(asked.rid);
        }
        let (asked, keys) = (asked.clone(), Arc::clone(keys));
        let rid = asked.rid;
        let upstreams = route.targets.iter().map(|target| Arc::clone(&target.upstream)).collect();
        let question = Question { asked, keys, upstreams };
        if self.questions.try_send(question).is_err() {
            self.pending.lock().remove(&rid);
            return None;
        }
        wait
    }
}

/// Asks until it is dropped. One at a time; a second call ends at once.
pub async fn run(proxy: Arc<Proxy>) {
    let Some(mut asked) = proxy.probes.asked.lock().take() else { return };
    let mut running = JoinSet::new();
    let pace = Arc::new(Pace::default());
    while let Some(question) = asked.recv().await {
        while running.try_join_next().is_some() {}
        let (proxy, pace) = (Arc::clone(&proxy), Arc::clone(&pace));
        running.spawn(async move {
            let rid = question.asked.rid;
            find_out(&question, &pace).await;
            proxy.probes.pending.lock().remove(&rid);
        });
    }
}

/// Lets one question go at a time.
#[derive(Default)]
struct Pace(tokio::sync::Mutex<()>);

impl Pace {
    async fn turn(&self) {
        let _turn = self.0.lock().await;
        clock::sleep(PACE).await;
    }
}

/// What the upstream says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Executed,
    NotExecuted,
    Nothing,
}

async fn find_out(question: &Question, pace: &Pace) {
    let Some(probe) = &question.keys.settings.probe else { return };
    let mut tries = 0;
    let mut pause = AGAIN;
    while tries < TRIES {
        let Some(record) = unknown(question).await else { return };
        // Looked at before the question is asked: a negative answer counts from then on.
        let early = operator::settles_in(&record.seen, probe.settle_delay.get());
        let how = match (ask(question, probe, pace).await, early) {
            (Said::Executed, _) => Resolution::Executed { status: observed(&record) },
            (Said::NotExecuted, None) => Resolution::NotExecuted,
            (Said::NotExecuted, Some(left)) => {
                clock::sleep(left).await;
                continue;
            }
            (Said::Nothing, _) => {
                tries += 1;
                clock::sleep(pause).await;
                pause *= 2;
                continue;
            }
        };
        return settle(question, &record, how).await;
    }
}

/// The record, if its outcome is still unknown.
async fn unknown(question: &Question) -> Option<Named> {
    let ledger = question.keys.ledger.as_ref()?;
    let (rid, by) = (question.asked.rid, clock::now() + STORE_TIME);
    let seen = ledger.read(rid, by).await.ok()?;
    let Entry::Record(record) = &seen.entry else { return None };
    let same = record.claimant.fingerprint == question.asked.fingerprint;
    if seen.state != Some(State::Unknown) || !same {
        return None;
    }
    let reference = ledger.reference(&rid, by).await.ok()?;
    Some(Named { rid, reference, seen })
}

/// The status that was seen of it, if one was that an answer can have.
fn observed(record: &Named) -> u16 {
    let Entry::Record(record) = &record.seen.entry else { return OK };
    record.observed_status.filter(|status| (200..400).contains(status)).unwrap_or(OK)
}

/// It was executed when one of the upstreams says so, and was not when all of them do.
async fn ask(question: &Question, probe: &Probe, pace: &Pace) -> Said {
    let path = probe.path.replace("{key}", &encoded(question.asked.key.as_bytes()));
    for upstream in &question.upstreams {
        pace.turn().await;
        if answers(upstream, probe, &path, probe.executed).await {
            return Said::Executed;
        }
    }
    for upstream in &question.upstreams {
        pace.turn().await;
        if !answers(upstream, probe, &path, probe.not_executed).await {
            return Said::Nothing;
        }
    }
    if question.upstreams.is_empty() { Said::Nothing } else { Said::NotExecuted }
}

/// Whether the upstream answers so now.
async fn answers(upstream: &Upstream, probe: &Probe, path: &str, expect: StatusRange) -> bool {
    let Some(endpoint) = upstream.choose(&[], None, clock::now()) else { return false };
    let check = Check { path: path.to_owned(), timeout: probe.timeout, expect, ..Check::default() };
    let speak = Speak::to(upstream, &endpoint);
    match health::check(&endpoint.address, &check, &endpoint.name, speak).await {
        Ok(()) => true,
        Err(why) => {
            // What failed may name the path, and with it the key.
            tracing::debug!(endpoint = %endpoint.name, bytes = why.len(), "a probe says nothing");
            false
        }
    }
}

async fn settle(question: &Question, record: &Named, how: Resolution) {
    let Some(ledger) = &question.keys.ledger else { return };
    let retention = question.keys.settings.retention();
    let by = clock::now() + STORE_TIME;
    let settled = operator::settle(ledger, record, Word::Resolved(how), retention, by).await;
    let (action, after) = match how {
        Resolution::Executed { .. } => ("resolve_executed", State::Completed.name()),
        Resolution::NotExecuted => ("resolve_not_executed", "absent"),
    };
    let outcome = match settled {
        Ok(Settled::Done | Settled::Reasserted) => "done",
        Ok(Settled::Already) => "already",
        Ok(Settled::Fenced { .. }) => "refused",
        Err(_) => "not_known",
    };
    tracing::info!(
        target: "audit",
        client = "probe",
        action,
        store = &*ledger.name,
        record = record.reference,
        before = State::Unknown.name(),
        after,
        outcome,
        "operator's change of a record"
    );
}

/// A key as a part of a path: everything but letters, digits and `-._~` as `%XX`.
fn encoded(key: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let of = |byte: &u8| {
        if plain(byte) { char::from(*byte).into() } else { format!("%{byte:02X}") }
    };
    key.iter().map(of).collect()
}

#[cfg(test)]
mod tests;
