//! One test for each transition.

use super::*;

const REDISPATCH: Unknowns = Unknowns::Redispatch { grace: 20 };

#[test]
fn t1_claims_what_is_absent() {
    let (entry, answer) = claimed(&Entry::Absent, &asked(1, 1), 50);
    assert_eq!(answer, Claimed::Acquired { fence: Fence(50), attempt: 1, first_seen: 50 });
    let record = record(&entry);
    assert_eq!((record.state, record.lease_until), (State::InFlight, 150));
    assert_eq!((record.first_seen, record.attempts, record.contested), (50, 1, false));
}

#[test]
fn t1_sent_again_is_the_same_claim() {
    let (entry, first) = claimed(&Entry::Absent, &asked(1, 1), 50);
    let (again, second) = claimed(&entry, &asked(1, 1), 60);
    assert_eq!((&entry, first), (&again, second));
    let (_, other) = claimed(&entry, &asked(1, 2), 60);
    assert_eq!(other, Claimed::Found(Found::InFlight { remaining: 90, first_seen: 50 }));
}

#[test]
fn t1_gives_no_longer_lease_than_the_longest() {
    let greedy = Claim { lease: u64::MAX, ..asked(1, 1) };
    let (entry, _) = claimed(&Entry::Absent, &greedy, 50);
    assert_eq!(record(&entry).lease_until, 50 + LEASE_MAX);
}

#[test]
fn t2_a_renewal_moves_the_lease_and_what_follows_from_it() {
    let (entry, by) = in_flight();
    let (later, answer) = settled(&entry, &Settle::Renew { by, lease: 100 }, 120);
    assert_eq!(answer, Settled::Done);
    let (was, is) = (record(&entry), record(&later));
    assert_eq!(is.lease_until, 220);
    assert_eq!(is.keep_until - is.lease_until, was.keep_until - was.lease_until);
    assert_eq!(state_of(&later, 219), Some(State::InFlight));
    assert_eq!(state_of(&later, 220), Some(State::Unknown));
    // One that was late on its way shortens nothing.
    let (same, answer) = settled(&later, &Settle::Renew { by, lease: 1 }, 121);
    assert_eq!((same, answer), (later, Settled::Done));
}

#[test]
fn t3_the_answer_is_kept_and_given_again() {
    let (entry, by) = in_flight();
    let (done, first) = settled(&entry, &complete(by), 70);
    assert_eq!(first, Settled::Done);
    let kept = record(&done);
    assert_eq!((kept.completed, kept.body_until, kept.keep_until), (70, 1_070, 3_070));
    let found = peek(&done, &by.fingerprint, &around(100));
    assert_eq!(found, Some(Found::Completed { answer: answer(201), completed: 70, age: 30 }));
    let (same, second) = settled(&done, &complete(by), 100);
    assert_eq!((same, second), (done, Settled::Already));
}

#[test]
fn t3_without_a_body_is_completed_and_gone() {
    let (entry, by) = in_flight();
    let bare = Settle::Complete { by, answer: Stored::bare(200), retention: RETENTION };
    let (done, _) = settled(&entry, &bare, 70);
    assert_eq!(state_of(&done, 70), Some(State::Completed));
    let gone = Found::Gone { status: 200, first_seen: 50 };
    assert_eq!(claimed(&done, &asked(1, 2), 80).1, Claimed::Found(gone));
}

#[test]
fn t4_a_release_leaves_nothing_also_when_the_lease_has_just_ended() {
    for now in [60, 149, 150, 400] {
        let (entry, by) = in_flight();
        let (none, first) = settled(&entry, &Settle::Release { by }, now);
        assert_eq!((&none, first), (&Entry::Absent, Settled::Done), "at {now}");
        let (still, second) = settled(&none, &Settle::Release { by }, now);
        assert_eq!((still, second), (Entry::Absent, Settled::Already), "at {now}");
    }
}

#[test]
fn t5_a_doubt_keeps_what_was_seen() {
    let (entry, by) = in_flight();
    let (unknown, first) = settled(&entry, &doubt(by), 70);
    assert_eq!(first, Settled::Done);
    let found =
        Found::Unknown { doubt: Doubt::AnswerCut, observed_status: Some(200), first_seen: 50 };
    assert_eq!(claimed(&unknown, &asked(1, 2), 80), (unknown.clone(), Claimed::Found(found)));
    let (same, second) = settled(&unknown, &doubt(by), 90);
    assert_eq!((same, second), (unknown, Settled::Already));
}

#[test]
fn t5_its_owner_says_more_than_the_end_of_its_lease_did() {
    let (entry, by) = in_flight();
    let (unknown, answer) = settled(&entry, &doubt(by), 500);
    assert_eq!(answer, Settled::Done);
    let kept = record(&unknown);
    assert_eq!((kept.doubt, kept.lease_until), (Some(Doubt::AnswerCut), 150));
    assert_eq!(kept.keep_until, 500 + RETENTION.unknown);
}

