//! The demo as a whole, into a buffer, on free ports.

use std::path::PathBuf;
use std::time::Duration;

use super::schedule::{Phase, Schedule, Trouble};
use super::{Error, Look, Options, Ports, Rates, run};

fn options(millis: u64) -> Options {
    let bad = [None, Some(Trouble::Fails), None];
    let phase =
        |millis, what, troubles| Phase { lasts: Duration::from_millis(millis), what, troubles };
    let phases = vec![phase(300, "all is well", [None; 3]), phase(600_000, "orders-2 fails", bad)];
    Options {
        runs: Some(Duration::from_millis(millis)),
        config: Some(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/config/demo.yaml"))),
        schedule: Schedule::new(phases).expect("phases that last"),
        rates: Rates { orders: 100, quotes: 40 },
        ports: Ports::ANY,
        look: Look::pipe(),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn with_an_endpoint_that_fails_more_requests_succeed_through_the_sidecar_than_past_it() {
    let mut out = Vec::new();
    let report = runtime().block_on(run(&options(3200), &mut out, std::future::pending())).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(!text.contains('\x1b'), "escape codes in a pipe: {text}");
    let seconds = text.lines().filter(|line| line.contains(" s  outrigger ")).count();
    assert!((1..=3).contains(&seconds), "{seconds} lines for three seconds: {text}");
    assert!(text.contains("orders-2 fails"), "{text}");
    assert!(text.contains("outrigger demo: 3 s"), "{text}");

    let (through, past) = (&report.through, &report.past);
    assert!(through.total.requests >= 50 && past.total.requests >= 50, "{text}");
    // Past it a third of the requests goes to the endpoint that fails.
    assert!(past.total.failed() > 10, "{text}");
    assert!(through.total.failed() * 3 < past.total.failed(), "{text}");
    // What it costs the service is bounded by the retry budget: a fifth, and three a second.
    let retries = through.sent / 5 + 3 * 5 + 2;
    assert!(through.arrived <= through.sent + retries, "{text}");
    assert!(past.arrived <= past.sent);
    assert!(text.contains("rate_limited"), "{text}");
}

#[test]
fn it_ends_when_it_is_told_to_and_still_gives_its_totals() {
    let mut out = Vec::new();
    let options = Options { runs: None, ..options(0) };
    runtime().block_on(run(&options, &mut out, std::future::ready(()))).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("outrigger demo: 0 s\n"), "{text}");
}

#[test]
fn a_terminal_is_given_back_as_it_was_when_the_end_comes() {
    let mut out = Vec::new();
    let look = Look { terminal: true, ..Look::pipe() };
    let options = Options { look, ..options(700) };
    runtime().block_on(run(&options, &mut out, std::future::pending())).unwrap();
    let text = String::from_utf8(out).unwrap();
    let (enter, leave) = (text.find("\x1b[?1049h"), text.find("\x1b[?1049l"));
    assert!(enter.is_some() && enter < leave, "{text:?}");
    let after = &text[leave.unwrap()..];
    assert!(text.contains("\x1b[?25h") && text.contains("\x1b[?7h"));
    assert!(after.contains("outrigger demo: "), "the totals are not on the user's own screen");
}

#[test]
fn an_output_that_is_gone_ends_it() {
    struct Gone;
    impl std::io::Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let options = Options { runs: None, ..options(0) };
    let ended = runtime().block_on(run(&options, &mut Gone, std::future::pending()));
    let Err(Error::Output(error)) = ended else { panic!("it went on: {ended:?}") };
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}

#[test]
fn a_file_that_is_not_there_or_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.yaml");
    let options = Options { config: Some(file.clone()), ..options(100) };
    let error = runtime().block_on(run(&options, &mut Vec::new(), std::future::pending()));
    let text = error.unwrap_err().to_string();
    assert!(text.starts_with(&format!("cannot read {}", file.display())), "{text}");
    std::fs::write(&file, "listeners: []\nrouts: []\n").unwrap();
    let error = runtime().block_on(run(&options, &mut Vec::new(), std::future::pending()));
    let text = error.unwrap_err().to_string();
    assert!(text.contains("mine.yaml:2:1: "), "{text}");
}
