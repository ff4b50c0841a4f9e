use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use super::super::files::tests::Scene;
use super::*;

/// 2026, in seconds.
const NOW: i64 = 1_795_219_200;

fn made(value: &str, not_after: i64) -> Made<String> {
    let shown = Shown { file: PathBuf::from("/a"), names: Vec::new(), not_after };
    Made { value: value.to_owned(), shown: vec![shown] }
}

fn look(kept: &Kept<String>, file: &Path, make: Result<Made<String>, Vec<Fault>>) -> Option<Swap> {
    let now = UNIX_EPOCH + Duration::from_secs(NOW.unsigned_abs());
    kept.refresh(&Disk::default(), std::iter::once(file), now, |_, _| make)
}

#[test]
fn what_has_a_fault_does_not_take_the_place_of_what_has_none() {
    let scene = Scene::new();
    let file = scene.put("a", "1");
    let fingerprint = Disk::default().fingerprint([file.as_path()]);
    let kept = Kept::new(made("first", NOW + 10), fingerprint);
    // The files are what they were: nothing is made.
    assert_eq!(look(&kept, &file, Ok(made("never", NOW + 10))), None);

    scene.put("a", "2");
    let message = "is broken".to_owned();
    let fault = Fault { key: "cert".to_owned(), message, suggestion: None };
    let swap = look(&kept, &file, Err(vec![fault]));
    assert_eq!(swap, Some(Swap::Rejected("cert: is broken".to_owned())));
    assert_eq!(kept.problem().as_deref(), Some("cert: is broken"));
    assert_eq!(kept.made().value, "first");
    // The same fault is told once.
    assert_eq!(look(&kept, &file, Ok(made("never", NOW + 10))), None);

    scene.put("a", "3");
    assert_eq!(look(&kept, &file, Ok(made("second", NOW + 10))), Some(Swap::Applied));
    assert_eq!((kept.made().value.as_str(), kept.problem()), ("second", None));
}

#[test]
fn a_dead_certificate_takes_the_place_of_a_dead_one_alone() {
    let scene = Scene::new();
    let file = scene.put("a", "1");
    let kept = Kept::new(made("good", NOW), 0);
    let swap = look(&kept, &file, Ok(made("dead", NOW - 1)));
    assert!(matches!(&swap, Some(Swap::Rejected(why)) if why.contains("expired")), "{swap:?}");
    assert_eq!(kept.made().value, "good");

    let kept = Kept::new(made("dead", NOW - 5), 0);
    assert_eq!(look(&kept, &file, Ok(made("less dead", NOW - 1))), Some(Swap::Applied));
}
