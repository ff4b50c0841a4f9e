//! The contract of stores: the laws of `outrigger::records` as tests that run against any kind.
//!
//! A kind implements [`Fixture`] and calls the macro `contract!`; nothing else is needed.
//! Time is the store's: what has to wait for a lease asks the store what time it is.

mod differential;
mod laws;
mod more_laws;

use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger::clock;
use outrigger::policy::idempotency::machine::{Claim, Claimed, Found, Settle, Settled, Unknowns};
use outrigger::policy::idempotency::record::{
    Claimant, Doubt, Fence, Fingerprint, Millis, Nonce, Owner, Principal, Retention, Rid, Stored,
};
use outrigger::records::{Seen, Store};

use crate::support::{PATIENCE, within};

pub(crate) use differential::agrees_with_the_machine;
pub(crate) use laws::{
    l1_holders_never_overlap, l1_one_of_many_claims_wins, l2_a_change_can_be_sent_again,
    l2_a_claim_can_be_sent_again, l3_a_wrong_claimant_changes_nothing, l4_fences_rise_for_ever,
};
pub(crate) use more_laws::{
    hints_come, l4_a_fence_that_was_put_back_is_not_given_again, l5_time_is_the_stores,
    l6_damage_is_never_absence, l7_done_is_durable, lists_in_pages, not_applied_is_true,
    what_is_over_is_absent,
};

/// One kind of store.
pub(crate) trait Fixture {
    /// What has to live as long as a store does: its folder, its server, its prefix.
    type Stage;

    /// A fresh, empty store that is ready.
    async fn scene(&self) -> Scene<Self::Stage>;

    /// The same store after its user has ended and come back; nothing when it remembers nothing.
    async fn reopened(&self, scene: Scene<Self::Stage>) -> Option<Scene<Self::Stage>>;

    /// The same store after bytes of this record have been changed behind its back; nothing when
    /// it holds no bytes.
    async fn damaged(&self, scene: Scene<Self::Stage>, rid: Rid) -> Option<Scene<Self::Stage>>;

    /// The least length of time that the store's clock tells apart. Leases and retentions of these
    /// tests are multiples of it.
    fn resolution(&self) -> Duration;

    /// How much later than at its time the store may notice that something is over.
    fn slack(&self) -> Duration {
        Duration::ZERO
    }

    /// How many random sequences are compared with the machine.
    fn sequences(&self) -> u32;
}

/// A store, and what it needs.
pub(crate) struct Scene<S> {
    /// The store.
    pub(crate) store: Arc<dyn Store>,
    /// Another handle onto the same records, as another process would have; if there can be one.
    pub(crate) second: Option<Arc<dyn Store>>,
    /// What lives as long. Dropped last.
    pub(crate) stage: S,
}

impl<S> Scene<S> {
    /// The handles, in turn.
    fn handle(&self, turn: usize) -> Arc<dyn Store> {
        match &self.second {
            Some(second) if turn % 2 == 1 => Arc::clone(second),
            _ => Arc::clone(&self.store),
        }
    }
}

/// Runs the whole contract against the store that this expression describes, or some of its laws.
macro_rules! contract {
    ($fixture:expr => $($law:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $law() {
                $crate::records::contract::$law(&$fixture).await;
            }
        )+
    };
    ($fixture:expr) => {
        #[test]
        fn agrees_with_the_machine() {
            $crate::records::contract::agrees_with_the_machine(&$fixture);
        }

        $crate::records::contract::contract! { $fixture =>
            l1_one_of_many_claims_wins
            l1_holders_never_overlap
            l2_a_claim_can_be_sent_again
            l2_a_change_can_be_sent_again
            l3_a_wrong_claimant_changes_nothing
            l4_fences_rise_for_ever
            l5_time_is_the_stores
            l6_damage_is_never_absence
            l7_done_is_durable
            what_is_over_is_absent
            lists_in_pages
            hints_come
            not_applied_is_true
        }
    };
}
pub(crate) use contract;

/// Far longer than a test takes.
pub(crate) const HOUR: u64 = 3_600_000;

/// The longest lease that leaves a record alone for the time of a test.
pub(crate) const LONG_LEASE: u64 = 600_000;

/// Nothing ends while a test runs.
pub(crate) const LONG: Retention = Retention { body: HOUR, key: 2 * HOUR, unknown: 3 * HOUR };

/// Far enough for every operation of a test.
pub(crate) fn deadline() -> Instant {
    clock::now() + PATIENCE
}

