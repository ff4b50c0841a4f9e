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
pub mod show;
pub mod stage;
pub mod table;
pub mod tally;
pub mod traffic;

use std::future::Future;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use self::folder::Ports;
pub use self::report::Report;
use self::schedule::Schedule;
pub use self::screen::Look;
use self::stage::Stage;
use self::traffic::Rates;
use crate::config::Problem;

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

/// Runs the demo until its time is over or `ended` is; writes to `out` and returns what it
/// measured.
///
/// # Errors
/// When something cannot be started, or the output cannot be written to.
pub async fn run(
    options: &Options,
    out: &mut dyn Write,
    ended: impl Future<Output = ()>,
) -> Result<Report, Error> {
    let stage = Stage::start(options)?;
    let report = show::show(options, &stage, out, ended).await;
    stage.stop();
    report.map_err(Error::Output)
}

#[cfg(test)]
mod tests;
