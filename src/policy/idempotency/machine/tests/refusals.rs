//! Every command in every state, as tables.

use super::*;

/// Makes a claimant another one.
type Spoil = fn(&mut Claimant);

/// A time at which [`entries`] stand as their names say.
const NOW: Millis = 200;

/// An entry for each way to stand, all of the claimant of [`in_flight`].
fn entries() -> Vec<(&'static str, Entry, Claimant)> {
    let (entry, by) = in_flight();
    let told = |settle: &Settle| settled(&entry, settle, 140).0;
    let live = told(&Settle::Renew { by, lease: 100 });
    let done = told(&complete(by));
    let tombstone = Entry::Record(Box::new(shed(record(&done).clone())));
    let briefly = Retention { body: 1, key: 2, unknown: 2 };
    let over = Settle::Complete { by, answer: answer(201), retention: briefly };
    vec![
        ("absent", Entry::Absent, by),
        ("live", live, by),
        ("completed", done.clone(), by),
        ("tombstone", tombstone, by),
        ("retryable", told(&Settle::Retryable { by, retention: RETENTION }), by),
        ("unknown", told(&doubt(by)), by),
        ("over", told(&over), by),
        ("unreadable", Entry::Unreadable, by),
        ("lost", entry, by),
    ]
}

fn commands(by: Claimant) -> [(&'static str, Settle); 9] {
    [
        ("renew", Settle::Renew { by, lease: 100 }),
        ("complete", complete(by)),
        ("release", Settle::Release { by }),
        ("doubt", doubt(by)),
        ("retryable", Settle::Retryable { by, retention: RETENTION }),
        (
            "reassert",
            Settle::Reassert { by, lease: 100, first_seen: 50, attempts: 1, retention: RETENTION },
        ),
        ("executed", resolve(by.fence, Resolution::Executed { status: 202 })),
        ("not", resolve(by.fence, Resolution::NotExecuted)),
        ("purge", Settle::Purge { expect: Some(by.fence) }),
    ]
}

fn letter(answer: Settled) -> &'static str {
    match answer {
        Settled::Done => "done",
        Settled::Already => "already",
        Settled::Reasserted => "again",
        Settled::Fenced { .. } => "-",
    }
}

/// What the claimant itself, or an operator who has looked, is told (`-` is fenced); after `>`
/// what the entry has become, where it has changed: completed, retryable, in flight, unknown,
/// nothing.
const SETTLED: &str = "
           renew complete release doubt   retryable reassert executed not     purge
absent     -     again>c  already again>u -         again>i  -        already already
over       -     again>c  already again>u -         again>i  -        already already
live       done  done>c   done>n  done>u  done>r    done     -        -       -
lost       -     done>c   done>n  done    done>r    -        done>c   done>n  done>n
unknown    -     done>c   -       already -         -        done>c   done>n  done>n
retryable  -     -        -       -       already   -        -        -       done>n
completed  -     already  -       -       -         -        -        -       done>n
tombstone  -     already  -       -       -         -        -        -       done>n
unreadable -     -        -       -       -         -        -        -       -
";

fn initial(state: Option<State>) -> char {
    state.map_or('n', |state| state.name().chars().next().unwrap())
}

#[test]
fn what_its_claimant_may_do_in_every_state_is_a_table() {
    let mut lines = SETTLED.lines().filter(|line| !line.is_empty());
    let header: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    let table: Vec<Vec<_>> = lines.map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(table.len(), entries().len());
    for (name, entry, by) in entries() {
        let row = table.iter().find(|row| row[0] == name).unwrap();
        for (command, settle) in commands(by) {
            let (after, answer) = settled(&entry, &settle, NOW);
            let (was, is) = (state_of(&entry, NOW), state_of(&after, NOW));
            let mut seen = letter(answer).to_owned();
            if was != is {
                seen += &format!(">{}", initial(is));
            }
            let at = header.iter().position(|head| *head == command).unwrap();
            assert_eq!(seen, row[at + 1], "{command} of what is {name}");
            if matches!(answer, Settled::Already | Settled::Fenced { .. }) {
                assert_eq!(after, entry, "{command} of what is {name} changes nothing");
            }
        }
    }
}

#[test]
fn who_has_another_nonce_fence_or_request_changes_nothing() {
    let strangers: [(&str, Spoil); 4] = [
        ("nonce", |by| by.nonce = Nonce([9; 16])),
        ("an older fence", |by| by.fence.0 -= 1),
        ("a newer fence", |by| by.fence.0 += 1),
        ("fingerprint", |by| by.fingerprint.digest = [9; 32]),
    ];
    for (name, entry, by) in entries() {
        if ["absent", "over", "unreadable"].contains(&name) {
            continue;
        }
        for (differing, make) in strangers {
            let mut stranger = by;
            make(&mut stranger);
            for (command, settle) in commands(stranger) {
                let by_fence = ["executed", "not", "purge"].contains(&command);
                let older = differing == "an older fence" && command == "reassert";
                if older || (by_fence && stranger.fence == by.fence) {
                    continue;
                }
                let (after, answer) = settled(&entry, &settle, NOW);
                let context = format!("{command} of what is {name} with another {differing}");
                assert_eq!(answer, Settled::Fenced { current: Some(by.fence) }, "{context}");
                assert_eq!(after, entry, "{context}");
            }
        }
    }
}

