//! Which methods become labels, and how many.

use super::*;

fn call(path: &str, code: u16) -> Call<'_> {
    Call { path, code, answered: true, duration: Duration::from_millis(3) }
}

/// What is exposed: service, method, code and count.
fn exposed(calls: &CallMetrics) -> Vec<String> {
    let mut samples = Samples::new(Family::RouteCalls);
    calls.emit(&["r"], &mut samples);
    let metrics = samples.finish().map(|family| family.get_metric().to_vec()).unwrap_or_default();
    let line = |metric: &prometheus::proto::Metric| {
        let labels = metric.get_label().iter().skip(1).map(|label| label.value().to_owned());
        let labels: Vec<_> = labels.collect();
        format!("{} {}", labels.join(" "), metric.get_counter().get_value())
    };
    metrics.iter().map(line).collect()
}

#[test]
fn calls_are_counted_by_method_and_code() {
    let calls = CallMetrics::default();
    calls.ended(&call("/a.B/C", 0));
    calls.ended(&call("/a.B/C", 0));
    calls.ended(&call("/a.B/C", 14));
    calls.ended(&call("/a.B/D", 99));
    assert_eq!(exposed(&calls), ["a.B C ok 2", "a.B C unavailable 1", "a.B D unknown 1"]);
}

#[test]
fn names_that_no_upstream_has_confirmed_are_other() {
    let calls = CallMetrics::default();
    calls.ended(&call("/a.B/Guess", 12));
    calls.ended(&Call { answered: false, ..call("/a.B/C", 14) });
    for path in ["/", "/a", "//a", "/a/", "", "/a/\u{e9}"] {
        calls.ended(&call(path, 0));
    }
    let long = format!("/{}/C", "a".repeat(PATH_MAX));
    calls.ended(&call(&long, 0));
    let expected = ["other other ok 7", "other other unimplemented 1", "other other unavailable 1"];
    assert_eq!(exposed(&calls), expected);
    // Once confirmed, its every end counts as its own.
    calls.ended(&call("/a.B/C", 0));
    calls.ended(&Call { answered: false, ..call("/a.B/C", 14) });
    assert_eq!(exposed(&calls)[..2], ["a.B C ok 1", "a.B C unavailable 1"]);
}

#[test]
fn no_more_methods_than_the_bound_are_told_apart() {
    let calls = CallMetrics::default();
    for n in 0..METHODS_MAX + 10 {
        calls.ended(&call(&format!("/a.B/M{n}"), 0));
    }
    let exposed = exposed(&calls);
    assert_eq!(exposed.len(), METHODS_MAX + 1);
    assert_eq!(exposed.last().map(String::as_str), Some("other other ok 10"));
}
