//! Where the demo is shown: a terminal that is drawn in place and left as it was found, or a pipe.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use super::ink::Style;
use super::table::ROWS;

/// Another screen, no cursor, no wrapping of long lines (xterm's 1049, DEC's 25 and 7).
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
/// Back again.
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// What the output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether it is a terminal that can be drawn on.
    pub terminal: bool,
    /// What it can show.
    pub style: Style,
    /// How many lines it has.
    pub rows: usize,
}

impl Look {
    /// What standard output is. Honours `NO_COLOR`, `TERM=dumb` and the locale's character set.
    #[must_use]
    pub fn of_stdout() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
        let locale = locale.unwrap_or_default().to_ascii_lowercase();
        let unicode = locale.contains("utf-8") || locale.contains("utf8");
        let terminal = io::IsTerminal::is_terminal(&io::stdout()) && !dumb;
        let style = Style { colour: terminal && set("NO_COLOR").is_none(), unicode };
        let mut look = Self { terminal, style, rows: ROWS };
        look.measure();
        look
    }

    /// A pipe.
    #[must_use]
    pub const fn pipe() -> Self {
        Self { terminal: false, style: Style { colour: false, unicode: false }, rows: ROWS }
    }

    /// Takes in the size of the terminal. The standard library cannot ask for it; `stty`, which
    /// every system with terminals has, can.
    pub fn measure(&mut self) {
        if !self.terminal {
            return;
        }
        let stty = Command::new("stty").arg("size").stdin(Stdio::inherit()).output();
        let size = stty.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let rows = size.ok().and_then(|size| size.split_whitespace().next()?.parse().ok());
        self.rows = rows.filter(|rows| *rows > 0).unwrap_or(ROWS);
    }
}

/// A terminal that is drawn in place; dropped, it is as it was before.
pub struct Screen<'a> {
    out: &'a mut dyn Write,
    drawn: bool,
}

impl<'a> Screen<'a> {
    /// An output that nothing was drawn on.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, drawn: false }
    }

    /// Draws lines over those before. Each is put at its place, so that one too many cannot scroll.
    ///
    /// # Errors
    /// When the output cannot be written to.
    pub fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let mut text = String::new();
        if !std::mem::replace(&mut self.drawn, true) {
            text.push_str(ENTER);
        }
        for (at, line) in lines.iter().enumerate() {
            text.push_str(&format!("\x1b[{};1H{line}\x1b[K", at + 1));
        }
        text.push_str("\x1b[J");
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Writes a line.
    ///
    /// # Errors
    /// When the output cannot be written to.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }

    /// Gives the terminal back as it was.
    ///
    /// # Errors
    /// When the output cannot be written to.
    pub fn leave(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.drawn) {
            self.out.write_all(LEAVE.as_bytes())?;
            self.out.flush()?;
        }
        Ok(())
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        // An output that is gone needs no restoring.
        let _ = self.leave();
    }
}
