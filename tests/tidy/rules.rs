//! The rules that need no table: sizes, clocks, unwraps, names and texts that must not be here.

use super::source::{File, Problem, Token, mask, tokens};

/// Lines in a file of Rust; a longer one holds two subjects.
pub(crate) const FILE_LINES: usize = 500;
/// Lines from `fn` to the closing brace.
pub(crate) const FUNCTION_LINES: usize = 70;
/// Characters in a line, as in `.rustfmt.toml`.
pub(crate) const COLUMNS: usize = 100;

/// The folders of Rust that is ours.
const OURS: [&str; 3] = ["src/", "tests/", "bench/"];

/// What may stand at the top of the repository, besides dot files.
const TOP_LEVEL: [&str; 11] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "bench",
    "config",
    "docker",
    "src",
    "target",
    "tests",
];

/// Words that name nothing: the file says what it holds, or it holds too much.
const EMPTY_WORDS: [&str; 10] =
    ["manager", "managers", "helper", "helpers", "util", "utils", "common", "data", "info", "misc"];

/// Words that leave work in the tree. Written in halves, so that this file passes its own rule.
const LEFT_OVER: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];

/// Paths and addresses of one machine, likewise in halves.
const MACHINE: [&str; 8] = [
    concat!("/wo", "rk/"),
    concat!("/tm", "p/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("shared", "/design"),
    concat!("py", "pi.org"),
    concat!("deb.", "debian.org"),
    concat!("registry.", "npmjs.org"),
];

/// Runs every rule of this file on one file of the repository.
pub(crate) fn check(file: &File, problems: &mut Vec<Problem>) {
    names(file, problems);
    texts(file, problems);
    columns(file, problems);
    if file.is_rust() && OURS.iter().any(|folder| file.path.starts_with(folder)) {
        size(file, problems);
        code(file, problems);
        functions(file, problems);
    }
}

fn names(file: &File, problems: &mut Vec<Problem>) {
    let mut report = |what: String| problems.push(Problem::new(&file.path, 1, what));
    let top = file.path.split('/').next().unwrap_or_default();
    if !top.starts_with('.') && !TOP_LEVEL.contains(&top) {
        report(format!("`{top}` is not part of the top level; move it into a folder that is"));
    }
    for word in file.path.split(['/', '_', '-', '.']) {
        if EMPTY_WORDS.contains(&word) {
            report(format!("`{word}` in a file's name says nothing; name what the file holds"));
        }
    }
}

fn texts(file: &File, problems: &mut Vec<Problem>) {
    if ["Cargo.lock", "LICENSE"].contains(&file.path.as_str()) {
        return;
    }
    for (at, line) in file.text.lines().enumerate() {
        let mut report = |what: String| problems.push(Problem::new(&file.path, at + 1, what));
        for word in LEFT_OVER {
            if contains_word(line, word) {
                report(format!("`{word}` leaves work behind; do it, or open an issue"));
            }
        }
        for text in MACHINE {
            if let Some(found) = line.find(text) {
                let before = line[..found].chars().next_back();
                if !before.is_some_and(|c| c.is_alphanumeric() || "._-~*/$}".contains(c)) {
                    report(format!("`{text}` is of one machine; name it relative to the root"));
                }
            }
        }
    }
}

fn contains_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

fn columns(file: &File, problems: &mut Vec<Problem>) {
    if ![".rs", ".sh", ".py"].iter().any(|kind| file.path.ends_with(kind)) {
        return;
    }
    for (at, line) in file.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS {
            let what = format!("{columns} columns, more than {COLUMNS}; break the line");
            problems.push(Problem::new(&file.path, at + 1, what));
        }
    }
}

fn size(file: &File, problems: &mut Vec<Problem>) {
    let lines = file.text.lines().count();
    if lines > FILE_LINES {
        let what = format!("{lines} lines, more than {FILE_LINES}; split it by subject");
        problems.push(Problem::new(&file.path, FILE_LINES + 1, what));
    }
    if file.path.starts_with("src/") && !file.is_test() && !file.text.starts_with("//!") {
        let what = "starts without `//!`; say what the file does and what it does not";
        problems.push(Problem::new(&file.path, 1, what));
    }
}

/// A run of tokens that code must not hold, where, and what to do instead.
struct Ban {
    tokens: &'static [&'static str],
    applies: fn(&File) -> bool,
    instead: &'static str,
}

