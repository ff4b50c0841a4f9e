use std::sync::mpsc;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A log whose thread, for each batch, says what it got and then waits to be told to go on.
struct Gated {
    log: AccessLog,
    dropped: Arc<Counter>,
    got: mpsc::Receiver<(AccessLogTo, String)>,
    go: mpsc::Sender<io::Result<()>>,
}

fn gated() -> Gated {
    let (say, got) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    let dropped = Arc::new(Counter::default());
    let sink = Box::new(move |to, lines: &[u8]| {
        say.send((to, String::from_utf8(lines.to_vec()).unwrap())).unwrap();
        wait.recv().unwrap_or(Ok(()))
    });
    let log = AccessLog::with_sink(AccessLogTo::Stdout, Arc::clone(&dropped), sink).unwrap();
    Gated { log, dropped, got, go }
}

fn broken() -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::BrokenPipe))
}

#[test]
fn lines_gather_while_the_thread_is_busy_and_arrive_in_order() {
    let gated = gated();
    gated.log.shared.offer("1\n");
    assert_eq!(gated.got.recv().unwrap().1, "1\n");
    for line in ["2\n", "3\n", "4\n"] {
        gated.log.shared.offer(line);
    }
    gated.go.send(Ok(())).unwrap();
    assert_eq!(gated.got.recv().unwrap().1, "2\n3\n4\n");
    gated.go.send(Ok(())).unwrap();
    assert!(gated.log.close(PATIENCE));
    assert_eq!(gated.dropped.get(), 0);
}

#[test]
fn what_does_not_fit_is_dropped_and_counted_and_nobody_waits() {
    let gated = gated();
    gated.log.shared.offer("first\n");
    gated.got.recv().unwrap();
    let half = format!("{}\n", "x".repeat(WAITING_MAX / 2 - 1));
    gated.log.shared.offer(&half);
    gated.log.shared.offer(&half);
    gated.log.shared.offer("too much\n");
    gated.log.shared.offer("\n");
    assert_eq!(gated.dropped.get(), 2);
    gated.go.send(Ok(())).unwrap();
    assert_eq!(gated.got.recv().unwrap().1.len(), WAITING_MAX);
    gated.log.shared.offer("fits again\n");
    gated.go.send(Ok(())).unwrap();
    assert_eq!(gated.got.recv().unwrap().1, "fits again\n");
    gated.go.send(Ok(())).unwrap();
    assert!(gated.log.close(PATIENCE));
    assert_eq!(gated.dropped.get(), 2);
}

#[test]
fn lines_that_cannot_be_written_are_counted_one_by_one() {
    let gated = gated();
    gated.log.shared.offer("1\n");
    gated.got.recv().unwrap();
    gated.log.shared.offer("2\n");
    gated.log.shared.offer("3\n");
    gated.go.send(broken()).unwrap();
    gated.got.recv().unwrap();
    gated.go.send(broken()).unwrap();
    assert!(gated.log.close(PATIENCE));
    assert_eq!(gated.dropped.get(), 3);
}

#[test]
fn closing_writes_what_waits_takes_no_more_and_does_not_wait_for_ever() {
    let gated = gated();
    gated.log.shared.offer("1\n");
    gated.got.recv().unwrap();
    gated.log.shared.offer("2\n");
    assert!(!gated.log.close(Duration::ZERO), "the thread is still held");
    gated.log.shared.offer("3\n");
    assert_eq!(gated.dropped.get(), 1);
    gated.go.send(Ok(())).unwrap();
    assert_eq!(gated.got.recv().unwrap().1, "2\n");
    gated.go.send(Ok(())).unwrap();
    assert!(gated.log.close(PATIENCE));
    assert!(gated.log.close(Duration::ZERO), "closing twice is allowed");
}

#[test]
fn dropping_the_log_ends_its_thread() {
    let Gated { log, got, go, .. } = gated();
    log.shared.offer("1\n");
    drop(log);
    drop(go);
    assert_eq!(got.recv().unwrap().1, "1\n");
    // The thread owned the other end.
    assert!(got.recv().is_err());
}

#[test]
fn the_destination_can_be_changed() {
    let gated = gated();
    gated.log.shared.offer("1\n");
    assert_eq!(gated.got.recv().unwrap().0, AccessLogTo::Stdout);
    gated.log.set_destination(AccessLogTo::Stderr);
    gated.log.shared.offer("2\n");
    gated.go.send(Ok(())).unwrap();
    assert_eq!(gated.got.recv().unwrap(), (AccessLogTo::Stderr, "2\n".to_owned()));
    gated.go.send(Ok(())).unwrap();
    assert!(gated.log.close(PATIENCE));
}

#[test]
fn lines_of_two_threads_are_not_mixed() {
    let (say, got) = mpsc::channel();
    let sink = Box::new(move |_, lines: &[u8]| {
        say.send(String::from_utf8(lines.to_vec()).unwrap()).unwrap();
        Ok(())
    });
    let dropped = Arc::new(Counter::default());
    let log = AccessLog::with_sink(AccessLogTo::Stdout, Arc::clone(&dropped), sink).unwrap();
    std::thread::scope(|scope| {
        for thread in ["aaaa", "bbbb"] {
            let shared = &log.shared;
            scope.spawn(move || (0..1000).for_each(|_| shared.offer(&format!("{thread}\n"))));
        }
    });
    assert!(log.close(PATIENCE));
    drop(log);
    let text: String = got.iter().collect();
    assert_eq!(text.lines().count(), 2000);
    assert!(text.lines().all(|line| line == "aaaa" || line == "bbbb"));
    assert_eq!(dropped.get(), 0);
}
