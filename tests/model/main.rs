//! Every history of a key, up to a bound: proxies that crash and pause, answers that are lost,
//! messages that come late, twice or never, an upstream that executes late or never, operators,
//! and a store that forgets.
//!
//! The record in the middle is changed by the machine of the project itself. A pause needs no step
//! of its own: whoever takes no step while time passes is paused. Likewise a message that is lost
//! is one that has not arrived. Time has no bound. [`broken`] breaks the rules on purpose, so that
//! it is known that a broken rule is found. The largest of these models takes a few seconds.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "the number of states, and the way to a broken rule")]

mod broken;
mod promises;
mod search;
mod steps;
mod store;
mod world;

use outrigger::policy::idempotency::record::{NEVER, Retention};

use search::search;
use steps::Setting;
use store::RULES;
use world::Misfortunes;

const NONE: Misfortunes = Misfortunes { losses: 0, repeats: 0, crashes: 0, forgets: 0, doubts: 0 };

/// Two requests at two proxies, nothing of which is ever forgotten, and an operator who looks once.
const HOLD: Setting = Setting {
    rules: RULES,
    proxies: 2,
    tries: 1,
    redispatch: false,
    retention: Retention { body: NEVER, key: NEVER, unknown: NEVER },
    misfortunes: NONE,
    renewals: 0,
    looks: 1,
    looks_at_lease: true,
    operator_waits: true,
    guarded: false,
};

/// The same where the upstream recognises keys: doubts are sent again, and nobody needs to look.
const REDISPATCH: Setting = Setting { redispatch: true, looks: 0, ..HOLD };

/// Searches all of it, and wants these transitions, and no others, to have been taken.
#[track_caller]
fn holds(setting: &Setting, transitions: &[&str]) {
    let report = search(setting);
    if let Some((property, trace)) = report.broken {
        panic!("{property}\n{trace}");
    }
    println!("{} states; {:?}", report.states, report.seen);
    let seen: Vec<_> = report.seen.keys().copied().collect();
    assert_eq!(seen, transitions);
}

#[test]
fn two_requests_with_every_misfortune_are_executed_once_at_most() {
    let misfortunes = Misfortunes { losses: 1, repeats: 1, crashes: 1, doubts: 1, ..NONE };
    let setting = Setting { misfortunes, ..HOLD };
    let t11 = ["T11 executed", "T11 not executed"];
    holds(&setting, &["T1", "T10", t11[0], t11[1], "T3", "T4", "T5", "T6", "said again"]);
}

#[test]
fn three_requests_and_a_crash_are_executed_once_at_most() {
    let misfortunes = Misfortunes { crashes: 1, ..NONE };
    let setting = Setting { proxies: 3, misfortunes, ..HOLD };
    let t11 = ["T11 executed", "T11 not executed"];
    holds(&setting, &["T1", "T10", t11[0], t11[1], "T3", "T4", "T5", "T6", "said again"]);
}

#[test]
fn a_request_that_is_repeated_by_its_client_is_executed_once_at_most() {
    let setting = Setting { tries: 2, ..HOLD };
    let t11 = ["T11 executed", "T11 not executed"];
    holds(&setting, &["T1", "T10", t11[0], t11[1], "T3", "T4", "T5", "T6", "said again"]);
}

#[test]
fn renewals_that_come_late_or_twice_bring_nothing_back() {
    let misfortunes = Misfortunes { repeats: 1, ..NONE };
    let setting = Setting { misfortunes, renewals: 2, looks: 0, ..HOLD };
    holds(&setting, &["T1", "T10", "T2", "T3", "T4", "T5", "T6"]);
}

#[test]
fn what_is_sent_again_has_a_larger_fence_and_the_late_writer_changes_nothing() {
    let misfortunes = Misfortunes { repeats: 1, crashes: 1, ..NONE };
    let setting = Setting { misfortunes, ..REDISPATCH };
    holds(&setting, &["T1", "T10", "T3", "T4", "T5", "T6", "T7", "T8", "T9", "said again"]);
}

#[test]
fn three_senders_one_after_the_other_are_kept_apart() {
    let setting = Setting { proxies: 3, ..REDISPATCH };
    holds(&setting, &["T1", "T10", "T3", "T4", "T5", "T6", "T7", "T8", "T9", "said again"]);
}

#[test]
fn a_record_ends_by_time_alone_and_only_then_is_its_key_new() {
    let retention = Retention { body: 1, key: 2, unknown: 2 };
    let misfortunes = Misfortunes { crashes: 1, repeats: 1, ..NONE };
    let setting = Setting { retention, misfortunes, looks: 0, ..HOLD };
    let seen = ["T1", "T10", "T12", "T13", "T14", "T3", "T4", "T5", "T6", "said again"];
    holds(&setting, &seen);
}

#[test]
fn a_store_that_forgets_still_keeps_claimants_apart_and_tells_no_lies() {
    let misfortunes = Misfortunes { forgets: 1, losses: 1, ..NONE };
    let setting = Setting { misfortunes, looks: 0, ..HOLD };
    holds(&setting, &["T1", "T10", "T3", "T4", "T5", "T6", "forgotten", "said again"]);
}

#[test]
fn a_store_that_forgets_and_waits_for_all_claimants_executes_nothing_twice() {
    let misfortunes = Misfortunes { forgets: 1, losses: 1, repeats: 1, ..NONE };
    let setting = Setting { misfortunes, looks: 0, guarded: true, ..HOLD };
    holds(&setting, &["T1", "T10", "T3", "T4", "T5", "T6", "forgotten", "said again"]);
}
