use proptest::prelude::*;

use super::*;

fn settings(healthy_after: u32, unhealthy_after: u32) -> Settings {
    Settings { healthy_after, unhealthy_after, ..Settings::default() }
}

#[test]
fn an_unchecked_endpoint_is_healthy() {
    assert!(Health::new().healthy());
    assert_eq!(Health::default(), Health::new());
}

#[test]
fn it_flips_only_after_enough_checks_in_a_row() {
    let settings = settings(2, 3);
    let mut health = Health::new();
    for (step, (good, expected)) in [
        (true, None),
        (false, None),
        (false, None),
        (true, None), // breaks the row
        (false, None),
        (false, None),
        (false, Some(false)),
        (false, None),
        (true, None),
        (false, None), // breaks the row
        (true, None),
        (true, Some(true)),
        (true, None),
        (false, None),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(health.record(&settings, good), expected, "step {step}");
    }
    assert!(health.healthy());
}

#[test]
fn zero_and_one_flip_at_once() {
    for after in [0, 1] {
        let mut health = Health::new();
        assert_eq!(health.record(&settings(after, after), false), Some(false));
        assert!(!health.healthy());
        assert_eq!(health.record(&settings(after, after), true), Some(true));
    }
}

#[test]
fn the_wait_is_spread_by_a_fifth_either_way() {
    let settings = Settings::default();
    assert_eq!(Health::next_wait(&settings, 0.0), Duration::from_secs(4));
    assert_eq!(Health::next_wait(&settings, 0.5), Duration::from_secs(5));
    assert!(Health::next_wait(&settings, 0.999_999) < Duration::from_secs(6));
    let idle = Settings { interval: Period::from_millis(0), ..Settings::default() };
    assert_eq!(Health::next_wait(&idle, 0.5), WAIT_MIN);
}

#[test]
fn status_ranges_include_both_ends() {
    let range: StatusRange = "200 - 204".parse().unwrap();
    let inside: Vec<u16> = (100..=599).filter(|status| range.contains(*status)).collect();
    assert_eq!(inside, [200, 201, 202, 203, 204]);
    let one: StatusRange = "418".parse().unwrap();
    assert!(one.contains(418) && !one.contains(417) && !one.contains(419));
    for (text, printed) in [("200", "200"), ("200-200", "200"), ("200-299", "200-299")] {
        assert_eq!(text.parse::<StatusRange>().unwrap().to_string(), printed);
    }
    for bad in ["", "2xx", "299-200", "99", "600", "200-", "-200", "200-299-300"] {
        assert!(bad.parse::<StatusRange>().is_err(), "{bad}");
    }
}

proptest! {
    /// A flip comes exactly when the last results, as many as needed, all contradict the state.
    #[test]
    fn it_flips_exactly_on_a_full_row(
        healthy_after in 1u32..5,
        unhealthy_after in 1u32..5,
        results in prop::collection::vec(any::<bool>(), 0..100),
    ) {
        let settings = settings(healthy_after, unhealthy_after);
        let mut health = Health::new();
        let mut since_flip = 0;
        for (i, good) in results.iter().enumerate() {
            let before = health.healthy();
            let need = if before { unhealthy_after } else { healthy_after } as usize;
            let row = results[since_flip..=i].iter().rev().take_while(|r| **r != before).count();
            let flipped = health.record(&settings, *good);
            prop_assert_eq!(flipped, (row >= need).then_some(!before));
            prop_assert_eq!(health.healthy(), flipped.unwrap_or(before));
            if flipped.is_some() {
                since_flip = i + 1;
            }
        }
    }
}
