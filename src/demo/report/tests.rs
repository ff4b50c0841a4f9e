//! Tests of the words.

use std::time::Duration;

use super::super::observer::Deeds;
use super::super::table::Way;
use super::super::tally::Tally;
use super::Report;
use crate::telemetry::reason::Reason;

fn way(good: u64, arrived: u64) -> Way {
    let mut tally = Tally::default();
    for number in 0..1000 {
        tally.record(Duration::ZERO, number < good, Duration::from_micros(12));
    }
    Way { total: tally.total().clone(), sent: 1000, arrived, ..Way::default() }
}

#[test]
fn the_totals_tell_what_each_way_came_to_and_what_it_cost_the_service() {
    let report = Report {
        seconds: 42.3,
        through: way(999, 1020),
        past: way(700, 1000),
        deeds: Deeds { retries: 20, ejections: 3, openings: 1 },
        reasons: vec![(Reason::PerTryTimeout, 1)],
    };
    let text = "\
outrigger demo: 42 s
             answered   failed  success      p50      p99   reached the service
  outrigger     1,000        1    99.9%   0.0 ms   0.0 ms       1,020 (x1.02)
  direct        1,000      300    70.0%   0.0 ms   0.0 ms       1,000 (x1.00)
  it retried 20 times, ejected endpoints 3 times, opened circuits 1 times
  it answered by itself: per_try_timeout 1
";
    assert_eq!(report.to_string(), text);
}

#[test]
fn a_demo_that_ended_at_once_has_totals_too() {
    let text = Report::default().to_string();
    assert!(text.contains("direct            0        0        -        -        -"), "{text}");
}
