use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::*;

const SOON: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_is_not_begun() {
    let (thread, asked) = sync_channel(4);
    let reply: Reply<u8> = ask(&thread, clock::now() + SOON, true, |ticket| ticket);
    drop(reply);
    assert!(asked.recv().unwrap().take(clock::now()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_question_that_was_not_begun_in_time_is_not_applied() {
    let (thread, asked) = sync_channel(4);
    let reply: Reply<u8> = ask(&thread, clock::now() + SOON, true, |ticket| ticket);
    // Time is paused, so waiting makes the deadline come.
    let fault = reply.await.unwrap_err();
    assert!(matches!(&fault, Fault::NotApplied(cause) if cause.kind == Kind::Timeout), "{fault}");
    assert!(asked.recv().unwrap().take(clock::now()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_change_that_was_begun_and_not_answered_in_time_is_ambiguous() {
    for (changes, lost) in [(true, false), (true, true), (false, false), (false, true)] {
        let (thread, asked) = sync_channel(4);
        let reply: Reply<u8> = ask(&thread, clock::now() + SOON, changes, |ticket| ticket);
        let mut ticket = asked.recv().unwrap().take(clock::now());
        assert!(ticket.is_some());
        if lost {
            ticket = None;
        }
        let fault = reply.await.unwrap_err();
        assert_eq!(matches!(&fault, Fault::Ambiguous(_)), changes, "{fault}");
        assert_eq!(fault.cause().kind, if lost { Kind::Io } else { Kind::Timeout });
        drop(ticket);
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_too_late_or_finds_no_place_is_refused_at_once() {
    let (thread, asked) = sync_channel(1);
    let late: Reply<u8> = ask(&thread, clock::now(), true, |ticket| ticket);
    assert_eq!(late.await.unwrap_err().cause().kind, Kind::Timeout);
    let _first: Reply<u8> = ask(&thread, clock::now() + SOON, true, |ticket| ticket);
    let second: Reply<u8> = ask(&thread, clock::now() + SOON, true, |ticket| ticket);
    assert_eq!(second.await.unwrap_err().cause().kind, Kind::Busy);
    drop(asked);
    let third: Reply<u8> = ask(&thread, clock::now() + SOON, true, |ticket| ticket);
    assert_eq!(third.await.unwrap_err().cause().kind, Kind::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn an_answer_arrives() {
    let (thread, asked) = sync_channel(1);
    let reply: Reply<u8> = ask(&thread, clock::now() + SOON, true, |ticket| ticket);
    asked.recv().unwrap().take(clock::now()).unwrap().answer(Ok(7));
    assert_eq!(reply.await, Ok(7));
}
