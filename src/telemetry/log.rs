//! The process log, on standard error: what starts, changes state or fails, not each request.
//!
//! It is written by the thread that has something to say, so that the last line before a crash is
//! there; the access log, which may be large, has a thread of its own. At level `debug` our own
//! decisions are written, and of the libraries still only warnings.

use std::fmt;
use std::io;

use tracing::Dispatch;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

use crate::config::telemetry::{Format, Level, Log};

/// The process log is already set up; it can be set up once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadySet;

impl fmt::Display for AlreadySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the process log is already set up; change its level through its control")
    }
}

impl std::error::Error for AlreadySet {}

/// Changes the level of the process log while it runs.
#[derive(Clone, Debug)]
pub struct LogControl(reload::Handle<Targets, Registry>);

impl LogControl {
    /// Writes from now on what has at least this level. The form of a line stays as it was set up.
    pub fn set_level(&self, level: Level) {
        if let Err(error) = self.0.reload(targets(level)) {
            tracing::warn!(%error, "the level of the process log could not be changed");
        }
    }
}

/// Sets up the process log of the whole process on standard error.
///
/// # Errors
/// [`AlreadySet`] when it was set up before.
pub fn init(log: &Log) -> Result<LogControl, AlreadySet> {
    let (dispatch, control) = build(log, io::stderr);
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| AlreadySet)?;
    Ok(control)
}

fn build<W>(log: &Log, writer: W) -> (Dispatch, LogControl)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(targets(log.level));
    let filtered = Registry::default().with(filter);
    // A failure to write is not reported: the report would go to the same broken place, and the
    // standard library panics when standard error cannot be written.
    let lines = tracing_subscriber::fmt::layer().log_internal_errors(false).with_writer(writer);
    let dispatch = match log.format {
        Format::Json => Dispatch::new(filtered.with(lines.json().flatten_event(true))),
        Format::Text => Dispatch::new(filtered.with(lines.with_ansi(false))),
    };
    (dispatch, LogControl(handle))
}

/// The least level for our own lines and for those of libraries. What operators change is written
/// whatever the level.
fn targets(level: Level) -> Targets {
    let ours = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    Targets::new()
        .with_default(ours.min(LevelFilter::WARN))
        .with_target("outrigger", ours)
        // A client can make these warn as often as it likes.
        .with_target("h2", LevelFilter::ERROR)
        .with_target("hyper", LevelFilter::ERROR)
        .with_target("audit", LevelFilter::INFO)
}

#[cfg(test)]
mod tests;
