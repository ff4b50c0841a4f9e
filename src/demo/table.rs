//! The table as lines of text: a pure function of what was seen. It fits 80 columns and 24 lines.

use std::time::Duration;

use super::ink::{Ink, Style, number, percent, time};
use super::observer::{CircuitSight, EndpointSight, Event, Sight};
use super::schedule::Moment;
use super::tally::{Count, covered};
use crate::policy::circuit_breaker::State;
use crate::telemetry::reason::Reason;

/// Lines of a terminal of the usual size.
pub const ROWS: usize = 24;
/// Columns of a terminal of the usual size.
const COLUMNS: usize = 80;
/// Events that are shown.
const EVENTS: usize = 3;

/// One way of sending requests, as its clients saw it.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// The last seconds.
    pub recent: Count,
    /// All since the start.
    pub total: Count,
    /// The share of good requests second by second, oldest first.
    pub history: Vec<Option<f64>>,
    /// Requests that were sent since the start, answered or not.
    pub sent: u64,
    /// Requests that reached the service since the start.
    pub arrived: u64,
    /// The same in a second.
    pub arriving: f64,
}

impl Way {
    /// How many requests reached the service for each that a client sent.
    #[must_use]
    pub fn per_request(&self) -> Option<f64> {
        (self.sent > 0).then(|| self.arrived as f64 / self.sent as f64)
    }
}

/// What the table shows.
pub struct Picture<'a> {
    /// Time since the start.
    pub since_start: Duration,
    /// Orders a second, each way.
    pub rate: u32,
    /// Where in the schedule we are.
    pub moment: Moment<'a>,
    /// Requests through the sidecar.
    pub through: &'a Way,
    /// Requests past it.
    pub past: &'a Way,
    /// Requests to `quotes` in the last seconds.
    pub quotes: &'a Count,
    /// The sidecar.
    pub sight: &'a Sight,
    /// The sidecar's own answers.
    pub reasons: &'a [(Reason, u64)],
    /// What happened, oldest first.
    pub events: &'a [Event],
    /// The configuration file.
    pub file: &'a str,
    /// Commands to try.
    pub commands: &'a [String],
}

/// The table in at most this many lines; what is least important goes first.
#[must_use]
pub fn table(picture: &Picture<'_>, style: Style, rows: usize) -> Vec<String> {
    let mut lines = head(picture, style);
    lines.push(String::new());
    lines.extend(ways(picture, style));
    lines.push(String::new());
    lines.extend(policies(picture, style));
    lines.push(String::new());
    lines.extend(events(picture, style));
    lines.push(String::new());
    lines.extend(hints(picture, style));
    while lines.len() > rows {
        match lines.iter().rposition(String::is_empty) {
            Some(blank) => drop(lines.remove(blank)),
            None => lines.truncate(rows),
        }
    }
    lines
}

fn head(picture: &Picture<'_>, style: Style) -> Vec<String> {
    let what = format!("{} requests a second through outrigger and past it", picture.rate);
    let clock = format!("{} s", picture.since_start.as_secs());
    let title = "outrigger demo";
    let space = COLUMNS.saturating_sub(title.len() + what.len() + clock.len() + 5);
    let moment = &picture.moment;
    let left = moment.left.as_secs_f64().ceil();
    let left = format!("  {left:.0} s more");
    let ink = if moment.phase.troubles.iter().any(Option::is_some) { Ink::Bad } else { Ink::Good };
    vec![
        format!(
            " {}  {}{}{clock}",
            style.paint(Ink::Strong, title),
            style.paint(Ink::Faint, &what),
            " ".repeat(space)
        ),
        format!(
            " now        {}{}",
            style.paint(ink, moment.phase.what),
            style.paint(Ink::Faint, &left)
        ),
        style.paint(Ink::Faint, &format!(" then       {}", moment.next.what)),
    ]
}

fn ways(picture: &Picture<'_>, style: Style) -> Vec<String> {
    let rule = if style.unicode { "─" } else { "-" };
    let over = format!(
        " {:10}{} last 5 s {}   {} since the start {}",
        "",
        rule.repeat(11),
        rule.repeat(11),
        rule.repeat(8),
        rule.repeat(8)
    );
    let names = format!(
        " {:10}{:>8}{:>8}{:>8}{:>8}   {:>9}{:>8}{:>8}{:>8}",
        "", "success", "p50", "p99", "load/s", "requests", "success", "p99", "load"
    );
    let mut lines = vec![style.paint(Ink::Faint, &over), style.paint(Ink::Faint, &names)];
    let rows = [("outrigger", picture.through), ("direct", picture.past)];
    for (name, way) in rows {
        let (recent, total) = (&way.recent, &way.total);
        let share = |count: &Count| {
            let text = format!("{:>8}", percent(count.success()));
            style.paint(Ink::of(count.success()), &text)
        };
        let load = way.per_request().map_or("-".to_owned(), |load| format!("x{load:.2}"));
        lines.push(format!(
            " {}{}{:>8}{:>8}{:>8.0}   {:>9}{}{:>8}{load:>8}",
            style.paint(Ink::Strong, &format!("{name:10}")),
            share(recent),
            time(recent.latency.quantile(0.5)),
            time(recent.latency.quantile(0.99)),
            way.arriving,
            number(total.requests),
            share(total),
            time(total.latency.quantile(0.99)),
        ));
    }
    for (name, way) in rows {
        lines.push(format!(" {name:10} {}", style.bars(&way.history)));
    }
    lines
}

