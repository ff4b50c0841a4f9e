//! Random sequences of commands, asked of a store and of the pure machine.
//!
//! The store alone knows the instant at which it answered; its clock, read before and after, bounds
//! it. The two agree when at one instant in between the machine gives the same answer and leaves
//! the same record.

use std::collections::HashMap;

use outrigger::policy::idempotency::machine::{
    self, Around, Change, Resolution, Room, Stands, shed, stands,
};
use outrigger::policy::idempotency::record::{Entry, Record, State};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// The fence that one who never claimed pretends to have; and one more, or one less. A store that
/// has nothing must believe it when it is asserted again.
const PRETENDED: u64 = 7;

/// What is asked, in numbers that the store's names and lengths of time are made of.
#[derive(Clone, Debug)]
enum Command {
    Claim { rid: u64, nonce: u64, request: u8, redispatch: Option<u64>, lease: u64, keep: u64 },
    Peek { rid: u64, request: u8 },
    Settle { rid: u64, nonce: u64, off: i64, change: u8, keep: u64 },
    Wait { steps: u64 },
}

/// Sequences of commands; where times are not exact, such in which no time is over.
fn commands(exact: bool) -> impl Strategy<Value = Vec<Command>> {
    let long = move |n: u64| if exact { n } else { 100_000 };
    let rid = 0..2_u64;
    let nonce = 0..3_u64;
    let request = prop_oneof![8 => Just(1_u8), 1 => Just(2)];
    let keep = prop_oneof![1 => 1..4_u64, 3 => Just(100_000)].prop_map(long);
    let lease = prop_oneof![1 => 0..3_u64, 3 => Just(100_000)].prop_map(long);
    let redispatch = proptest::option::of(0..1 + 2 * u64::from(exact));
    let off = prop_oneof![8 => Just(0_i64), 1 => Just(1), 1 => Just(-1)];
    let claim = (rid.clone(), nonce.clone(), request.clone(), redispatch, lease, keep.clone());
    let command = prop_oneof![
        4 => claim.prop_map(|(rid, nonce, request, redispatch, lease, keep)| {
            Command::Claim { rid, nonce, request, redispatch, lease, keep }
        }),
        1 => (rid.clone(), request).prop_map(|(rid, request)| Command::Peek { rid, request }),
        6 => (rid, nonce, off, 0..9_u8, keep).prop_map(|(rid, nonce, off, change, keep)| {
            Command::Settle { rid, nonce, off, change, keep }
        }),
        1 => (1..4_u64).prop_map(move |steps| Command::Wait { steps: steps * u64::from(exact) }),
    ];
    proptest::collection::vec(command, 1..40)
}

/// The store gives the machine's answers.
pub(crate) fn agrees_with_the_machine<F: Fixture>(fixture: &F) {
    let mut tests = TestRunner::new(Config {
        cases: fixture.sequences(),
        // Every step of shrinking opens a store.
        max_shrink_iters: 200,
        failure_persistence: None,
        ..Config::default()
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let outcome = tests.run(&commands(fixture.slack().is_zero()), |commands| {
        runtime.block_on(async {
            let scene = fixture.scene().await;
            let step = steps(fixture, 1);
            let lease = if fixture.slack().is_zero() { 2 * step } else { LONG_LEASE };
            let mut pair = Pair { step, lease, ..Pair::new(&scene) };
            for command in &commands {
                pair.ask(command).await?;
            }
            Ok(())
        })
    });
    if let Err(found) = outcome {
        panic!("{found}");
    }
}

/// A store, and what the machine takes it to hold.
struct Pair<'a, S> {
    scene: &'a Scene<S>,
    step: u64,
    /// Of renewals.
    lease: u64,
    turn: usize,
    entries: HashMap<u64, Entry>,
    /// The fence of each claim that was granted, by record and nonce.
    fences: HashMap<(u64, u64), Fence>,
    highest: HashMap<u64, Fence>,
}

#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Claimed(Claimed),
    Peeked(Option<Found>),
    Settled(Settled),
}

impl<'a, S> Pair<'a, S> {
    fn new(scene: &'a Scene<S>) -> Self {
        Self {
            scene,
            step: 1,
            lease: 2,
            turn: 0,
            entries: HashMap::new(),
            fences: HashMap::new(),
            highest: HashMap::new(),
        }
    }

    async fn ask(&mut self, command: &Command) -> Result<(), TestCaseError> {
        self.turn += 1;
        let store = self.scene.handle(self.turn);
        let name = match command {
            Command::Wait { steps } => {
                until(&*store, time(&*store).await + steps * self.step).await;
                return Ok(());
            }
            Command::Claim { rid, .. }
            | Command::Peek { rid, .. }
            | Command::Settle { rid, .. } => *rid,
        };
        let asked = self.question(&*store, command);
        let low = time(&*store).await;
        let answer = match &asked {
            Question::Claim(claim) => Answer::Claimed(try_claim(&*store, rid(name), *claim).await),
            Question::Peek(fingerprint) => {
                Answer::Peeked(store.peek(rid(name), *fingerprint, deadline()).await.unwrap())
            }
            Question::Settle(change) => {
                Answer::Settled(settle(&*store, rid(name), change.clone()).await)
            }
        };
        let high = time(&*store).await;
        let seen = read(&*store, rid(name)).await;
        self.compare(name, &asked, &answer, (low, high), &seen)?;
        self.remember(name, &asked, &answer)
    }

