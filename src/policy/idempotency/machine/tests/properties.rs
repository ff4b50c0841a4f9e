//! Random histories: what holds after every step of them.

use proptest::prelude::*;

use super::*;

/// What may happen to a key.
#[derive(Clone, Debug)]
enum Step {
    Claim {
        nonce: u8,
        digest: u8,
        redispatch: bool,
    },
    /// One of the claims so far, by its place, says one of its six things.
    Settle {
        who: usize,
        what: usize,
        skew: u64,
    },
    /// An operator has looked at one of them.
    Operator {
        who: usize,
        what: usize,
    },
    Shed,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let claim = (0_u8..5, 0_u8..2, any::<bool>())
        .prop_map(|(nonce, digest, redispatch)| Step::Claim { nonce, digest, redispatch });
    // Now and then with a fence that is not its own.
    let skew = prop_oneof![8 => Just(0_u64), 1 => Just(1), 1 => Just(u64::MAX)];
    let settle = (0_usize..8, 0_usize..6, skew).prop_map(|(who, what, skew)| Step::Settle {
        who,
        what,
        skew,
    });
    let operator = (0_usize..8, 0_usize..3).prop_map(|(who, what)| Step::Operator { who, what });
    let pass = prop_oneof![4 => 0_u64..130, 2 => 900_u64..3_100, 1 => 8_000_u64..9_200];
    let step = prop_oneof![
        4 => claim,
        6 => settle,
        1 => operator,
        1 => Just(Step::Shed),
        3 => pass.prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The command of a step, if it is one.
#[derive(Clone, Debug)]
enum Command {
    Claim(Claim),
    Settle(Settle),
}

#[derive(Clone, Debug, PartialEq)]
enum Told {
    Claimed(Claimed),
    Settled(Settled),
}

struct History {
    entry: Entry,
    now: Millis,
    fences: u64,
    claims: Vec<Claimant>,
}

impl History {
    const fn new() -> Self {
        Self { entry: Entry::Absent, now: 1_000, fences: 0, claims: Vec::new() }
    }

    fn command(&self, step: &Step) -> Option<Command> {
        match step {
            Step::Claim { nonce, digest, redispatch } => {
                let unknowns =
                    if *redispatch { Unknowns::Redispatch { grace: 20 } } else { Unknowns::Hold };
                Some(Command::Claim(Claim { unknowns, ..asked(*digest, *nonce) }))
            }
            Step::Settle { who, what, skew } => {
                let mut by = *self.claims.get(who % self.claims.len().max(1))?;
                by.fence.0 = by.fence.0.wrapping_add(*skew);
                let retention = RETENTION;
                Some(Command::Settle(match what {
                    0 => Settle::Renew { by, lease: 100 },
                    1 => complete(by),
                    2 => Settle::Release { by },
                    3 => doubt(by),
                    4 => Settle::Retryable { by, retention },
                    _ => Settle::Reassert { by, lease: 100, first_seen: 1, attempts: 1, retention },
                }))
            }
            Step::Operator { who, what } => {
                let fence = self.claims.get(who % self.claims.len().max(1))?.fence;
                Some(Command::Settle(match what {
                    0 => resolve(fence, Resolution::Executed { status: 200 }),
                    1 => resolve(fence, Resolution::NotExecuted),
                    _ => Settle::Purge { expect: Some(fence) },
                }))
            }
            Step::Shed | Step::Pass(_) => None,
        }
    }

    fn tell(&mut self, command: &Command) -> Told {
        let around = Around { next_fence: Fence(self.fences + 1), ..around(self.now) };
        let (change, told) = match command {
            Command::Claim(asked) => {
                let (change, answer) = claim(&self.entry, asked, &around);
                if let (Change::Put(_), Claimed::Acquired { fence, .. }) = (&change, &answer) {
                    assert!(fence.0 > self.fences, "fences rise");
                    self.fences = fence.0;
                    self.claims.push(claimant(asked, *fence));
                }
                (change, Told::Claimed(answer))
            }
            Command::Settle(asked) => {
                let (change, answer) = settle(&self.entry, asked, &around);
                (change, Told::Settled(answer))
            }
        };
        self.entry = applied(&self.entry, change);
        told
    }

    fn state(&self) -> Option<State> {
        state_of(&self.entry, self.now)
    }
}

const fn claimant(asked: &Claim, fence: Fence) -> Claimant {
    let Claim { fingerprint, owner, nonce, principal, .. } = *asked;
    Claimant { fingerprint, owner, nonce, fence, principal }
}

fn by_of(command: &Command) -> Option<Claimant> {
    match command {
        Command::Settle(
            Settle::Renew { by, .. }
            | Settle::Complete { by, .. }
            | Settle::Release { by }
            | Settle::Doubt { by, .. }
            | Settle::Retryable { by, .. }
            | Settle::Reassert { by, .. },
        ) => Some(*by),
        _ => None,
    }
}

/// What a repeat whose first answer was lost may be told.
fn fits_again(command: &Command, first: &Told, second: &Told) -> bool {
    use Settled::{Already, Done, Reasserted};
    match (first, second) {
        (Told::Settled(Done | Reasserted), Told::Settled(Already)) => true,
        (Told::Settled(Reasserted), Told::Settled(Done)) => {
            matches!(command, Command::Settle(Settle::Reassert { .. }))
        }
        (first, second) => first == second,
    }
}

const fn is_final(state: Option<State>) -> bool {
    matches!(state, Some(State::Completed | State::Tombstone))
}

fn check_command(history: &mut History, command: &Command) {
    let (before, stood) = (history.entry.clone(), history.state());
    let first = history.tell(command);
    let (after, stands) = (history.entry.clone(), history.state());

    let purged = matches!(command, Command::Settle(Settle::Purge { .. })) && stands.is_none();
    if is_final(stood) {
        assert!(is_final(stands) || purged, "{command:?} undid an answer: {stands:?}");
    }
    if let (Some(by), Entry::Record(was), Some(_)) = (by_of(command), &before, stood) {
        let held = was.claimant;
        let fits =
            held.nonce == by.nonce && held.fence == by.fence && held.fingerprint == by.fingerprint;
        if !fits {
            assert_eq!(first, Told::Settled(Settled::Fenced { current: Some(held.fence) }));
            let mut is = record(&after).clone();
            is.contested = was.contested;
            assert_eq!(is, **was, "{command:?} changed what another has");
        }
    }
    if let Told::Settled(Settled::Fenced { .. } | Settled::Already)
    | Told::Claimed(Claimed::Found(_)) = &first
        && !matches!(command, Command::Settle(Settle::Reassert { .. }))
    {
        assert_eq!(before, after, "{command:?} was refused with a change");
    }
    if let Command::Claim(_) = command
        && stands == Some(State::InFlight)
        && stood != stands
    {
        assert!(matches!(first, Told::Claimed(Claimed::Acquired { .. })));
    }

    let second = history.tell(command);
    assert!(fits_again(command, &first, &second), "{command:?}: {first:?}, then {second:?}");
    assert_eq!(history.entry, after, "{command:?} sent again changed something");
}

/// T6, T12, T13 and T14, and several of them at once.
const fn is_by_time(from: Stands, to: Stands) -> bool {
    use State::{Completed, InFlight, Retryable, Tombstone, Unknown};
    match (from, to) {
        (Stands::In(from), Stands::In(to)) => {
            from as u8 == to as u8
                || matches!((from, to), (InFlight, Unknown) | (Completed, Tombstone))
        }
        (Stands::In(from), Stands::Over(to)) => matches!(
            (from, to),
            (InFlight | Unknown, Unknown)
                | (Completed | Tombstone, Tombstone)
                | (Retryable, Retryable)
        ),
        (Stands::Over(from), Stands::Over(to)) => from as u8 == to as u8,
        (Stands::Over(_), Stands::In(_)) => false,
    }
}

proptest! {
    #[test]
    fn every_history_keeps_the_promises(steps in steps()) {
        let mut history = History::new();
        for step in &steps {
            match step {
                Step::Pass(millis) => {
                    let later = history.now + millis;
                    if let Entry::Record(record) = &history.entry {
                        let was = stands(record, history.now, None);
                        let is = stands(record, later, None);
                        prop_assert!(is_by_time(was, is), "{:?} became {:?}", was, is);
                    }
                    history.now = later;
                }
                Step::Shed => {
                    let stood = history.state();
                    if let Entry::Record(record) = &mut history.entry {
                        **record = shed((**record).clone());
                    }
                    let stands = history.state();
                    prop_assert!(stood == stands || stood == Some(State::Completed));
                }
                step => {
                    if let Some(command) = history.command(step) {
                        check_command(&mut history, &command);
                    }
                }
            }
            if let Entry::Record(record) = &history.entry {
                let left = record.lease_until.saturating_sub(history.now);
                prop_assert!(left <= LEASE_MAX);
                if history.state() == Some(State::InFlight) {
                    prop_assert!(due(record) > history.now, "never swept away at work");
                }
            }
        }
    }

    #[test]
    fn time_moves_a_record_along_its_way_and_never_back(
        steps in steps(),
        times in proptest::collection::vec(0_u64..20_000, 2..12),
    ) {
        let mut history = History::new();
        for step in &steps {
            if let Some(command) = history.command(step) {
                history.tell(&command);
            }
        }
        let Entry::Record(record) = &history.entry else { return Ok(()) };
        let mut times = times;
        times.sort_unstable();
        for (earlier, later) in times.iter().zip(times.iter().skip(1)) {
            let was = stands(record, history.now + earlier, None);
            let is = stands(record, history.now + later, None);
            prop_assert!(is_by_time(was, is), "{:?} became {:?}", was, is);
        }
    }

    /// What is kept for ever, or claimed at the end of time, overflows nothing.
    #[test]
    fn times_saturate(
        now in prop_oneof![Just(NEVER), Just(NEVER - 1), Just(0), NEVER - 700_000..NEVER],
        body in prop_oneof![Just(NEVER), any::<u64>()],
        key in prop_oneof![Just(NEVER), any::<u64>()],
        unknown in prop_oneof![Just(NEVER), any::<u64>()],
        lease in any::<u64>(),
        what in 0_usize..6,
    ) {
        let retention = Retention { body, key, unknown };
        let asked = Claim { retention, lease, ..asked(1, 1) };
        let around = Around { now, next_fence: Fence(7), epoch: None, room: Room::Free };
        let (change, _) = claim(&Entry::Absent, &asked, &around);
        let entry = applied(&Entry::Absent, change);
        let by = record(&entry).claimant;
        let told = match what {
            0 => Settle::Renew { by, lease },
            1 => Settle::Complete { by, answer: answer(200), retention },
            2 => Settle::Doubt { by, doubt: Doubt::Timeout, observed_status: None, retention },
            3 => Settle::Retryable { by, retention },
            4 => Settle::Reassert { by, lease, first_seen: now, attempts: u32::MAX, retention },
            _ => {
                let how = Resolution::Executed { status: 1 };
                Settle::Resolve { expect: by.fence, how, retention }
            }
        };
        let (change, _) = settle(&entry, &told, &around);
        let entry = applied(&entry, change);
        let kept = record(&entry);
        prop_assert!(kept.keep_until >= now && due(kept) >= now.min(kept.body_until));
        if unknown == NEVER && kept.state != State::Completed {
            prop_assert_eq!(kept.keep_until, NEVER);
            prop_assert!(matches!(stands(kept, NEVER, None), Stands::In(_)), "kept for ever");
        }
    }
}