#[test]
fn t6_a_lease_that_ends_leaves_a_doubt_and_nobody_takes_it() {
    let (entry, by) = in_flight();
    assert_eq!(state_of(&entry, 149), Some(State::InFlight));
    let (same, answer) = claimed(&entry, &asked(1, 2), 150);
    assert_eq!(same, entry);
    assert!(matches!(
        answer,
        Claimed::Found(Found::Unknown { doubt: Doubt::OwnerLost, first_seen: 50, .. })
    ));
    // Nor does the claim itself, sent again: it cannot know what its first copy led to.
    assert!(matches!(claimed(&entry, &asked(1, 1), 150).1, Claimed::Found(Found::Unknown { .. })));
    let (_, renewed) = settled(&entry, &Settle::Renew { by, lease: 100 }, 150);
    assert_eq!(renewed, Settled::Fenced { current: Some(Fence(50)) });
}

#[test]
fn t6_an_earlier_opening_of_the_store_has_left_only_doubts() {
    let (entry, _) = in_flight();
    let reopened = Around { epoch: Some(1), ..around(60) };
    let (change, answer) = claim(&entry, &asked(1, 2), &reopened);
    assert_eq!(change, Change::Keep);
    assert!(matches!(answer, Claimed::Found(Found::Unknown { doubt: Doubt::OwnerLost, .. })));
    let same = Around { epoch: Some(0), ..around(60) };
    assert!(matches!(peek(&entry, &asked(1, 2).fingerprint, &same), Some(Found::InFlight { .. })));
}

#[test]
fn t6_a_lease_beyond_every_lease_was_written_before_the_clock_went_back() {
    let long = Claim { lease: LEASE_MAX, ..asked(1, 1) };
    let (entry, _) = claimed(&Entry::Absent, &long, 1_000);
    assert_eq!(state_of(&entry, 1_000), Some(State::InFlight));
    assert_eq!(state_of(&entry, 999), Some(State::Unknown));
}

#[test]
fn t7_may_be_sent_again_where_the_upstream_recognises_keys() {
    let (entry, by) = in_flight();
    let retryable = Settle::Retryable { by, retention: RETENTION };
    let (entry, first) = settled(&entry, &retryable, 70);
    assert_eq!((first, state_of(&entry, 70)), (Settled::Done, Some(State::Retryable)));
    assert_eq!(peek(&entry, &by.fingerprint, &around(71)), None);
    let (same, second) = settled(&entry, &retryable, 75);
    assert_eq!((same, second), (entry.clone(), Settled::Already));
    assert_eq!(state_of(&entry, 70 + RETENTION.unknown), None);
}

#[test]
fn t8_claims_it_again_with_a_larger_fence() {
    let (entry, by) = in_flight();
    let (entry, _) = settled(&entry, &Settle::Retryable { by, retention: RETENTION }, 70);
    let other = claimed(&entry, &asked(2, 2), 80).1;
    assert!(matches!(other, Claimed::Found(Found::Mismatch { state: State::Retryable, .. })));
    let (again, answer) = claimed(&entry, &asked(1, 2), 80);
    assert_eq!(answer, Claimed::Acquired { fence: Fence(80), attempt: 2, first_seen: 50 });
    assert_eq!(state_of(&again, 179), Some(State::InFlight));
    assert_eq!(
        settled(&again, &complete(by), 90),
        (again, Settled::Fenced { current: Some(Fence(80)) })
    );
}

#[test]
fn t9_takes_over_only_after_the_grace() {
    let (entry, _) = in_flight();
    let next = Claim { unknowns: REDISPATCH, ..asked(1, 2) };
    assert!(matches!(claimed(&entry, &next, 169).1, Claimed::Found(Found::Unknown { .. })));
    let (_, answer) = claimed(&entry, &next, 170);
    assert_eq!(answer, Claimed::Acquired { fence: Fence(170), attempt: 2, first_seen: 50 });
}

#[test]
fn t9_fences_off_the_late_writer_whatever_it_says() {
    let (entry, by) = in_flight();
    let next = Claim { unknowns: REDISPATCH, ..asked(1, 2) };
    let (entry, _) = claimed(&entry, &next, 170);
    let late = [
        complete(by),
        doubt(by),
        Settle::Release { by },
        Settle::Renew { by, lease: 100 },
        Settle::Retryable { by, retention: RETENTION },
        resolve(by.fence, Resolution::NotExecuted),
        resolve(by.fence, Resolution::Executed { status: 200 }),
    ];
    for late in late {
        let expected = (entry.clone(), Settled::Fenced { current: Some(Fence(170)) });
        assert_eq!(settled(&entry, &late, 180), expected, "{late:?}");
    }
}

#[test]
fn t9_a_slow_counter_of_fences_still_rises() {
    let (entry, _) = in_flight();
    let next = Claim { unknowns: REDISPATCH, ..asked(1, 2) };
    let slow = Around { next_fence: Fence(3), ..around(170) };
    let (_, answer) = claim(&entry, &next, &slow);
    assert_eq!(answer, Claimed::Acquired { fence: Fence(51), attempt: 2, first_seen: 50 });
}

