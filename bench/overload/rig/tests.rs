use std::time::{Duration, Instant};

use super::ledger::{Fate, Ledger};
use super::plan::{At, Change, Class};
use super::tally::{Ending, Tally, quantile};
use super::third_party::Bucket;
use super::wire::{Failure, Head};
use outrigger::clock;
use outrigger::units::Rate;

const SECOND: Duration = Duration::from_secs(1);

fn origin() -> Instant {
    clock::now()
}

#[test]
fn options_say_when_and_what() {
    let change: At<Change> = "20s:die".parse().unwrap();
    assert_eq!((change.at, change.what), (20 * SECOND, Change::Die));
    let step: At<Rate> = "500ms:3600/s".parse().unwrap();
    assert_eq!((step.at, step.what.per_second()), (SECOND / 2, 3600.0));
    for wrong in ["die", "20:die", "20s:dye", "20s"] {
        assert!(wrong.parse::<At<Change>>().is_err(), "{wrong}");
    }
}

#[test]
fn a_class_says_share_path_and_fields() {
    let class: Class = "big:4.8%:path=/a,x-tier=gold,x-id=caller*3".parse().unwrap();
    assert_eq!((class.name.as_str(), class.share, class.numbers), ("big", 0.048, 3));
    let bytes = String::from_utf8(class.bytes(2, "x-more: 1\r\n")).unwrap();
    let fields = "host: upstream\r\nx-more: 1\r\nx-tier: gold\r\nx-id: caller2\r\n\r\n";
    assert_eq!(bytes, format!("GET /a HTTP/1.1\r\n{fields}"));
    for wrong in ["big", "big:half", "big:5%:x-id", "big:5%:x-id=caller*0", "big:5%:x-id=a*b"] {
        assert!(wrong.parse::<Class>().is_err(), "{wrong}");
    }
}

#[test]
fn a_quantile_is_one_of_the_times_and_not_passed_by_its_share() {
    let times: Vec<u32> = (1..=100).map(|ms| ms * 1000).collect();
    assert_eq!(quantile(&times, 0.5), Some(50.0));
    assert_eq!(quantile(&times, 0.99), Some(99.0));
    assert_eq!(quantile(&times, 0.999), Some(100.0));
    assert_eq!(quantile(&times[..1], 0.5), Some(1.0));
    assert_eq!(quantile(&[], 0.5), None);
}

#[test]
fn requests_count_by_the_second_and_part_of_their_arrival() {
    let (mut tally, took) = (Tally::default(), Duration::from_millis(1500));
    tally.add(0, SECOND / 2, took, 1, Ending::Good);
    tally.add(1, SECOND, took, 4, Ending::Late);
    tally.add(0, SECOND * 3 / 2, took, 2, Ending::Refused("503 shed".to_owned()));
    let names = ["a".to_owned(), "b".to_owned()];
    let report = tally.report(&names, &[Duration::ZERO, SECOND, 2 * SECOND]);
    let (first, second) = (&report["parts"][0]["all"], &report["parts"][1]["all"]);
    assert_eq!((&first["good"], &first["offered"]), (&1.into(), &1.into()));
    assert_eq!(first["p99_ms"], 1500.0);
    assert_eq!((&second["good"], &second["sent"]), (&0.into(), &6.into()));
    assert_eq!((&second["late"], &second["refused"]["503 shed"]), (&1.into(), &1.into()));
    assert_eq!(report["parts"][1]["classes"]["b"]["offered"], 1);
    assert_eq!(report["seconds"]["a"]["sent"], serde_json::json!([1, 2]));
}

#[test]
fn the_first_request_begins_the_first_second_of_a_ledger() {
    let (ledger, start) = (Ledger::default(), origin());
    assert!(ledger.count(Fate::Arrived, start));
    assert!(!ledger.count(Fate::Done, start + SECOND));
    let report = ledger.report();
    assert_eq!((&report["arrived"], &report["done"]), (&1.into(), &1.into()));
    assert_eq!(report["seconds"]["done"], serde_json::json!([0, 1]));
}

#[test]
fn a_third_party_serves_its_rate_and_a_tenth_of_a_second_at_once() {
    let start = origin();
    let mut bucket = Bucket::new(50.0, start);
    let at_once = (0..20).filter(|_| bucket.take(start)).count();
    let in_ten_seconds =
        (1..=10_000).filter(|ms| bucket.take(start + Duration::from_millis(*ms))).count();
    assert_eq!(at_once, 5);
    assert!((499..=500).contains(&in_ten_seconds), "{in_ten_seconds}");
}

#[test]
fn an_answer_is_read_by_its_length() {
    let head = b"HTTP/1.1 503 Busy\r\nX-Outrigger-Reason: shed\r\nContent-Length: 3\r\n\r\n";
    assert!(Head::parse(&head[..head.len() - 1]).is_ok_and(|head| head.is_none()));
    let found = Head::parse(head).unwrap().unwrap();
    assert_eq!((found.answer.status, found.answer.reason.as_deref()), (503, Some("shed")));
    assert_eq!((found.keep, found.end), (true, head.len() + 3));
    let closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    assert!(!Head::parse(closing).unwrap().unwrap().keep);
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(Head::parse(chunked).err(), Some(Failure::Unreadable));
}
