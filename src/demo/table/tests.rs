//! Tests of the table: what it shows, and that it fits.

use std::time::Duration;

use super::super::ink::Style;
use super::super::observer::{BudgetSight, CircuitSight, EndpointSight, Event, Sight};
use super::super::schedule::Schedule;
use super::super::tally::Tally;
use super::{COLUMNS, Picture, ROWS, Way, own_answers, table};
use crate::policy::circuit_breaker::{Breaker, Settings, State, View};
use crate::policy::retry_budget::Balance;
use crate::telemetry::reason::Reason;

const PLAIN: Style = Style { colour: false, unicode: true };
const NOW: Duration = Duration::from_millis(12_600);

/// A way on which in each of the first twelve seconds this share of a hundred requests was good.
fn way(good: u64, latency: Duration, arrived: u64) -> Way {
    let mut tally = Tally::default();
    for number in 0..1200 {
        tally.record(Duration::from_millis(number * 10), number % 100 < good, latency);
    }
    Way {
        recent: tally.recent(NOW),
        total: tally.total().clone(),
        history: tally.history(NOW),
        sent: 1200,
        arrived,
        arriving: 100.0,
    }
}

fn circuit(route: &str, state: State) -> CircuitSight {
    let now = crate::clock::now();
    let view = Breaker::new().view(&Settings::default(), now);
    let next_trial_in = (state == State::Open).then_some(Duration::from_millis(400));
    CircuitSight { route: route.to_owned(), view: View { state, next_trial_in, ..view } }
}

fn sight() -> Sight {
    let endpoint = |name: &str, ejected: Option<u64>| EndpointSight {
        name: name.to_owned(),
        ejected: ejected.map(Duration::from_millis),
    };
    let balance = Balance { ratio_millis: 41_500, floor_millis: 3_000, cap: 80_000 };
    Sight {
        circuits: vec![circuit("orders", State::Open), circuit("quotes", State::Closed)],
        endpoints: vec![endpoint("orders-1", None), endpoint("orders-2", Some(1_800))],
        budgets: vec![BudgetSight { upstream: "orders".to_owned(), balance }],
        retries: 7.4,
        through: 200.0,
        past: 201.0,
        generation: 1,
        refused: None,
    }
}

fn draw(style: Style, rows: usize) -> Vec<String> {
    draw_sight(style, rows, &sight())
}

fn draw_sight(style: Style, rows: usize, sight: &Sight) -> Vec<String> {
    let schedule = Schedule::standard();
    let event = |at, what: &str| Event { at: Duration::from_millis(at), what: what.to_owned() };
    let commands = ["curl -i 127.0.0.1:15001/orders/7".to_owned()];
    let mut quotes = Tally::default();
    for number in 0..150 {
        quotes.record(NOW, number % 3 != 0, Duration::from_millis(3));
    }
    let picture = Picture {
        since_start: NOW,
        rate: 100,
        moment: schedule.at(NOW).unwrap(),
        through: &way(100, Duration::from_millis(4), 1212),
        past: &way(67, Duration::from_millis(1000), 1200),
        quotes: &quotes.recent(NOW),
        sight,
        reasons: &[(Reason::RateLimited, 12), (Reason::CircuitOpen, 1234)],
        events: &[
            event(1_000, "the first, which is not shown"),
            event(9_900, "orders-2 ejected for 2.0 s"),
            event(11_000, "circuit of orders opened: 61% of the attempts failed"),
            event(12_500, &"x".repeat(200)),
        ],
        file: "config/demo.yaml",
        commands: &commands,
    };
    table(&picture, style, rows)
}

#[test]
fn the_table_shows_both_ways_side_by_side_and_what_the_policies_do() {
    let text = draw(PLAIN, 100).join("\n") + "\n";
    assert_eq!(text, include_str!("../../../tests/golden/demo_table.txt"));
}

#[test]
fn the_table_fits_a_usual_terminal() {
    let lines = draw(PLAIN, ROWS);
    assert!(lines.len() <= ROWS, "{} lines", lines.len());
    for line in &lines {
        assert!(line.chars().count() <= COLUMNS, "{line}");
    }
}

#[test]
fn a_low_terminal_gets_the_upper_part_without_gaps() {
    let lines = draw(PLAIN, 10);
    assert_eq!(lines.len(), 10);
    assert!(lines.iter().all(|line| !line.is_empty()));
    assert!(lines[0].contains("outrigger demo"));
}

#[test]
fn colour_changes_nothing_but_colour() {
    let coloured = draw(Style { colour: true, unicode: true }, 100);
    let escapes = regex::Regex::new("\x1b\\[[0-9]*m").unwrap();
    let plain: Vec<String> =
        coloured.iter().map(|line| escapes.replace_all(line, "").into_owned()).collect();
    assert_eq!(plain, draw(PLAIN, 100));
    assert!(coloured.iter().any(|line| line.contains("\x1b[31m")));
}

#[test]
fn without_unicode_every_character_is_ascii() {
    let lines = draw(Style { colour: false, unicode: false }, 100);
    assert!(lines.iter().all(|line| line.is_ascii()), "{lines:#?}");
}

#[test]
fn an_edit_that_was_refused_is_told_of_until_it_is_mended() {
    let refused = Some(format!("44:19: {}", "x".repeat(100)));
    let edits = [(2, None, "configuration 2 is in force"), (2, refused, "refused, see 44:19: xx")];
    for (generation, refused, text) in edits {
        let lines = draw_sight(PLAIN, 100, &Sight { generation, refused, ..sight() });
        let edit = lines.iter().find(|line| line.starts_with(" edit")).unwrap();
        assert!(edit.contains(text) && edit.chars().count() <= COLUMNS, "{edit}");
    }
}

#[test]
fn own_answers_stop_where_the_line_ends() {
    let all: Vec<_> = Reason::ALL.iter().map(|reason| (*reason, 1_000_000)).collect();
    assert!(own_answers(&all).len() <= COLUMNS - 12);
    assert_eq!(own_answers(&[]), "nothing by itself");
}
