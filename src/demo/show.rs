//! Looks at what runs, again and again, and shows it until the end.

use std::future::Future;
use std::io::{self, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Options;
use super::observer::{Event, Observer, Sight};
use super::report::{self, Report};
use super::screen::{Look, Screen};
use super::stage::Stage;
use super::table::{self, Picture, Way};
use super::tally::Tally;
use crate::app::Address;
use crate::clock;
use crate::shared::Shared;

/// The time between two looks at the sidecar: shorter than any state that it goes through.
const LOOK: Duration = Duration::from_millis(50);
/// Looks from one drawing to the next.
const DRAW: u32 = 5;
/// Looks from one line in a pipe to the next.
const LINE: u32 = 20;

/// Shows the stage until its time is over or `ended` is.
///
/// # Errors
/// When the output cannot be written to.
pub async fn show(
    options: &Options,
    stage: &Stage,
    out: &mut dyn Write,
    ended: impl Future<Output = ()>,
) -> io::Result<Report> {
    let [first, second, third] = stage.services.orders;
    let names = [("orders-1", first), ("orders-2", second), ("orders-3", third)];
    let mut observer = Observer::new(stage.began, &names);
    let mut look = options.look;
    let mut screen = Screen::new(out);
    let commands = commands(stage);
    let until = options.runs.and_then(|runs| stage.began.checked_add(runs));
    let every = if look.terminal { DRAW } else { LINE };
    let mut resizes = signal(SignalKind::window_change()).ok().filter(|_| look.terminal);
    let mut ended = pin!(ended);
    let mut due = stage.began;
    for turn in 1_u32.. {
        due += LOOK;
        tokio::select! {
            () = &mut ended => break,
            () = resized(&mut resizes) => look.measure(),
            () = clock::sleep_until(until.map_or(due, |until| until.min(due))) => {}
        }
        let now = clock::now();
        if until.is_some_and(|until| now >= until) {
            break;
        }
        // After a pause of the machine the looks go on from now.
        due = due.max(now.checked_sub(LOOK).unwrap_or(now));
        let sight = observer.look(&stage.app.proxy, &stage.services.arrivals, now);
        if turn.is_multiple_of(every) {
            let events: Vec<Event> = observer.events().cloned().collect();
            let seen = Seen { sight: &sight, events: &events, commands: &commands };
            draw(options, stage, &mut screen, look, &seen, now)?;
        }
    }
    screen.leave()?;
    let now = clock::now();
    let sight = observer.look(&stage.app.proxy, &stage.services.arrivals, now);
    let now = now.saturating_duration_since(stage.began);
    let (through, past) = ways(stage, &sight, now);
    let (deeds, reasons) = (observer.deeds(), stage.traffic.board.reasons());
    let report = Report { seconds: now.as_secs_f64(), through, past, deeds, reasons };
    screen.line(report.to_string().trim_end())?;
    Ok(report)
}

/// What was seen before a drawing.
struct Seen<'a> {
    sight: &'a Sight,
    events: &'a [Event],
    commands: &'a [String],
}

fn draw(
    options: &Options,
    stage: &Stage,
    screen: &mut Screen<'_>,
    look: Look,
    seen: &Seen<'_>,
    now: Instant,
) -> io::Result<()> {
    let since_start = now.saturating_duration_since(stage.began);
    let Some(moment) = options.schedule.at(since_start) else { return Ok(()) };
    let (through, past) = ways(stage, seen.sight, since_start);
    let picture = Picture {
        since_start,
        rate: options.rates.orders,
        moment,
        through: &through,
        past: &past,
        quotes: &stage.traffic.board.quotes.lock().recent(since_start),
        sight: seen.sight,
        reasons: &stage.traffic.board.reasons(),
        events: seen.events,
        file: &stage.file.display().to_string(),
        commands: seen.commands,
    };
    if look.terminal {
        return screen.draw(&table::table(&picture, look.style, look.rows));
    }
    screen.line(&report::line(&picture))
}

/// Both ways as their clients and the service saw them.
fn ways(stage: &Stage, sight: &Sight, now: Duration) -> (Way, Way) {
    let (board, arrivals) = (&stage.traffic.board, &stage.services.arrivals);
    let way = |tally: &Shared<Tally>, arrived, arriving| {
        let tally = tally.lock();
        Way {
            recent: tally.recent(now),
            total: tally.total().clone(),
            history: tally.history(now),
            sent: board.sent(),
            arrived,
            arriving,
        }
    };
    (
        way(&board.through, arrivals.through(), sight.through),
        way(&board.past, arrivals.past(), sight.past),
    )
}

/// Waits until the terminal has another size; for ever when there is none.
async fn resized(resizes: &mut Option<Signal>) {
    if let Some(resizes) = resizes
        && resizes.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// What a newcomer may try.
fn commands(stage: &Stage) -> Vec<String> {
    let mut commands = vec![format!("curl -i {}/orders/7", stage.listener)];
    if let Address::Tcp(admin) = stage.app.admin {
        commands.extend([
            format!("curl {admin}/upstreams  or /routes /config /metrics"),
            format!("curl '{admin}/explain?method=POST&url=http://orders/orders'"),
            format!("curl -XPOST {admin}/breakers/orders/orders/isolate \\"),
            format!("  -H \"Authorization: Bearer $(cat {})\"", stage.token.display()),
        ]);
    }
    commands
}
