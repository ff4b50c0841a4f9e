use super::*;
use crate::clock;
use crate::policy::idempotency::machine::Unknowns;
use crate::policy::idempotency::record::{Fingerprint, Nonce, Owner, Principal, Stored};

const RETENTION: Retention = Retention { body: 1_000, key: 3_000, unknown: 9_000 };
const RID: Rid = Rid([7; 32]);

fn claim(nonce: u8) -> Claim {
    Claim {
        fingerprint: Fingerprint { version: 1, digest: [1; 32] },
        owner: Owner { instance: [1; 16], epoch: 0 },
        nonce: Nonce([nonce; 16]),
        principal: Principal([0; 8]),
        lease: 1_000,
        retention: RETENTION,
        unknowns: Unknowns::Hold,
        too_old: false,
    }
}

fn by(nonce: u8) -> Claimant {
    let claim = claim(nonce);
    Claimant {
        fingerprint: claim.fingerprint,
        owner: claim.owner,
        nonce: claim.nonce,
        fence: Fence(5),
        principal: claim.principal,
    }
}

fn complete(body: usize) -> Settle {
    let answer = Stored { body: Some(vec![0; body].into()), ..Stored::bare(200) };
    Settle::Complete { by: by(1), answer, retention: RETENTION }
}

#[test]
fn a_claim_is_live_until_it_is_settled_or_its_lease_ends() {
    let (live, now) = (Live::default(), clock::now());
    live.claimed(RID, &claim(1), (Fence(5), 2, 77), now);
    let half = now + Duration::from_millis(400);
    assert_eq!(
        live.reassertion(&RID, half),
        Some(Settle::Reassert {
            by: by(1),
            lease: 600,
            first_seen: 77,
            attempts: 2,
            retention: RETENTION
        })
    );
    live.settling(&RID, &Settle::Renew { by: by(1), lease: 1_000 }, half);
    assert_eq!(live.claims(now + Duration::from_millis(1_399)), [RID]);
    // What another claimant does is not ours.
    live.settling(&RID, &Settle::Release { by: by(2) }, half);
    assert_eq!(live.claims(half), [RID]);
    live.settling(&RID, &Settle::Release { by: by(1) }, half);
    assert_eq!(live.reassertion(&RID, half), None);
    live.claimed(RID, &claim(1), (Fence(5), 2, 77), now);
    assert!(live.claims(now + Duration::from_secs(1)).is_empty());
}

#[test]
fn recent_results_are_bounded_by_age_number_and_size() {
    let (live, now) = (Live::default(), clock::now());
    live.settled(RID, complete(1), now);
    assert_eq!(live.recent(now + RECENT_AGE).len(), 1);
    assert!(live.recent(now + RECENT_AGE + Duration::from_millis(1)).is_empty());
    for _ in 0..RECENT_MAX + 5 {
        live.settled(RID, complete(1), now);
    }
    assert_eq!(live.recent(now).len(), RECENT_MAX);
    live.settled(RID, complete(RECENT_BYTES), now);
    assert_eq!(live.recent(now).len(), 1);
    live.settled(RID, complete(RECENT_BYTES + 1), now);
    assert!(live.recent(now).is_empty());
}
