use super::*;

#[test]
fn slips_are_recognised_and_strangers_are_not() {
    let names = ["max_attempts", "timeouts", "upstream", "upstreams", "retry", "on", "host"];
    for (written, meant) in [
        ("max_attempt", Some("max_attempts")),
        ("maxAttempts", Some("max_attempts")),
        ("attempts", Some("max_attempts")),
        ("timeuots", Some("timeouts")),
        ("upstrem", Some("upstream")),
        ("rerty", Some("retry")),
        ("hsot", Some("host")),
        ("zzz", None),
        ("", None),
        ("___", None),
    ] {
        assert_eq!(nearest(written, names), meant, "{written}");
    }
    assert_eq!(nearest(&"a".repeat(65), ["a"]), None);
    assert_eq!(nearest("x", []), None);
}

#[test]
fn a_swap_of_neighbours_is_one_step_and_the_distance_is_symmetric() {
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    for (a, b, steps) in
        [("abcd", "abdc", 1), ("", "abc", 3), ("kitten", "sitting", 3), ("same", "same", 0)]
    {
        assert_eq!(distance(&chars(a), &chars(b)), steps, "{a} {b}");
        assert_eq!(distance(&chars(b), &chars(a)), steps, "{b} {a}");
    }
}