/// A test may read the clock once it has told clippy why, as for an origin of made-up times.
const NOT_CLOCK: fn(&File) -> bool = |file| {
    let reasoned = file.is_test() && file.text.contains("expect(clippy::disallowed_methods");
    file.path != "src/clock.rs" && !reasoned
};
const NOT_TEST: fn(&File) -> bool = |file| !file.is_test();
const ANY: fn(&File) -> bool = |_| true;

const BANS: &[Ban] = &[
    Ban {
        tokens: &["Instant", "::", "now"],
        applies: NOT_CLOCK,
        instead: "take `now` as an argument, or call `clock::now()`",
    },
    Ban {
        tokens: &["SystemTime", "::", "now"],
        applies: NOT_CLOCK,
        instead: "take the time as an argument, or call `clock::wall_now()`",
    },
    Ban {
        tokens: &[".", "unwrap", "(", ")"],
        applies: NOT_TEST,
        instead: "return the error, or give the value for the case that cannot be",
    },
    Ban {
        tokens: &[".", "expect", "("],
        applies: NOT_TEST,
        instead: "return the error, or give the value for the case that cannot be",
    },
    Ban {
        tokens: &["thread", "::", "sleep"],
        applies: ANY,
        instead: "wait for the event itself, with a limit",
    },
    Ban {
        tokens: &["time", "::", "sleep"],
        applies: |file| file.is_test(),
        instead: "wait for the event itself, with a limit",
    },
    Ban { tokens: &["#", "[", "ignore"], applies: ANY, instead: "mend the test or take it out" },
];

fn code(file: &File, problems: &mut Vec<Problem>) {
    let code = mask(&file.text);
    let tokens = tokens(&code);
    for ban in BANS.iter().filter(|ban| (ban.applies)(file)) {
        for (at, found) in tokens.windows(ban.tokens.len()).enumerate() {
            let same = found.iter().map(|token| token.text).eq(ban.tokens.iter().copied());
            if same && !in_constant(&tokens[..at]) {
                let tokens = ban.tokens.concat();
                let what = format!("`{tokens}` is not for here; {}", ban.instead);
                problems.push(Problem::new(&file.path, found[0].line, what));
            }
        }
    }
}

/// Whether the statement that these tokens begin is a `const` item, which fails with the build.
fn in_constant(before: &[Token<'_>]) -> bool {
    let start = before.iter().rposition(|token| ["{", "}", ";"].contains(&token.text));
    let statement = &before[start.map_or(0, |at| at + 1)..];
    statement.windows(2).any(|pair| pair[0].text == "const" && pair[1].text != "fn")
}

fn functions(file: &File, problems: &mut Vec<Problem>) {
    let code = mask(&file.text);
    let tokens = tokens(&code);
    for (at, pair) in tokens.windows(2).enumerate() {
        if pair[0].text != "fn" || !pair[1].is_name() {
            continue;
        }
        let Some(end) = body_end(&tokens[at..]) else { continue };
        let lines = end - pair[0].line + 1;
        if lines > FUNCTION_LINES {
            let what = format!(
                "`{}` has {lines} lines, more than {FUNCTION_LINES}; give its parts names",
                pair[1].text
            );
            problems.push(Problem::new(&file.path, pair[0].line, what));
        }
    }
}

/// The line of the brace that closes the function; nothing for one without a body.
fn body_end(tokens: &[Token<'_>]) -> Option<usize> {
    let (mut braces, mut brackets) = (0_usize, 0_usize);
    for token in tokens {
        match token.text {
            "(" | "[" => brackets += 1,
            ")" | "]" => brackets = brackets.saturating_sub(1),
            ";" if braces == 0 && brackets == 0 => return None,
            "{" => braces += 1,
            "}" => {
                braces = braces.checked_sub(1)?;
                if braces == 0 && brackets == 0 {
                    return Some(token.line);
                }
            }
            _ => {}
        }
    }
    None
}

/// Every file below `tests/golden` is named by a test, or it proves nothing.
pub(crate) fn golden(files: &[File], problems: &mut Vec<Problem>) {
    for file in files {
        let Some(name) = file.path.strip_prefix("tests/golden/") else { continue };
        let mut tests = files.iter().filter(|other| other.is_rust() && other.is_test());
        if !tests.any(|test| test.text.contains(name)) {
            let what = "no test names this file; compare with it, or take it out";
            problems.push(Problem::new(&file.path, 1, what));
        }
    }
}
