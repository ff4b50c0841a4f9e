//! Rules that are broken on purpose, each as somebody has got it wrong before.

use outrigger::policy::idempotency::machine::{
    Around, Change, Claim, Claimed, Settle, Settled, claim, settle,
};
use outrigger::policy::idempotency::record::{Entry, State};

use crate::search::search;
use crate::steps::Setting;
use crate::store::{RULES, Rules};
use crate::world::Misfortunes;
use crate::{HOLD, NONE, REDISPATCH};

#[track_caller]
fn breaks(setting: &Setting, property: &str) {
    let Some((broken, trace)) = search(setting).broken else {
        panic!("nothing was found, where one looked for: {property}");
    };
    assert_eq!(broken, property, "{trace}");
    println!("{trace}");
}

/// The record as if it were held by whoever speaks.
fn as_if_held(entry: &Entry, asked: &Settle) -> Entry {
    let (Settle::Complete { by, .. } | Settle::Release { by }) = asked else {
        return entry.clone();
    };
    let Entry::Record(record) = entry else { return entry.clone() };
    let mut record = record.clone();
    record.claimant = *by;
    Entry::Record(record)
}

fn release_by_anybody(entry: &Entry, asked: &Settle, around: &Around) -> (Change, Settled) {
    match asked {
        Settle::Release { .. } => settle(&as_if_held(entry, asked), asked, around),
        _ => settle(entry, asked, around),
    }
}

#[test]
fn a_release_without_a_look_at_the_fence_is_found() {
    let rules = Rules { settle: release_by_anybody, ..RULES };
    let misfortunes = Misfortunes { repeats: 1, ..NONE };
    let setting = Setting { rules, misfortunes, ..HOLD };
    breaks(&setting, "who does not hold a record changes nothing of it");
}

fn complete_by_anybody(entry: &Entry, asked: &Settle, around: &Around) -> (Change, Settled) {
    match asked {
        Settle::Complete { .. } => settle(&as_if_held(entry, asked), asked, around),
        _ => settle(entry, asked, around),
    }
}

#[test]
fn an_answer_taken_from_a_late_writer_is_found() {
    let rules = Rules { settle: complete_by_anybody, ..RULES };
    let setting = Setting { rules, ..REDISPATCH };
    breaks(&setting, "who does not hold a record changes nothing of it");
}

fn lapse(entry: &Entry, asked: &Claim, around: &Around) -> (Change, Claimed) {
    let lapsed = match entry {
        Entry::Record(record) => {
            record.state == State::InFlight && around.now >= record.lease_until
        }
        _ => false,
    };
    claim(if lapsed { &Entry::Absent } else { entry }, asked, around)
}

#[test]
fn a_lease_that_ends_and_frees_the_key_is_found() {
    let setting = Setting { rules: Rules { claim: lapse, ..RULES }, looks: 0, ..HOLD };
    breaks(&setting, "a record changes by T1 to T14 only");
}

fn renew_what_is_over(entry: &Entry, asked: &Settle, around: &Around) -> (Change, Settled) {
    let Entry::Record(record) = entry else { return settle(entry, asked, around) };
    let mut record = record.clone();
    if matches!(asked, Settle::Renew { .. }) && record.state == State::InFlight {
        record.lease_until = around.now + 1;
        return settle(&Entry::Record(record), asked, around);
    }
    settle(entry, asked, around)
}

#[test]
fn a_stray_renewal_that_revives_a_claim_is_found() {
    let rules = Rules { settle: renew_what_is_over, ..RULES };
    let setting = Setting { rules, renewals: 1, ..HOLD };
    breaks(&setting, "a record changes by T1 to T14 only");
}

fn claim_anew(entry: &Entry, asked: &Claim, around: &Around) -> (Change, Claimed) {
    match entry {
        Entry::Record(record) if record.claimant.nonce == asked.nonce => {
            claim(&Entry::Absent, asked, around)
        }
        _ => claim(entry, asked, around),
    }
}

#[test]
fn a_claim_that_is_new_each_time_it_is_sent_is_found() {
    let rules = Rules { claim: claim_anew, ..RULES };
    let misfortunes = Misfortunes { repeats: 1, ..NONE };
    let setting = Setting { rules, misfortunes, ..HOLD };
    breaks(&setting, "a record changes by T1 to T14 only");
}

fn fence_of_before(entry: &Entry, asked: &Claim, around: &Around) -> (Change, Claimed) {
    let Entry::Record(record) = entry else { return claim(entry, asked, around) };
    let fence = record.claimant.fence;
    match claim(entry, asked, around) {
        (Change::Put(mut record), Claimed::Acquired { attempt, first_seen, .. }) => {
            record.claimant.fence = fence;
            (Change::Put(record), Claimed::Acquired { fence, attempt, first_seen })
        }
        other => other,
    }
}

#[test]
fn a_takeover_under_the_fence_of_before_is_found() {
    let rules = Rules { claim: fence_of_before, ..RULES };
    breaks(&Setting { rules, ..REDISPATCH }, "a record changes by T1 to T14 only");
}

/// The machine alone is not enough: these two are about those who use it.
#[test]
fn a_proxy_that_sends_after_a_pause_without_a_look_at_its_lease_is_found() {
    let setting = Setting { looks_at_lease: false, ..REDISPATCH };
    breaks(&setting, "every further sending has a larger fence");
    let setting = Setting { looks_at_lease: false, ..HOLD };
    breaks(&setting, "every further sending has a larger fence");
}

#[test]
fn an_operator_who_does_not_wait_for_what_is_still_on_its_way_is_found() {
    let setting = Setting { operator_waits: false, ..HOLD };
    breaks(&setting, "nothing is executed twice without proof");
}