    /// The command with what only this store's history knows: fences, its opening.
    fn question(&self, store: &dyn Store, command: &Command) -> Question {
        match *command {
            Command::Wait { .. } => Question::Peek(fingerprint(1)),
            Command::Peek { request, .. } => Question::Peek(fingerprint(request)),
            Command::Claim { nonce, request, redispatch, lease, keep, .. } => {
                let unknowns = redispatch.map_or(Unknowns::Hold, |grace| Unknowns::Redispatch {
                    grace: grace * self.step,
                });
                Question::Claim(Claim {
                    fingerprint: fingerprint(request),
                    unknowns,
                    lease: lease * self.step,
                    retention: self.retention(keep),
                    ..claim(nonce)
                })
            }
            Command::Settle { rid, nonce, off, change, keep } => {
                let fence = self.fences.get(&(rid, nonce)).map_or(PRETENDED, |fence| fence.0);
                let fence = Fence(fence.saturating_add_signed(off));
                let by = claimant(store, &claim(nonce), fence);
                Question::Settle(self.change(change, by, self.retention(keep)))
            }
        }
    }

    fn retention(&self, keep: u64) -> Retention {
        let unit = keep * self.step;
        Retention { body: unit, key: 2 * unit, unknown: unit }
    }

    fn change(&self, which: u8, by: Claimant, retention: Retention) -> Settle {
        let lease = self.lease;
        let expect = by.fence;
        match which {
            0 => Settle::Renew { by, lease },
            1 => Settle::Complete { by, answer: answer(b"result"), retention },
            2 => Settle::Release { by },
            3 => {
                let observed_status = Some(502);
                Settle::Doubt { by, doubt: Doubt::Answer, observed_status, retention }
            }
            4 => Settle::Retryable { by, retention },
            5 => {
                let how = Resolution::Executed { status: 204 };
                Settle::Resolve { expect, how, retention }
            }
            6 => Settle::Resolve { expect, how: Resolution::NotExecuted, retention },
            7 => Settle::Purge { expect: Some(expect) },
            _ => Settle::Reassert { by, lease, first_seen: 5, attempts: 3, retention },
        }
    }

    /// Looks for the instant at which the machine does the same.
    fn compare(
        &mut self,
        name: u64,
        asked: &Question,
        answer: &Answer,
        (low, high): (Millis, Millis),
        seen: &Seen,
    ) -> Result<(), TestCaseError> {
        let before = self.entries.get(&name).cloned().unwrap_or(Entry::Absent);
        let epoch = Some(self.scene.store.epoch()).filter(|epoch| *epoch != 0);
        let next_fence = match answer {
            Answer::Claimed(Claimed::Acquired { fence, .. }) => *fence,
            _ => Fence(u64::MAX),
        };
        for now in low..=high {
            let around = Around { now, next_fence, epoch, room: Room::Free };
            let (change, expected) = asked.of_machine(&before, &around, epoch);
            let after = match change {
                Change::Keep => before.clone(),
                Change::Put(record) => Entry::Record(record),
                Change::Remove => Entry::Absent,
            };
            let same = left(&after, seen.now, epoch) == left(&seen.entry, seen.now, epoch);
            if expected == *answer && same {
                self.entries.insert(name, after);
                return Ok(());
            }
        }
        Err(TestCaseError::fail(format!(
            "{asked:?} of {before:?}\nbetween {low} and {high} got {answer:?}\nand left {seen:?}"
        )))
    }

    fn remember(
        &mut self,
        name: u64,
        asked: &Question,
        answer: &Answer,
    ) -> Result<(), TestCaseError> {
        let number = |nonce: &Nonce| u64::from_be_bytes(*nonce.0.last_chunk::<8>().unwrap());
        if let (
            Question::Settle(Settle::Reassert { by, .. }),
            Answer::Settled(Settled::Reasserted),
        ) = (asked, answer)
        {
            // Given by another life of the store: its claim, sent again, finds this fence.
            self.fences.insert((name, number(&by.nonce)), by.fence);
        }
        let (Question::Claim(claim), Answer::Claimed(Claimed::Acquired { fence, .. })) =
            (asked, answer)
        else {
            return Ok(());
        };
        let again = self.fences.insert((name, number(&claim.nonce)), *fence) == Some(*fence);
        if fence.0 <= PRETENDED + 1 {
            return Ok(());
        }
        let highest = self.highest.entry(name).or_insert(Fence(0));
        prop_assert!(*fence > *highest || again, "{fence:?} after {highest:?}");
        *highest = (*highest).max(*fence);
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Question {
    Claim(Claim),
    Peek(Fingerprint),
    Settle(Settle),
}

impl Question {
    fn of_machine(&self, before: &Entry, around: &Around, epoch: Option<u64>) -> (Change, Answer) {
        match self {
            Self::Claim(claim) => {
                let owner = Owner { epoch: epoch.unwrap_or(0), ..claim.owner };
                let claim = Claim { owner, ..*claim };
                let (change, answer) = machine::claim(before, &claim, around);
                (change, Answer::Claimed(answer))
            }
            Self::Peek(fingerprint) => {
                (Change::Keep, Answer::Peeked(machine::peek(before, fingerprint, around)))
            }
            Self::Settle(change) => {
                let (change, answer) = machine::settle(before, change, around);
                (change, Answer::Settled(answer))
            }
        }
    }
}

/// The entry as time has left it: a store may write that down, or not.
fn left(entry: &Entry, now: Millis, epoch: Option<u64>) -> Option<Record> {
    let Entry::Record(record) = entry else { return None };
    match stands(record, now, epoch) {
        Stands::Over(_) => None,
        Stands::In(State::Tombstone) => Some(shed((**record).clone())),
        Stands::In(_) => Some((**record).clone()),
    }
}
