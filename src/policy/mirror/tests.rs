use super::*;

fn settings(share: u32) -> Settings {
    Settings {
        upstream: "m".to_owned(),
        share: Ratio::percent(share),
        max_body: small(),
        max_concurrent: 2,
    }
}

#[test]
fn the_share_is_drawn() {
    assert!(settings(100).draws(0.999_999));
    assert!(!settings(0).draws(0.0));
    let drawn = (0..1000).filter(|n| settings(5).draws(f64::from(*n) / 1000.0)).count();
    assert_eq!(drawn, 50);
}

#[test]
fn places_are_bounded() {
    assert_eq!([0, 1, 2, 3].map(|n| settings(1).has_place(n)), [true, true, false, false]);
}

#[test]
fn the_first_reason_that_holds_is_told() {
    let skip = |is_copy, is_retry, trial, short| {
        settings(1).skip(&Request { is_copy, is_retry, trial, short })
    };
    assert_eq!(skip(false, false, false, false), None);
    assert_eq!(skip(true, true, true, true), Some(Skip::Copy));
    assert_eq!(skip(false, true, true, true), Some(Skip::Retry));
    assert_eq!(skip(false, false, true, true), Some(Skip::Trial));
    assert_eq!(skip(false, false, false, true), Some(Skip::Overload));
}

#[test]
fn each_result_has_its_place_and_spelling() {
    let mut spellings = std::collections::BTreeSet::new();
    for (place, result) in Copied::ALL.into_iter().enumerate() {
        assert_eq!(result.index(), place, "{result:?}");
        assert!(spellings.insert(result.as_str()), "{result:?}");
    }
}
