//! The demo: services that break on schedule, the sidecar in front of them, the same traffic
//! through it and past it, and a table that shows the difference.
//!
//! Everything is real, on loopback: servers, sockets, clients, and the proxy as `run` starts it.
//! What is shown of the proxy is read from its state in memory; a newcomer can ask its admin
//! address for the same. Everything that is started here is stopped here.

pub mod folder;
pub mod ink;
pub mod observer;
pub mod report;
pub mod schedule;
pub mod screen;
pub mod service;
pub mod table;
pub mod tally;
pub mod traffic;

use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::folder::{Folder, Ports, Values};
use self::observer::{Event, Observer, Sight};
pub use self::report::Report;
use self::schedule::Schedule;
pub use self::screen::Look;
use self::screen::Screen;
use self::service::Services;
use self::table::{Picture, Way};
use self::traffic::{Rates, Traffic};
use crate::app::{Address, App, Start, StartError};
use crate::clock;
use crate::config::Problem;

/// The time between two looks at the sidecar: shorter than any state that it goes through.
const LOOK: Duration = Duration::from_millis(50);
/// Looks from one drawing to the next.
const DRAW: u32 = 5;
/// Looks from one line in a pipe to the next.
const LINE: u32 = 20;

/// What the demo is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long it runs; `None` = until it is told to end.
    pub runs: Option<Duration>,
    /// The configuration; `None` = the demo's own.
    pub config: Option<PathBuf>,
    /// What goes wrong when.
    pub schedule: Schedule,
    /// How much is sent.
    pub rates: Rates,
    /// Where the sidecar listens.
    pub ports: Ports,
    /// What the output is.
    pub look: Look,
}

impl Options {
    /// The demo as it is meant to be seen, on an output of this look.
    #[must_use]
    pub fn new(look: Look) -> Self {
        Self {
            runs: None,
            config: None,
            schedule: Schedule::standard(),
            rates: Rates { orders: 200, quotes: 30 },
            ports: Ports::usual(),
            look,
        }
    }
}