#[test]
fn a_claim_asserted_again_under_a_newer_one_marks_it_contested_once() {
    let (entry, by) = in_flight();
    let older = Claimant { fence: Fence(by.fence.0 - 1), nonce: Nonce([7; 16]), ..by };
    let (_, again) = commands(older).into_iter().find(|(name, _)| *name == "reassert").unwrap();
    let (marked, answer) = settled(&entry, &again, 60);
    assert_eq!(answer, Settled::Fenced { current: Some(by.fence) });
    let mut expected = record(&entry).clone();
    expected.contested = true;
    assert_eq!(record(&marked), &expected);
    assert_eq!(settled(&marked, &again, 61), (marked.clone(), answer));
    // The mark outlives what comes after.
    let (done, _) = settled(&marked, &complete(by), 70);
    assert!(record(&done).contested);
}

#[test]
fn nobody_but_an_operator_removes_what_cannot_be_read() {
    let (none, answer) = settled(&Entry::Unreadable, &Settle::Purge { expect: None }, NOW);
    assert_eq!((none, answer), (Entry::Absent, Settled::Done));
    let (entry, by) = in_flight();
    let (same, answer) = settled(&entry, &Settle::Purge { expect: None }, NOW);
    assert_eq!((same, answer), (entry, Settled::Fenced { current: Some(by.fence) }));
}

/// What a claim meets: the state, and the answer to the same request, to another one, and to one
/// whose digest is of another recipe; `+` where it is acquired, under `hold` and `redispatch`.
const CLAIMED: &str = "
absent     +           +           +           +
over       +           +           +           +
live       in_flight   in_flight   mismatch    unreadable
lost       unknown     +           mismatch    unreadable
unknown    unknown     +           mismatch    unreadable
retryable  +           +           mismatch    unreadable
completed  completed   completed   mismatch    unreadable
tombstone  gone        gone        mismatch    unreadable
unreadable unreadable  unreadable  unreadable  unreadable
";

fn word(answer: &Claimed) -> &'static str {
    match answer {
        Claimed::Acquired { .. } => "+",
        Claimed::Found(Found::InFlight { .. }) => "in_flight",
        Claimed::Found(Found::Completed { .. }) => "completed",
        Claimed::Found(Found::Gone { .. }) => "gone",
        Claimed::Found(Found::Unknown { doubt: Doubt::Unreadable, .. }) => "unreadable",
        Claimed::Found(Found::Unknown { .. }) => "unknown",
        Claimed::Found(Found::Mismatch { .. }) => "mismatch",
        Claimed::Full => "full",
        Claimed::Quota => "quota",
        Claimed::TooOld => "too_old",
    }
}

#[test]
fn what_a_claim_meets_in_every_state_is_a_table() {
    let table: Vec<Vec<_>> = CLAIMED
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(table.len(), entries().len());
    let other = Fingerprint { version: 2, ..asked(1, 2).fingerprint };
    let claims = [
        asked(1, 2),
        Claim { unknowns: Unknowns::Redispatch { grace: 20 }, ..asked(1, 2) },
        Claim { unknowns: Unknowns::Redispatch { grace: 20 }, ..asked(2, 2) },
        Claim { unknowns: Unknowns::Redispatch { grace: 20 }, fingerprint: other, ..asked(1, 2) },
    ];
    for (name, entry, _) in entries() {
        let row = table.iter().find(|row| row[0] == name).unwrap();
        for (at, asked) in claims.iter().enumerate() {
            let (after, answer) = claimed(&entry, asked, NOW);
            assert_eq!(word(&answer), row[at + 1], "claim {at} of what is {name}");
            if !matches!(answer, Claimed::Acquired { .. }) {
                assert_eq!(after, entry, "claim {at} of what is {name} changes nothing");
            }
            let peeked = peek(&entry, &asked.fingerprint, &around(NOW));
            match (&answer, peeked) {
                (Claimed::Found(found), peeked) => assert_eq!(Some(found), peeked.as_ref()),
                (_, None | Some(Found::Unknown { .. })) => {}
                (answer, peeked) => panic!("{answer:?} and {peeked:?} of what is {name}"),
            }
        }
    }
}

#[test]
fn room_and_age_count_for_new_keys_only() {
    let fingerprint = asked(1, 1).fingerprint;
    for (room, refusal) in [(Room::Full, "full"), (Room::Quota, "quota")] {
        for (name, entry, _) in entries() {
            let tight = Around { room, ..around(NOW) };
            let (_, answer) = claim(&entry, &asked(1, 2), &tight);
            let new = ["absent", "over"].contains(&name);
            assert_eq!(word(&answer) == refusal, new, "{name}");
            let old = Claim { too_old: true, ..asked(1, 2) };
            let (change, answer) = claim(&entry, &old, &tight);
            assert_eq!(answer == Claimed::TooOld, new, "{name}");
            assert!(!new || change == Change::Keep);
            assert_eq!(peek(&entry, &fingerprint, &tight).is_none(), new || name == "retryable");
        }
    }
}
