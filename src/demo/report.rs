//! The demo in words: one line a second for those who do not watch, and the totals at the end.

use super::ink::{number, percent, time};
use super::observer::Deeds;
use super::table::{Picture, Way, own_answers};
use crate::policy::circuit_breaker::State;
use crate::telemetry::reason::Reason;

/// What the demo measured.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How long it ran, in seconds.
    pub seconds: f64,
    /// Requests through the sidecar.
    pub through: Way,
    /// Requests past it.
    pub past: Way,
    /// What the policies did.
    pub deeds: Deeds,
    /// Answers of the sidecar's own.
    pub reasons: Vec<(Reason, u64)>,
}

/// One second in one line, the last five in its numbers.
#[must_use]
pub fn line(picture: &Picture<'_>) -> String {
    let way = |way: &Way| {
        let latency = &way.recent.latency;
        format!("{:>6} p99 {:>6}", percent(way.recent.success()), time(latency.quantile(0.99)))
    };
    let sight = picture.sight;
    let mut notes = Vec::new();
    for seen in sight.circuits.iter().filter(|seen| seen.view.state != State::Closed) {
        notes.push(format!("circuit of {} {}", seen.route, seen.view.state.as_str()));
    }
    for seen in sight.endpoints.iter().filter(|seen| seen.ejected.is_some()) {
        notes.push(format!("{} ejected", seen.name));
    }
    if sight.retries >= 0.5 {
        notes.push(format!("retries {:.0}/s", sight.retries));
    }
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
    format!(
        "{:>4} s  outrigger {}  direct {}  {}{notes}",
        picture.since_start.as_secs(),
        way(picture.through),
        way(picture.past),
        picture.moment.phase.what,
    )
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "outrigger demo: {:.0} s", self.seconds)?;
        writeln!(
            f,
            "  {:10}{:>9}{:>9}{:>9}{:>9}{:>9}   reached the service",
            "", "answered", "failed", "success", "p50", "p99"
        )?;
        for (name, way) in [("outrigger", &self.through), ("direct", &self.past)] {
            let total = &way.total;
            let load = way.per_request().unwrap_or_default();
            writeln!(
                f,
                "  {name:10}{:>9}{:>9}{:>9}{:>9}{:>9}{:>12} (x{load:.2})",
                number(total.requests),
                number(total.failed()),
                percent(total.success()),
                time(total.latency.quantile(0.5)),
                time(total.latency.quantile(0.99)),
                number(way.arrived),
            )?;
        }
        let Deeds { retries, ejections, openings } = self.deeds;
        writeln!(
            f,
            "  it retried {} times, ejected endpoints {} times, opened circuits {} times",
            number(retries),
            number(ejections),
            number(openings),
        )?;
        if !self.reasons.is_empty() {
            writeln!(f, "  it answered {}", own_answers(&self.reasons))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
