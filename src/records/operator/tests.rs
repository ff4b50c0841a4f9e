use std::sync::Arc;

use super::*;
use crate::config::store::Memory as MemorySettings;
use crate::policy::idempotency::machine::{Claim, Claimed, Unknowns};
use crate::policy::idempotency::record::{Fingerprint, Nonce, Principal};
use crate::policy::retry::Suppressed;
use crate::records::memory::Memory;
use crate::records::{Kind, Store};
use crate::telemetry::metrics::Metrics;

const RETENTION: Retention = Retention { body: 1_000_000, key: 1_000_000, unknown: 1_000_000 };
const SECRET: [u8; 32] = [3; 32];

fn soon() -> Instant {
    clock::now() + Duration::from_secs(30)
}

/// A ledger over a store in memory with records of these names, in flight.
async fn ledger(names: impl IntoIterator<Item = u16>) -> Arc<Ledger> {
    let store = Arc::new(Memory::open(&MemorySettings::default(), [0; 32]).unwrap());
    let metrics = Metrics::new(Suppressed::NAMES).store("s", &Kind::NAMES);
    let runtime = tokio::runtime::Handle::current();
    let ledger =
        Ledger::new("s", (Arc::clone(&store) as Arc<dyn Store>, None), runtime, [1; 16], metrics);
    for name in names {
        let claim = Claim {
            fingerprint: Fingerprint { version: 1, digest: [1; 32] },
            owner: ledger.owner(),
            nonce: Nonce([1; 16]),
            // Each its own, as none may have more than a share of the store.
            principal: Principal(u64::from(name).to_be_bytes()),
            lease: 60_000,
            retention: RETENTION,
            unknowns: Unknowns::Hold,
            too_old: false,
        };
        let claimed = store.claim(rid(name), claim, soon()).await.unwrap();
        assert!(matches!(claimed, Claimed::Acquired { .. }), "{claimed:?}");
    }
    ledger
}

fn rid(name: u16) -> Rid {
    let mut rid = [0; 32];
    let [high, low] = name.to_be_bytes();
    (rid[0], rid[1]) = (high, low);
    Rid(rid)
}

#[test]
fn a_cursor_leads_back_to_its_name_and_shows_nothing_of_it() {
    let name = Rid([0xab; 32]);
    let (one, two) = (sealed(&SECRET, &name).unwrap(), sealed(&SECRET, &name).unwrap());
    assert_ne!(one, two, "nobody can tell that they are of the same name");
    for cursor in [one, two] {
        assert_eq!(opened(&SECRET, &cursor), Some(name));
        assert_eq!(opened(&[4; 32], &cursor), None, "of another store");
        let mut spoiled = cursor.clone().into_bytes();
        spoiled[20] = if spoiled[20] == b'A' { b'B' } else { b'A' };
        assert_eq!(opened(&SECRET, std::str::from_utf8(&spoiled).unwrap()), None);
        assert_eq!(opened(&SECRET, &cursor[..10]), None);
    }
    assert_eq!(opened(&SECRET, ""), None);
    assert_eq!(opened(&SECRET, "no cursor"), None);
}

#[tokio::test]
async fn a_list_goes_on_where_it_ended() {
    let ledger = ledger(0..25).await;
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let states = vec![State::InFlight];
        let page = list(&ledger, states, after.as_deref(), 10, soon()).await.unwrap().unwrap();
        assert!(page.records.len() <= 10);
        seen.extend(page.records.iter().map(|record| record.rid));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..25).map(rid).collect::<Vec<_>>());
    let none = list(&ledger, vec![State::Unknown], None, 10, soon()).await.unwrap().unwrap();
    assert!(none.records.is_empty() && none.next.is_none());
    let wrong = list(&ledger, vec![State::Unknown], Some("op_x"), 10, soon()).await.unwrap();
    assert!(wrong.is_none());
}

#[tokio::test]
async fn a_record_is_found_by_its_reference_on_whatever_page() {
    let many = u16::try_from(PAGE_MAX).unwrap() * 2 + 10;
    let ledger = ledger(0..many).await;
    for name in [0, 999, 1_000, many - 1] {
        let called = ledger.reference(&rid(name), soon()).await.unwrap();
        let found = find(&ledger, &called, soon()).await.unwrap().unwrap();
        assert_eq!((found.rid, found.reference), (rid(name), called));
    }
    let other = ledger.reference(&rid(many), soon()).await.unwrap();
    assert!(find(&ledger, &other, soon()).await.unwrap().is_none());
    assert!(find(&ledger, "", soon()).await.unwrap().is_none());
}

#[tokio::test]
async fn what_has_changed_since_it_was_looked_at_stays() {
    let ledger = ledger([1]).await;
    let called = ledger.reference(&rid(1), soon()).await.unwrap();
    let mut looked = find(&ledger, &called, soon()).await.unwrap().unwrap();
    // Its owner is at work on it.
    for word in [Word::Purge, Word::Resolved(Resolution::NotExecuted)] {
        let answer = settle(&ledger, &looked, word, RETENTION, soon()).await.unwrap();
        assert!(matches!(answer, Settled::Fenced { current: Some(_) }), "{word:?}");
    }
    let Entry::Record(record) = &mut looked.seen.entry else { panic!("a record") };
    record.claimant.fence.0 -= 1;
    let answer = settle(&ledger, &looked, Word::Purge, RETENTION, soon()).await.unwrap();
    assert!(matches!(answer, Settled::Fenced { .. }));
    looked.seen.entry = Entry::Unreadable;
    let word = Word::Resolved(Resolution::NotExecuted);
    let answer = settle(&ledger, &looked, word, RETENTION, soon()).await.unwrap();
    assert_eq!(answer, Settled::Fenced { current: None });
    assert!(find(&ledger, &called, soon()).await.unwrap().is_some());
}

#[tokio::test]
async fn nothing_is_settled_before_its_delay_is_over() {
    let ledger = ledger([1]).await;
    let called = ledger.reference(&rid(1), soon()).await.unwrap();
    let mut seen = find(&ledger, &called, soon()).await.unwrap().unwrap().seen;
    let delay = Duration::from_secs(60);
    assert_eq!(settles_in(&seen, delay), None, "in flight: the store refuses that itself");
    seen.state = Some(State::Unknown);
    let Entry::Record(record) = &seen.entry else { panic!("a record") };
    let lease_until = record.lease_until;
    for (now, left) in [(0, Some(60_000)), (59_999, Some(1)), (60_000, None), (90_000, None)] {
        seen.now = lease_until + now;
        assert_eq!(settles_in(&seen, delay), left.map(Duration::from_millis), "after {now} ms");
    }
    seen.entry = Entry::Unreadable;
    assert_eq!(settles_in(&seen, delay), None);
}
