//! What must hold after every step, and which transition a step was.

use crate::steps::{Setting, Step};
use crate::store::{Kept, standing};
use crate::world::{GRACE, LEASE, NOW, RESOLVED, Say, Sending, World, status_of};
use outrigger::policy::idempotency::record::State;

/// The transition that the step was an instance of, and the property that it breaks.
pub(crate) fn check(
    setting: &Setting,
    before: &World,
    step: Step,
    after: &World,
) -> (Option<&'static str>, Option<&'static str>) {
    let (seen, lawful) = match transition(setting, before, step, after) {
        Ok(seen) => (seen, None),
        Err(()) => (None, Some("a record changes by T1 to T14 only")),
    };
    let broken = lawful
        .or_else(|| executions(setting, after))
        .or_else(|| sendings(setting, before, step))
        .or_else(|| answers(after))
        .or_else(|| leases(after))
        .or_else(|| strangers(before, step, after))
        .or_else(|| fences(before, after));
    (seen, broken)
}

/// The table of transitions once more, as one sees them from outside.
fn transition(
    setting: &Setting,
    before: &World,
    step: Step,
    after: &World,
) -> Result<Option<&'static str>, ()> {
    use State::{Completed, InFlight, Retryable, Tombstone, Unknown};
    let was = standing(before.record);
    let is = standing(after.record);
    let say = match step {
        Step::Tick => {
            return match (was, is) {
                (was, is) if was == is => Ok(None),
                (Some(InFlight), Some(Unknown)) => Ok(Some("T6")),
                (Some(Completed), Some(Tombstone)) => Ok(Some("T12")),
                (Some(Tombstone), None) => Ok(Some("T13")),
                (Some(Unknown | Retryable), None) => Ok(Some("T14")),
                _ => Err(()),
            };
        }
        Step::Forget => return Ok(Some("forgotten")),
        Step::Arrive { message, .. } => message.say,
        _ if before.record == after.record => return Ok(None),
        _ => return Err(()),
    };
    let newer = after.fences > before.fences;
    match (say, was, is) {
        (Say::Claim, None, Some(InFlight)) if newer => Ok(Some("T1")),
        (Say::Claim, Some(Retryable), Some(InFlight)) if newer => Ok(Some("T8")),
        (Say::Claim, Some(Unknown), Some(InFlight)) if newer && setting.redispatch => {
            let grace_over = before.record.is_some_and(|was| NOW >= was.lease_until + GRACE);
            grace_over.then_some(Some("T9")).ok_or(())
        }
        (_, was, is) if was == is && !newer => {
            Ok((say == Say::Renew && before.record != after.record).then_some("T2"))
        }
        (Say::Complete, Some(InFlight), Some(Completed)) => Ok(Some("T3")),
        (Say::Release, Some(InFlight | Unknown), None) => Ok(Some("T4")),
        (Say::Doubt, Some(InFlight), Some(Unknown)) => Ok(Some("T5")),
        (Say::Retryable, Some(InFlight | Unknown), Some(Retryable)) => Ok(Some("T7")),
        (Say::Complete, Some(Unknown), Some(Completed)) => Ok(Some("T10")),
        (Say::Executed, Some(Unknown), Some(Completed)) => Ok(Some("T11 executed")),
        (Say::NotExecuted, Some(Unknown), None) => Ok(Some("T11 not executed")),
        (Say::Complete, None, Some(Completed))
        | (Say::Doubt, None, Some(Unknown))
        | (Say::Reassert, None, Some(InFlight)) => Ok(Some("said again")),
        _ => Err(()),
    }
}

fn executions(setting: &Setting, after: &World) -> Option<&'static str> {
    let excused = setting.redispatch || (after.forgot && !setting.guarded);
    (!excused && after.executions() > 1).then_some("nothing is executed twice without proof")
}

fn sendings(setting: &Setting, before: &World, step: Step) -> Option<&'static str> {
    // Where a live claim was forgotten, two have a lease at once.
    if before.forgot && !setting.guarded {
        return None;
    }
    let Step::Send(at) = step else { return None };
    let own = before.proxies[at].fence;
    let newer = before.sendings().all(|(fence, _)| fence < own);
    (!newer).then_some("every further sending has a larger fence")
}

/// What the record says was answered, was.
fn answers(after: &World) -> Option<&'static str> {
    let kept = after.record?;
    let is = standing(after.record)?;
    let told = matches!(is, State::Completed | State::Tombstone);
    let executed = after.sending(kept.fence) == Sending::Executed;
    let true_word = kept.status == status_of(kept.fence) && executed
        || kept.status == RESOLVED && after.executions() > 0;
    (told && !true_word).then_some("only what was executed is completed")
}

fn leases(after: &World) -> Option<&'static str> {
    let in_flight = standing(after.record) == Some(State::InFlight);
    (in_flight && NOW >= after.heard + LEASE)
        .then_some("nothing is in flight for longer than a lease after its owner's last word")
}

fn fences(before: &World, after: &World) -> Option<&'static str> {
    let was = before.record.filter(|_| standing(before.record).is_some())?;
    let is = after.record?;
    let fewer = after.fences < before.fences || is.fence < was.fence;
    let again = was.nonce != is.nonce && is.fence == was.fence;
    (fewer || again).then_some("fences rise")
}

/// A word of whoever does not hold the record changes nothing of it.
fn strangers(before: &World, step: Step, after: &World) -> Option<&'static str> {
    let Step::Arrive { message, .. } = step else { return None };
    let was = before.record.filter(|_| standing(before.record).is_some())?;
    let operator = matches!(message.say, Say::Executed | Say::NotExecuted);
    let holds = was.fence == message.fence && (operator || was.nonce == message.nonce);
    let same = after.record.is_some_and(|is| {
        // That two had a claim at once is noted.
        let contested = message.say == Say::Reassert && is.contested;
        is == was || contested && Kept { contested: was.contested, ..is } == was
    });
    (message.say != Say::Claim && !holds && !same)
        .then_some("who does not hold a record changes nothing of it")
}