fn policies(picture: &Picture<'_>, style: Style) -> Vec<String> {
    let sight = picture.sight;
    let join = |parts: Vec<String>| parts.join("   ");
    let circuits = sight.circuits.iter().map(|seen| circuit(seen, style)).collect();
    let endpoints = sight.endpoints.iter().map(|seen| endpoint(seen, style)).collect();
    let budgets = sight.budgets.iter().map(|seen| {
        let balance = seen.balance;
        let saved = (balance.ratio_millis + balance.floor_millis) / 1000;
        format!("{} has {saved} more in its budget", seen.upstream)
    });
    let mut retries = vec![format!("{:.0}/s", sight.retries)];
    retries.extend(budgets);
    let (quotes, over) = (picture.quotes, covered(picture.since_start).as_secs_f64());
    let each = |count: u64| if over > 0.0 { count as f64 / over } else { 0.0 };
    let (asked, passed) = (each(quotes.requests), each(quotes.good));
    let passed = format!("{asked:.0}/s asked, {passed:.0}/s pass its rate limit");
    vec![
        format!(" circuits   {}", join(circuits)),
        format!(" endpoints  {}", join(endpoints)),
        format!(" retries    {}", join(retries)),
        format!(" quotes     {passed}"),
        format!(" answered   {}", own_answers(picture.reasons)),
    ]
}

fn circuit(seen: &CircuitSight, style: Style) -> String {
    let state = seen.view.state;
    let (ink, more) = match state {
        State::Closed => (Ink::Good, String::new()),
        State::Open => {
            let left = seen.view.next_trial_in.unwrap_or_default().as_secs_f64();
            (Ink::Bad, format!(", trial in {left:.1} s"))
        }
        State::HalfOpen => (Ink::Fair, ", on trial".to_owned()),
        State::Ramping => {
            let share = seen.view.ramp_share.unwrap_or_default() * 100.0;
            (Ink::Fair, format!(", {share:.0}% passes"))
        }
        State::Isolated => (Ink::Bad, " by hand".to_owned()),
    };
    format!("{} {}", seen.route, style.paint(ink, &format!("{}{more}", state.as_str())))
}

fn endpoint(seen: &EndpointSight, style: Style) -> String {
    let (ink, state) = match seen.ejected {
        None => (Ink::Good, "in".to_owned()),
        Some(left) => (Ink::Bad, format!("ejected, {:.1} s", left.as_secs_f64())),
    };
    format!("{} {}", seen.name, style.paint(ink, &state))
}

/// The sidecar's own answers, most frequent first, as many as fit in the line.
#[must_use]
pub fn own_answers(reasons: &[(Reason, u64)]) -> String {
    if reasons.is_empty() {
        return "nothing by itself".to_owned();
    }
    let mut reasons = reasons.to_vec();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut text = "by itself:".to_owned();
    for (reason, count) in reasons {
        let part = format!(" {} {}", reason.as_str(), number(count));
        if text.len() + part.len() > COLUMNS - 12 {
            break;
        }
        text.push_str(&part);
    }
    text
}

fn events(picture: &Picture<'_>, style: Style) -> Vec<String> {
    let skip = picture.events.len().saturating_sub(EVENTS);
    let shown = picture.events.iter().skip(skip);
    let mut lines: Vec<String> = shown
        .map(|event| {
            let at = format!("{:>8.1} s", event.at.as_secs_f64());
            let room = COLUMNS - 13;
            let what: String = event.what.chars().take(room).collect();
            format!(" {}  {what}", style.paint(Ink::Faint, &at))
        })
        .collect();
    // The lines below keep their place while the first events come in.
    lines.resize(EVENTS, " ".to_owned());
    lines
}

fn hints(picture: &Picture<'_>, style: Style) -> Vec<String> {
    let sight = picture.sight;
    let (ink, state) = match (&sight.refused, sight.generation) {
        (Some(why), _) => (Ink::Bad, format!("  refused, see {why}")),
        (None, 0 | 1) => (Ink::Faint, "  and save: it is obeyed at once".to_owned()),
        (None, number) => (Ink::Good, format!("  configuration {number} is in force")),
    };
    let room = COLUMNS.saturating_sub(12 + picture.file.chars().count());
    let state: String = state.chars().take(room).collect();
    let file = style.paint(Ink::Strong, picture.file);
    let mut lines = vec![format!(" edit       {file}{}", style.paint(ink, &state))];
    for (at, command) in picture.commands.iter().enumerate() {
        let label = if at == 0 { "try" } else { "" };
        lines.push(format!(" {label:10} {command}"));
    }
    lines
}

#[cfg(test)]
mod tests;