#[test]
fn t10_the_late_answer_of_the_same_claim_settles_the_doubt() {
    for now in [160, 5_000] {
        let (entry, by) = in_flight();
        let (done, answer) = settled(&entry, &complete(by), now);
        let state = state_of(&done, now);
        assert_eq!((answer, state), (Settled::Done, Some(State::Completed)));
    }
    let (entry, by) = in_flight();
    let (entry, _) = settled(&entry, &doubt(by), 70);
    let (done, answer) = settled(&entry, &complete(by), 80);
    assert_eq!(answer, Settled::Done);
    assert_eq!((record(&done).doubt, record(&done).observed_status), (None, None));
}

#[test]
fn t11_resolved_as_executed_is_completed_without_a_body() {
    let (entry, by) = in_flight();
    let executed = resolve(by.fence, Resolution::Executed { status: 201 });
    let (done, first) = settled(&entry, &executed, 200);
    assert_eq!((first, state_of(&done, 200)), (Settled::Done, Some(State::Completed)));
    assert_eq!(
        peek(&done, &by.fingerprint, &around(200)),
        Some(Found::Gone { status: 201, first_seen: 50 })
    );
    for now in [201, 200 + RETENTION.body] {
        assert_eq!(settled(&done, &executed, now), (done.clone(), Settled::Already), "at {now}");
    }
}

#[test]
fn t11_resolved_as_not_executed_frees_the_key() {
    let (entry, by) = in_flight();
    let not = resolve(by.fence, Resolution::NotExecuted);
    let (none, first) = settled(&entry, &not, 200);
    assert_eq!((&none, first), (&Entry::Absent, Settled::Done));
    assert_eq!(settled(&none, &not, 201), (Entry::Absent, Settled::Already));
    let (_, answer) = claimed(&none, &asked(2, 2), 210);
    assert_eq!(answer, Claimed::Acquired { fence: Fence(210), attempt: 1, first_seen: 210 });
}

#[test]
fn t12_the_answer_goes_when_its_time_is_over_and_that_there_was_one_stays() {
    let (entry, by) = in_flight();
    let (done, _) = settled(&entry, &complete(by), 100);
    assert_eq!(state_of(&done, 1_099), Some(State::Completed));
    assert_eq!(state_of(&done, 1_100), Some(State::Tombstone));
    assert_eq!(due(record(&done)), 1_100);
    let gone = Found::Gone { status: 201, first_seen: 50 };
    assert_eq!(claimed(&done, &asked(1, 2), 1_100), (done, Claimed::Found(gone)));
}

#[test]
fn t12_an_answer_shed_for_room_leaves_its_status() {
    let (entry, by) = in_flight();
    let (done, _) = settled(&entry, &complete(by), 100);
    let shed = shed(record(&done).clone());
    assert_eq!((shed.state, &shed.answer), (State::Tombstone, &Some(Stored::bare(201))));
    assert_eq!(due(&shed), shed.keep_until);
    let shed = Entry::Record(Box::new(shed));
    assert_eq!(settled(&shed, &complete(by), 110), (shed, Settled::Already));
}

#[test]
fn t12_nothing_but_a_completed_record_can_be_shed() {
    let (entry, by) = in_flight();
    let (unknown, _) = settled(&entry, &doubt(by), 70);
    let (retryable, _) = settled(&entry, &Settle::Retryable { by, retention: RETENTION }, 70);
    for entry in [entry, unknown, retryable] {
        let record = record(&entry).clone();
        assert_eq!(shed(record.clone()), record);
    }
}

#[test]
fn t13_a_tombstone_ends_and_the_key_is_free() {
    let (entry, by) = in_flight();
    let (done, _) = settled(&entry, &complete(by), 100);
    assert_eq!(state_of(&done, 3_099), Some(State::Tombstone));
    assert_eq!(stands(record(&done), 3_100, None), Stands::Over(State::Tombstone));
    let (_, answer) = claimed(&done, &asked(2, 2), 3_100);
    assert_eq!(answer, Claimed::Acquired { fence: Fence(3_100), attempt: 1, first_seen: 3_100 });
}

#[test]
fn t14_a_doubt_ends_and_the_key_is_free() {
    let (entry, by) = in_flight();
    let (told, _) = settled(&entry, &doubt(by), 100);
    for (entry, end) in [(told, 100 + RETENTION.unknown), (entry, 150 + RETENTION.unknown)] {
        assert_eq!(state_of(&entry, end - 1), Some(State::Unknown));
        assert_eq!(stands(record(&entry), end, None), Stands::Over(State::Unknown));
        assert_eq!(due(record(&entry)), end);
        assert!(matches!(claimed(&entry, &asked(2, 2), end).1, Claimed::Acquired { .. }));
    }
}

#[test]
fn a_new_claim_after_the_end_of_a_record_has_a_larger_fence_than_it() {
    let (entry, by) = in_flight();
    let (done, _) = settled(&entry, &complete(by), 100);
    let slow = Around { next_fence: Fence(3), ..around(3_100) };
    let (_, answer) = claim(&done, &asked(1, 2), &slow);
    assert_eq!(answer, Claimed::Acquired { fence: Fence(51), attempt: 1, first_seen: 3_100 });
}
