use super::*;
use crate::policy::idempotency::record::{Claimant, Fingerprint, Nonce, Owner, Principal};
use crate::records::etcd::wire::KeyValue;

const RID: Rid = Rid([7; 32]);
const NOW: Millis = 1_000_000;

fn record(state: State) -> Record {
    Record {
        state,
        claimant: Claimant {
            fingerprint: Fingerprint { version: 1, digest: [1; 32] },
            owner: Owner { instance: [2; 16], epoch: 0 },
            nonce: Nonce([3; 16]),
            fence: Fence(40),
            principal: Principal([4; 8]),
        },
        lease_until: NOW + 5_000,
        first_seen: NOW,
        completed: 0,
        attempts: 1,
        observed_status: None,
        doubt: None,
        body_until: NEVER,
        keep_until: NOW + 65_000,
        contested: false,
        answer: None,
    }
}

const HEAD: Head = Head { fresh: false, fence: Fence(40), lease: 5_000, grace: 2_000 };

fn found(value: Option<Vec<u8>>, at: i64) -> ResponseOp {
    let key = value.map(|value| KeyValue { key: Vec::new(), mod_revision: at, value });
    ResponseOp {
        range: Some(RangeResponse { kvs: key.into_iter().collect(), ..Default::default() }),
    }
}

/// What is read when the record, and these of its keys, are there.
fn view(record: &Record, head: Head, there: [bool; 3], now: Millis) -> View {
    let seal = Seal::default();
    let [lease, grace, body] = there;
    let body = body.then(|| codec::encode(record, &RID, &seal).unwrap());
    let answers = [
        found(Some(encode(record, head, &RID, &seal).unwrap()), 50),
        found(lease.then(Vec::new), 50),
        found(grace.then(Vec::new), 50),
        found(body, 50),
    ];
    View::read(&answers, &RID, &seal, now)
}

fn of(view: &View) -> &Record {
    let Entry::Record(record) = &view.entry else { panic!("{view:?}") };
    record
}

#[test]
fn a_lease_lasts_as_long_as_its_key_whatever_the_clocks_say() {
    let written = record(State::InFlight);
    for now in [0, NOW, NOW + 4_999, NOW + 5_000, NOW + 1_000_000_000] {
        let there = of(&view(&written, HEAD, [true, true, false], now)).clone();
        assert!(there.lease_until > now && there.lease_until <= now + 5_001, "{now}");
        assert_eq!(there.keep_until - there.lease_until, 60_000);
        let gone = view(&written, HEAD, [false, true, false], now);
        assert!(of(&gone).lease_until <= now && of(&gone).keep_until > now, "{now}");
        let Entry::Record(takeover) = gone.for_takeover(now) else { panic!("a record") };
        assert_eq!(takeover.lease_until, now, "its grace runs");
        let gone = view(&written, HEAD, [false; 3], now);
        let Entry::Record(takeover) = gone.for_takeover(now) else { panic!("a record") };
        assert_eq!(takeover.lease_until, now.saturating_sub(2_000), "its grace is over");
    }
}

#[test]
fn an_answer_is_kept_as_long_as_its_key() {
    let mut written = record(State::Completed);
    let answer = Stored { body: Some((*b"whole").into()), ..Stored::bare(201) };
    written.answer = Some(answer.clone());
    written.body_until = NOW + 10;
    for now in [0, NOW, NOW + 100_000] {
        let there = view(&written, HEAD, [false, false, true], now);
        assert_eq!(of(&there).answer, Some(answer.clone()));
        assert!(of(&there).body_until > now && of(&there).keep_until > now);
        let gone = view(&written, HEAD, [false; 3], now);
        assert_eq!(of(&gone).answer, Some(Stored::bare(201)));
        assert!(of(&gone).body_until <= now && of(&gone).keep_until > now);
    }
    // An answer of another claim under the same name is damage.
    let seal = Seal::default();
    let mut other = written.clone();
    other.claimant.fence = Fence(41);
    let answers = [
        found(Some(encode(&written, HEAD, &RID, &seal).unwrap()), 50),
        found(None, 0),
        found(None, 0),
        found(Some(codec::encode(&other, &RID, &seal).unwrap()), 50),
    ];
    assert_eq!(View::read(&answers, &RID, &seal, NOW).entry, Entry::Unreadable);
}

#[test]
fn a_fresh_fence_is_the_revision_and_no_less_than_it_must_be() {
    let written = record(State::InFlight);
    for (fence, expected) in [(0, 50), (49, 50), (50, 50), (51, 51), (9_000, 9_000)] {
        let head = Head { fresh: true, fence: Fence(fence), ..HEAD };
        let found = view(&written, head, [true, true, false], NOW);
        assert_eq!(of(&found).claimant.fence, Fence(expected));
    }
    assert_eq!(of(&view(&written, HEAD, [true, true, false], NOW)).claimant.fence, Fence(40));
}

#[test]
fn every_damage_is_seen() {
    let seal = Seal::default();
    let whole = encode(&record(State::InFlight), HEAD, &RID, &seal).unwrap();
    let read = |bytes: Vec<u8>, rid: &Rid| {
        let answers = [found(Some(bytes), 50), found(None, 0), found(None, 0), found(None, 0)];
        View::read(&answers, rid, &seal, NOW).entry
    };
    assert!(matches!(read(whole.clone(), &RID), Entry::Record(_)));
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        assert_eq!(read(damaged, &RID), Entry::Unreadable, "byte {at}");
        assert_eq!(read(whole[..at].to_vec(), &RID), Entry::Unreadable, "{at} bytes");
    }
    assert_eq!(read(whole, &Rid([8; 32])), Entry::Unreadable);
}

#[test]
fn nothing_under_the_keys_is_absence() {
    let answers = [(); 4].map(|()| found(None, 0));
    let view = View::read(&answers, &RID, &Seal::default(), NOW);
    assert_eq!((view.entry, view.record_at, view.assumed), (Entry::Absent, 0, false));
}