/// Why the demo cannot run.
#[derive(Debug)]
pub enum Error {
    /// The configuration file cannot be read.
    File(PathBuf, io::Error),
    /// It has problems.
    Config(PathBuf, Vec<Problem>),
    /// Something cannot be started; the text says what.
    Start(String),
    /// The output cannot be written to.
    Output(io::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Self::Config(path, problems) => {
                let path = path.display().to_string();
                problems.iter().try_for_each(|problem| writeln!(f, "{}", problem.in_file(&path)))
            }
            Self::Start(text) => write!(f, "the demo cannot start: {text}"),
            Self::Output(error) => write!(f, "the output cannot be written to: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// Runs the demo until its time is over or `ended` is; writes to `out`, and returns what it
/// measured.
///
/// # Errors
/// When something cannot be started, or the output cannot be written to.
pub async fn run(
    options: &Options,
    out: &mut dyn Write,
    ended: impl Future<Output = ()>,
) -> Result<Report, Error> {
    let system = |error: io::Error| Error::Start(error.to_string());
    let folder = Folder::new().map_err(system)?;
    let began = clock::now();
    let schedule = Arc::new(options.schedule.clone());
    let services = Services::start(Arc::clone(&schedule), began).map_err(system)?;
    let sidecar = sidecar(options, &folder, &services);
    let stage = sidecar.and_then(|(app, file, token)| {
        let address = listener(&app);
        let traffic = address.and_then(|address| {
            Traffic::start(address, &services.orders, options.rates, began)
                .map(|traffic| (traffic, address))
                .map_err(system)
        });
        match traffic {
            Ok((traffic, address)) => Ok((app, file, token, traffic, address)),
            Err(error) => {
                app.stop();
                Err(error)
            }
        }
    });
    let (app, file, token, traffic, address) = match stage {
        Ok(stage) => stage,
        Err(error) => {
            services.stop();
            return Err(error);
        }
    };
    let commands = commands(&app, address, &token);
    let show = Show { options, schedule: &schedule, began, file: &file, commands: &commands };
    let shown = show.run(&app, &services, &traffic, out, ended).await;
    traffic.stop();
    app.stop();
    services.stop();
    shown.map_err(Error::Output)
}

/// Starts the sidecar; returns also its file and the file with the admin token.
fn sidecar(
    options: &Options,
    folder: &Folder,
    services: &Services,
) -> Result<(App, PathBuf, PathBuf), Error> {
    let system = |error: io::Error| Error::Start(error.to_string());
    let token = folder.token().map_err(system)?;
    let file = folder.config(options.config.clone()).map_err(system)?;
    let text = std::fs::read_to_string(&file);
    let text = text.map_err(|error| Error::File(file.clone(), error))?;
    let environment = Box::new(Values::new(services, options.ports, &token));
    let start = Start { environment, ..Start::new(text, Some(file.clone()), None) };
    match App::start(start) {
        Ok(app) => Ok((app, file, token)),
        Err(StartError::Config(problems)) => Err(Error::Config(file, problems)),
        Err(StartError::System(text)) => Err(Error::Start(text)),
    }
}

/// The first address that traffic can be sent to.
fn listener(app: &App) -> Result<SocketAddr, Error> {
    let tcp = app.listeners.iter().find_map(|(_, address)| match address {
        Address::Tcp(address) => Some(*address),
        Address::Unix(_) => None,
    });
    tcp.ok_or_else(|| {
        let text = "its configuration has no listener on a TCP port; give it one";
        Error::Start(text.to_owned())
    })
}

/// What a newcomer may try.
fn commands(app: &App, listener: SocketAddr, token: &Path) -> Vec<String> {
    let mut commands = vec![format!("curl -i {listener}/orders/7")];
    if let Address::Tcp(admin) = app.admin {
        let token = token.display();
        commands.extend([
            format!("curl {admin}/upstreams    or /routes /config /metrics /readyz"),
            format!("curl '{admin}/explain?method=POST&url=http://{listener}/orders'"),
            format!("curl -XPOST {admin}/breakers/orders/orders/isolate \\"),
            format!("  -H \"Authorization: Bearer $(cat {token})\"    then /close"),
        ]);
    }
    commands
}

/// What stays the same while the demo is shown.
struct Show<'a> {
    options: &'a Options,
    schedule: &'a Schedule,
    began: Instant,
    file: &'a Path,
    commands: &'a [String],
}

impl Show<'_> {
    async fn run(
        &self,
        app: &App,
        services: &Services,
        traffic: &Traffic,
        out: &mut dyn Write,
        ended: impl Future<Output = ()>,
    ) -> io::Result<Report> {
        let [first, second, third] = services.orders;
        let names = [("orders-1", first), ("orders-2", second), ("orders-3", third)];
        let mut observer = Observer::new(self.began, &names);
        let mut screen = Screen::new(out);
        let mut ended = pin!(ended);
        let until = self.options.runs.and_then(|runs| self.began.checked_add(runs));
        let every = if self.options.look.terminal { DRAW } else { LINE };
        let mut due = self.began;
        for turn in 0_u32.. {
            due += LOOK;
            tokio::select! {
                () = &mut ended => break,
                () = clock::sleep_until(until.map_or(due, |until| until.min(due))) => {}
            }
            let now = clock::now();
            let sight = observer.look(&app.proxy, &services.arrivals, now);
            if until.is_some_and(|until| now >= until) {
                break;
            }
            // After a pause of the machine the looks go on from now.
            due = due.max(now.checked_sub(LOOK).unwrap_or(now));
            if (turn + 1).is_multiple_of(every) {
                self.draw(&mut screen, &observer, &sight, services, traffic, now)?;
            }
        }
        screen.leave()?;
        let now = clock::now().saturating_duration_since(self.began);
        let sight = observer.look(&app.proxy, &services.arrivals, clock::now());
        let (through, past) = ways(services, traffic, &sight, now);
        let (deeds, reasons) = (observer.deeds(), traffic.board.reasons());
        let report = Report { seconds: now.as_secs_f64(), through, past, deeds, reasons };
        screen.line(report.to_string().trim_end())?;
        Ok(report)
    }

    fn draw(
        &self,
        screen: &mut Screen<'_>,
        observer: &Observer,
        sight: &Sight,
        services: &Services,
        traffic: &Traffic,
        now: Instant,
    ) -> io::Result<()> {
        let since_start = now.saturating_duration_since(self.began);
        let Some(moment) = self.schedule.at(since_start) else { return Ok(()) };
        let (through, past) = ways(services, traffic, sight, since_start);
        let events: Vec<Event> = observer.events().cloned().collect();
        let picture = Picture {
            since_start,
            rate: self.options.rates.orders,
            moment,
            through: &through,
            past: &past,
            quotes: &traffic.board.quotes.lock().recent(since_start),
            sight,
            reasons: &traffic.board.reasons(),
            events: &events,
            file: &self.file.display().to_string(),
            commands: self.commands,
        };
        let look = &self.options.look;
        if look.terminal {
            return screen.draw(&table::table(&picture, look.style, look.rows));
        }
        screen.line(&report::line(&picture))
    }
}

/// Both ways as their clients and the service saw them.
fn ways(services: &Services, traffic: &Traffic, sight: &Sight, now: Duration) -> (Way, Way) {
    let way = |tally: &crate::shared::Shared<tally::Tally>, arrived, arriving| {
        let tally = tally.lock();
        Way {
            recent: tally.recent(now),
            total: tally.total().clone(),
            history: tally.history(now),
            arrived,
            arriving,
        }
    };
    let (board, arrivals) = (&traffic.board, &services.arrivals);
    (
        way(&board.through, arrivals.through(), sight.through),
        way(&board.past, arrivals.past(), sight.past),
    )
}

#[cfg(test)]
mod tests;
