//! Tests of texts.

use std::time::Duration;

use super::{Ink, Style, number, percent, time};

const PLAIN: Style = Style { colour: false, unicode: true };
const COLOUR: Style = Style { colour: true, unicode: true };

#[test]
fn only_all_is_a_hundred_percent() {
    let cases = [
        (None, "-"),
        (Some(0.0), "0.0%"),
        (Some(0.998), "99.8%"),
        (Some(0.999_99), "99.9%"),
        (Some(1.0), "100%"),
    ];
    for (share, text) in cases {
        assert_eq!(percent(share), text);
    }
}

#[test]
fn a_time_has_the_digits_that_matter() {
    let cases = [
        (0, "0.0 ms"),
        (2_140, "2.1 ms"),
        (9_949, "9.9 ms"),
        (9_950, "10 ms"),
        (214_000, "214 ms"),
        (994_900, "995 ms"),
        (995_000, "1.0 s"),
        (12_340_000, "12.3 s"),
    ];
    for (micros, text) in cases {
        assert_eq!(time(Some(Duration::from_micros(micros))), text);
    }
    assert_eq!(time(None), "-");
}

#[test]
fn thousands_are_apart() {
    let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
    for (value, text) in cases {
        assert_eq!(number(value), text);
    }
}

#[test]
fn bars_show_the_share_of_each_second() {
    let seconds = [Some(1.0), Some(0.0), None, Some(0.5), Some(0.999)];
    assert_eq!(PLAIN.bars(&seconds), "█▁ ▅█");
    assert_eq!(Style { unicode: false, ..PLAIN }.bars(&seconds), "80 47");
    assert_eq!(
        COLOUR.bars(&[Some(1.0), Some(1.0), Some(0.2)]),
        "\x1b[32m██\x1b[0m\x1b[31m▂\x1b[0m"
    );
}

#[test]
fn colour_is_closed_again_and_left_out_where_it_is_not_wanted() {
    assert_eq!(COLOUR.paint(Ink::Bad, "no"), "\x1b[31mno\x1b[0m");
    assert_eq!(COLOUR.paint(Ink::Plain, "no"), "no");
    assert_eq!(PLAIN.paint(Ink::Bad, "no"), "no");
}

#[test]
fn colours_tell_well_from_ill() {
    let inks = [None, Some(1.0), Some(0.99), Some(0.95), Some(0.89)].map(Ink::of);
    assert_eq!(inks, [Ink::Faint, Ink::Good, Ink::Good, Ink::Fair, Ink::Bad]);
}