/// The n-th name; those of other numbers are spread over all names.
pub(crate) fn rid(n: u64) -> Rid {
    Rid(outrigger::records::codec::digest_of(0, &[&n.to_be_bytes()]))
}

pub(crate) fn fingerprint(n: u8) -> Fingerprint {
    Fingerprint { version: 1, digest: [n; 32] }
}

pub(crate) fn nonce(n: u64) -> Nonce {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    Nonce(bytes)
}

/// A claim with the n-th nonce that nothing ends while a test runs.
pub(crate) fn claim(n: u64) -> Claim {
    Claim {
        fingerprint: fingerprint(1),
        owner: Owner { instance: [7; 16], epoch: 0 },
        nonce: nonce(n),
        principal: Principal([3; 8]),
        lease: LONG_LEASE,
        retention: LONG,
        unknowns: Unknowns::Hold,
        too_old: false,
    }
}

/// Who has made this claim, as the store's answer lets them know.
pub(crate) fn claimant(store: &dyn Store, claim: &Claim, fence: Fence) -> Claimant {
    Claimant {
        fingerprint: claim.fingerprint,
        owner: Owner { epoch: store.epoch(), ..claim.owner },
        nonce: claim.nonce,
        fence,
        principal: claim.principal,
    }
}

/// An answer with these bytes.
pub(crate) fn answer(body: &[u8]) -> Stored {
    Stored {
        status: 201,
        indeterminate: false,
        headers: vec![((*b"location").into(), (*b"/charges/1").into())],
        body: Some(body.into()),
        trailers: vec![((*b"x-sum").into(), (*b"1").into())],
    }
}

/// Claims, and must get it.
pub(crate) async fn acquire(store: &dyn Store, rid: Rid, claim: Claim) -> Claimant {
    match store.claim(rid, claim, deadline()).await.expect("a store that answers") {
        Claimed::Acquired { fence, .. } => claimant(store, &claim, fence),
        other => panic!("claim of what is free: {other:?}"),
    }
}

/// Claims what is over now, or as late as the store may notice, and must get it.
pub(crate) async fn acquire_in_time(
    fixture: &impl Fixture,
    store: &dyn Store,
    rid: Rid,
    claim: Claim,
) -> Claimant {
    let latest = time(store).await + slack(fixture);
    loop {
        match try_claim(store, rid, claim).await {
            Claimed::Acquired { fence, .. } => return claimant(store, &claim, fence),
            other => assert!(time(store).await < latest, "claim of what is over: {other:?}"),
        }
        clock::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn try_claim(store: &dyn Store, rid: Rid, claim: Claim) -> Claimed {
    store.claim(rid, claim, deadline()).await.expect("a store that answers")
}

pub(crate) async fn settle(store: &dyn Store, rid: Rid, settle: Settle) -> Settled {
    store.settle(rid, settle, deadline()).await.expect("a store that answers")
}

pub(crate) async fn peek(store: &dyn Store, rid: Rid) -> Option<Found> {
    store.peek(rid, fingerprint(1), deadline()).await.expect("a store that answers")
}

pub(crate) async fn read(store: &dyn Store, rid: Rid) -> Seen {
    store.read(rid, deadline()).await.expect("a store that answers")
}

/// The store's time.
pub(crate) async fn time(store: &dyn Store) -> Millis {
    store.birth(deadline()).await.expect("a store that answers").now
}

/// Waits until the store's clock has come so far.
pub(crate) async fn until(store: &dyn Store, at: Millis) {
    within("the store's clock", async {
        while time(store).await < at {
            clock::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

pub(crate) fn complete(by: Claimant, body: &[u8]) -> Settle {
    Settle::Complete { by, answer: answer(body), retention: LONG }
}

pub(crate) fn doubt(by: Claimant) -> Settle {
    let (doubt, observed_status) = (Doubt::Timeout, None);
    Settle::Doubt { by, doubt, observed_status, retention: LONG }
}

/// By how many milliseconds times may last longer.
pub(crate) fn slack(fixture: &impl Fixture) -> u64 {
    u64::try_from(fixture.slack().as_millis()).unwrap()
}

/// So many steps of the store's clock, in milliseconds.
pub(crate) fn steps(fixture: &impl Fixture, n: u64) -> u64 {
    let step = u64::try_from(fixture.resolution().as_millis()).unwrap();
    n * step.max(1)
}
