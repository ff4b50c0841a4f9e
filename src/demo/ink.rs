//! Texts as a terminal shows them: numbers in a fixed width, and colour where it is wanted.

use std::time::Duration;

/// What a terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether it may have escape codes for colour.
    pub colour: bool,
    /// Whether it may have characters beyond ASCII.
    pub unicode: bool,
}

/// The look of a piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// As it is.
    Plain,
    /// What the eye should find first.
    Strong,
    /// What it may pass over.
    Faint,
    /// Green.
    Good,
    /// Yellow.
    Fair,
    /// Red.
    Bad,
}

/// From this share of good requests on, all is well.
const WELL: f64 = 0.99;
/// Below this share, little is.
const ILL: f64 = 0.9;

impl Ink {
    /// The colour of a share of good requests.
    #[must_use]
    pub fn of(success: Option<f64>) -> Self {
        match success {
            None => Self::Faint,
            Some(share) if share >= WELL => Self::Good,
            Some(share) if share >= ILL => Self::Fair,
            Some(_) => Self::Bad,
        }
    }

    /// The code for it (ECMA-48, 8.3.117).
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "1",
            Self::Faint => "2",
            Self::Good => "32",
            Self::Fair => "33",
            Self::Bad => "31",
        }
    }
}

impl Style {
    /// The text in this look.
    #[must_use]
    pub fn paint(self, ink: Ink, text: &str) -> String {
        if !self.colour || ink == Ink::Plain || text.trim().is_empty() {
            return text.to_owned();
        }
        format!("\x1b[{}m{text}\x1b[0m", ink.code())
    }

    /// One character for each second: how large the share of good requests was.
    #[must_use]
    pub fn bars(self, seconds: &[Option<f64>]) -> String {
        const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let mut text = String::new();
        let mut run = String::new();
        let mut ink = Ink::Plain;
        for second in seconds {
            let next = Ink::of(*second);
            if next != ink {
                text.push_str(&self.paint(ink, &run));
                run.clear();
                ink = next;
            }
            let step = second.map(|share| (share * STEPS.len() as f64) as usize);
            run.push(match step {
                None => ' ',
                Some(step) if self.unicode => {
                    STEPS.get(step).copied().unwrap_or(STEPS[STEPS.len() - 1])
                }
                Some(step) => char::from_digit(step as u32, 10).unwrap_or('8'),
            });
        }
        text.push_str(&self.paint(ink, &run));
        text
    }
}

/// A share in percent. Rounded down, so that 100% means all.
#[must_use]
pub fn percent(share: Option<f64>) -> String {
    match share {
        None => "-".to_owned(),
        Some(share) if share >= 1.0 => "100%".to_owned(),
        // The small addition keeps 0.998, which binary cannot hold, from becoming 99.7.
        Some(share) => format!("{:.1}%", (share * 1000.0 + 1e-9).floor() / 10.0),
    }
}

/// A length of time in two or three digits.
#[must_use]
pub fn time(length: Option<Duration>) -> String {
    let Some(length) = length else { return "-".to_owned() };
    match length.as_secs_f64() * 1000.0 {
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 995.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    }
}

/// A number with its thousands apart.
#[must_use]
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
