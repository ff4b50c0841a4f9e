#![expect(clippy::disallowed_methods, reason = "any instant will do to count from")]

use std::time::{Duration, Instant, SystemTime};

use proptest::prelude::*;

use super::Settings;
use super::directives::Directives;
use super::freshness::{Arrival, Exchange, Times, Use, storable};
use super::validators::Validators;
use crate::units::Period;

mod reference;
mod store;

fn read(line: &str) -> Directives {
    Directives::read([line.as_bytes()])
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn directives_are_read_as_lists_with_quotes_and_in_any_case() {
    let read_all = read("No-Store, PRIVATE=\"set-cookie, x\" ,max-age = \"60\",, public;x");
    assert!(read_all.no_store && read_all.private && !read_all.public);
    assert_eq!(read_all.max_age, Some(seconds(60)));
    let quoted = read("no-cache=\"a, no-store, \\\", public\"");
    assert!(quoted.no_cache && !quoted.no_store && !quoted.public);
    let lines = Directives::read([&b"max-age=60"[..], b"max-age=5, proxy-revalidate"]);
    assert_eq!(lines.max_age, Some(seconds(5)), "the stricter one");
    assert!(lines.must_revalidate);
    assert_eq!(read("max-age=-1").max_age, Some(seconds(0)));
    assert_eq!(read("max-age").max_age, Some(seconds(0)));
    assert_eq!(read("max-age=99999999999999999999999").max_age, Some(seconds(1 << 31)));
    assert_eq!(read("max-stale").max_stale, Some(Duration::MAX));
    assert_eq!(read("max-stale=3, min-fresh=2, min-fresh=4").min_fresh, Some(seconds(4)));
    assert_eq!(read("s-maxage=7, stale-if-error=8").s_maxage, Some(seconds(7)));
    assert_eq!(read(""), Directives::default());
    assert_eq!(read("no-transform, immutable, x=\"unclosed"), Directives::default());
}

fn plain() -> Exchange {
    Exchange { get: true, status: 200, ..Exchange::default() }
}

#[test]
fn what_a_shared_cache_may_not_keep_is_not_kept() {
    assert!(storable(&plain()));
    let answers = ["no-store", "private", "no-cache", "public, no-store", "private=\"a\""];
    for line in answers {
        assert!(!storable(&Exchange { answer: read(line), ..plain() }), "{line}");
    }
    assert!(!storable(&Exchange { request: read("no-store"), ..plain() }));
    assert!(storable(&Exchange { request: read("no-cache"), ..plain() }), "it is newer than ours");
    assert!(!storable(&Exchange { get: false, ..plain() }));
    for status in [203, 204, 206, 301, 304, 404, 500] {
        assert!(!storable(&Exchange { status, ..plain() }), "{status}");
    }
    assert!(!storable(&Exchange { vary_any: true, ..plain() }));
    assert!(!storable(&Exchange { set_cookie: true, ..plain() }));
    assert!(!storable(&Exchange { partial: true, ..plain() }));
    let cookie = Exchange { cookie: true, ..plain() };
    assert!(!storable(&cookie) && storable(&Exchange { vary_cookie: true, ..cookie }));
    for (line, kept) in
        [("", false), ("max-age=9", false), ("must-revalidate", false), ("public", true)]
    {
        let exchange = Exchange { authorization: true, answer: read(line), ..plain() };
        assert_eq!(storable(&exchange), kept, "{line}");
    }
    let shared = Exchange { authorization: true, answer: read("s-maxage=9"), ..plain() };
    assert!(storable(&shared), "RFC 9111, 3.5");
}

/// An answer that took `delay`, with these fields relative to the time of day at which it came.
fn arrival(delay: u64, date: Option<i64>, expires: Option<i64>, age: Option<u64>) -> Arrival {
    let asked = Instant::now();
    let wall = SystemTime::UNIX_EPOCH + seconds(1_700_000_000);
    let at = |offset: i64| {
        let by = seconds(offset.unsigned_abs());
        if offset < 0 { wall - by } else { wall + by }
    };
    Arrival {
        asked,
        received: asked + seconds(delay),
        received_wall: wall,
        date: date.map(at),
        expires: expires.map(at),
        age: age.map(seconds),
    }
}

#[test]
fn age_is_that_of_rfc_9111() {
    // (delay, Date, Age, seconds since) -> age
    let cases = [
        ((0, None, None, 0), 0),
        ((0, None, None, 7), 7),
        ((2, Some(0), Some(10), 5), 17),
        ((2, Some(-30), Some(10), 5), 35),
        ((3, Some(-2), None, 0), 3),
        ((0, Some(60), None, 4), 4),
        ((0, Some(-1), Some(u64::MAX), 1), u64::MAX),
    ];
    for ((delay, date, age, since), wanted) in cases {
        let arrival = arrival(delay, date, None, age);
        let times = Times::new(&arrival, &Directives::default());
        let found = times.age(arrival.received + seconds(since)).as_secs();
        assert_eq!(found, wanted, "{delay} {date:?} {age:?} {since}");
    }
}

fn settings(stale_if_error: u64) -> Settings {
    Settings { stale_if_error: Period::from_secs(stale_if_error), ..Settings::default() }
}

/// What becomes of an answer that came at once with this line, so many seconds later.
fn judged(answer: &str, request: &str, later: u64) -> Use {
    let arrival = arrival(0, Some(0), None, None);
    let times = Times::new(&arrival, &read(answer));
    times.judge(&settings(300), &read(request), arrival.received + seconds(later))
}

#[test]
fn an_answer_is_used_while_fresh_and_then_for_the_shortest_of_the_windows() {
    assert_eq!(judged("", "", 0), Use::Stale(seconds(0)), "no heuristic");
    assert_eq!(judged("", "", 300), Use::Stale(seconds(300)));
    assert_eq!(judged("", "", 301), Use::Expired);
    assert_eq!(judged("max-age=60", "", 59), Use::Fresh(seconds(1)));
    assert_eq!(judged("max-age=60", "", 60), Use::Stale(seconds(0)));
    assert_eq!(judged("max-age=60", "", 360), Use::Stale(seconds(300)));
    assert_eq!(judged("max-age=60", "", 361), Use::Expired);
    assert_eq!(judged("max-age=60, stale-if-error=10", "", 70), Use::Stale(seconds(10)));
    assert_eq!(judged("max-age=60, stale-if-error=10", "", 71), Use::Expired);
    assert_eq!(judged("max-age=60, stale-if-error=9999", "", 361), Use::Expired);
    for line in ["must-revalidate", "proxy-revalidate"] {
        let line = format!("max-age=60, {line}");
        assert_eq!(judged(&line, "", 59), Use::Fresh(seconds(1)), "{line}");
        assert_eq!(judged(&line, "", 60), Use::Expired, "{line}");
    }
    assert_eq!(judged("max-age=900, s-maxage=60", "", 60), Use::Expired, "RFC 9111, 5.2.2.10");
}

#[test]
fn an_answer_is_over_when_no_request_can_use_it() {
    let arrival = arrival(0, Some(0), None, None);
    let over = |line: &str, later| {
        Times::new(&arrival, &read(line)).is_over(&settings(300), arrival.received + seconds(later))
    };
    assert!(!over("max-age=60", 360) && over("max-age=60", 361));
    assert!(!over("max-age=60, must-revalidate", 59) && over("max-age=60, must-revalidate", 60));
}

#[test]
fn a_304_speaks_of_what_has_its_validator() {
    let of = |etag: &'static str, modified: &'static str| Validators {
        etag: Some(etag.as_bytes()).filter(|tag| !tag.is_empty()),
        modified: Some(modified.as_bytes()).filter(|date| !date.is_empty()),
    };
    // (304, kept) -> whether it confirms
    let cases = [
        (("\"a\"", ""), ("\"a\"", "x"), true),
        (("\"a\"", "x"), ("\"b\"", "x"), false),
        (("\"a\"", ""), ("W/\"a\"", ""), false),
        (("W/\"a\"", ""), ("\"a\"", ""), true),
        (("W/\"a\"", ""), ("W/\"b\"", ""), false),
        (("\"a\"", "x"), ("", "x"), false),
        (("", "x"), ("\"a\"", "x"), true),
        (("", "x"), ("", "y"), false),
        (("", ""), ("", ""), true),
        (("", ""), ("\"a\"", ""), false),
    ];
    for ((etag, modified), (kept_etag, kept_modified), wanted) in cases {
        let kept = of(kept_etag, kept_modified);
        assert_eq!(of(etag, modified).confirm(&kept), wanted, "{etag} {modified} {kept:?}");
    }
}

#[test]
fn the_request_may_want_less() {
    let unwanted = |request: &str, later| judged("max-age=60", request, later) == Use::Unwanted;
    assert!(unwanted("no-cache", 1) && unwanted("no-cache", 100));
    assert!(unwanted("max-age=0", 1) && unwanted("max-age=10", 11) && !unwanted("max-age=10", 10));
    assert!(unwanted("max-age=1000", 61), "nothing stale");
    assert!(!unwanted("max-age=1000, max-stale", 61));
    assert!(!unwanted("max-age=1000, stale-if-error=5", 61));
    assert!(unwanted("max-stale=5", 66) && !unwanted("max-stale=5", 65));
    assert!(unwanted("stale-if-error=5", 66) && !unwanted("stale-if-error=5", 65));
    assert!(unwanted("min-fresh=10", 51) && !unwanted("min-fresh=10", 50));
}

#[test]
fn expires_counts_from_the_date_and_only_without_max_age() {
    let until = |date, expires, line: &str| {
        let arrival = arrival(0, date, expires, None);
        let times = Times::new(&arrival, &read(line));
        match times.judge(&settings(300), &Directives::default(), arrival.received) {
            Use::Fresh(left) => Some(left.as_secs()),
            _ => None,
        }
    };
    assert_eq!(until(Some(0), Some(90), ""), Some(90));
    assert_eq!(until(Some(-30), Some(60), ""), Some(60), "90 long, of which 30 are gone");
    assert_eq!(until(None, Some(90), ""), Some(90));
    assert_eq!(until(Some(0), Some(-5), ""), None);
    assert_eq!(until(Some(0), Some(90), "max-age=20"), Some(20));
}

proptest! {
    #[test]
    fn no_bytes_break_the_reading_of_directives(
        line in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let once = Directives::read([line.as_slice()]);
        prop_assert_eq!(once, Directives::read([line.as_slice(), line.as_slice()]));
    }

    #[test]
    fn age_grows_with_time_and_an_expired_answer_stays_expired(
        delay in 0_u64..100, date in -1000_i64..1000, age in 0_u64..1000, max_age in 0_u64..500,
        first in 0_u64..1000, more in 0_u64..1000,
    ) {
        let arrival = arrival(delay, Some(date), None, Some(age));
        let times = Times::new(&arrival, &read(&format!("max-age={max_age}")));
        let at = |later: u64| arrival.received + seconds(later);
        let (early, late) = (times.age(at(first)), times.age(at(first + more)));
        prop_assert!(early >= seconds(age + delay) && late == early + seconds(more));
        let judge = |later| times.judge(&settings(100), &Directives::default(), at(later));
        if judge(first) == Use::Expired {
            prop_assert_eq!(judge(first + more), Use::Expired);
        }
        if let Use::Stale(since) = judge(first) {
            prop_assert!(since <= seconds(100) && since + seconds(max_age) == early);
        }
    }
}
