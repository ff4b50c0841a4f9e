//! Finds the paths in a file that leave it: `use` trees spread out, and paths written in the code.

use std::collections::BTreeSet;

use super::source::{File, Token, mask, tokens};

/// A path that names another crate or a module directly below `src/`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) line: usize,
    pub(crate) full: String,
    pub(crate) target: Target,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Crate(String),
    Module(String),
}

struct Found {
    line: usize,
    segments: Vec<String>,
    /// How many modules written inside the file are open here.
    depth: usize,
}

/// Every path of the file that leads to one of the crates, or to a module below `src/`.
pub(crate) fn of(file: &File, package: &str, crates: &BTreeSet<String>) -> Vec<Path> {
    let code = mask(&file.text);
    let tokens = tokens(&code);
    let (found, local) = collect(&tokens);
    let here = module_path(&file.path);
    found
        .into_iter()
        .filter(|path| !(path.segments.len() > 1 && local.contains(&path.segments[0])))
        .filter_map(|path| resolve(&path, &here, package, crates))
        .collect()
}

/// The modules that lead to a file: `src/policy/retry/tests.rs` is `policy`, `retry`, `tests`.
fn module_path(path: &str) -> Vec<String> {
    let inside = path.strip_prefix("src/").unwrap_or(path).trim_end_matches(".rs");
    let mut names: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if names.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        names.pop();
    }
    names
}

fn resolve(
    path: &Found,
    here: &[String],
    package: &str,
    crates: &BTreeSet<String>,
) -> Option<Path> {
    let first = path.segments.first()?.as_str();
    let (line, full) = (path.line, path.segments.join("::"));
    let module = if first == "crate" || first == package {
        path.segments.get(1).cloned()
    } else if first == "super" {
        let ups = path.segments.iter().take_while(|name| *name == "super").count();
        let depth = here.len() + path.depth;
        let below_root = ups >= depth;
        below_root.then(|| path.segments.get(ups).cloned()).flatten()
    } else if crates.contains(first) {
        return Some(Path { line, full, target: Target::Crate(first.to_owned()) });
    } else {
        None
    };
    module.map(|name| Path { line, full, target: Target::Module(name) })
}

/// The paths of a file, and the names that it declares or imports itself, which hide crates.
fn collect(tokens: &[Token<'_>]) -> (Vec<Found>, BTreeSet<String>) {
    let (mut found, mut local) = (Vec::new(), BTreeSet::new());
    let (mut braces, mut modules) = (0_usize, Vec::new());
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let next = tokens.get(at + 1).map_or("", |token| token.text);
        match token.text {
            "{" => braces += 1,
            "}" => {
                braces = braces.saturating_sub(1);
                if modules.last() == Some(&braces) {
                    modules.pop();
                }
            }
            "mod" if tokens.get(at + 1).is_some_and(Token::is_name) => {
                local.insert(next.to_owned());
                if tokens.get(at + 2).is_some_and(|token| token.text == "{") {
                    modules.push(braces);
                }
                at += 1;
            }
            "use" if next != "<" && next != ">" => {
                let mut tree = Tree { tokens, at: at + 1, paths: Vec::new() };
                tree.spread(&[]);
                at = tree.at;
                for (line, segments, name) in tree.paths {
                    // A crate imported under its own name hides nothing.
                    if segments.len() > 1 && segments.first() != Some(&name) {
                        local.insert(name);
                    }
                    found.push(Found { line, segments, depth: modules.len() });
                }
                continue;
            }
            _ if starts_path(tokens, at) => {
                let segments = segments_at(tokens, at);
                found.push(Found { line: token.line, segments, depth: modules.len() });
            }
            _ => {}
        }
        at += 1;
    }
    (found, local)
}

/// Whether the first name of a path of at least two is here.
fn starts_path(tokens: &[Token<'_>], at: usize) -> bool {
    let text = |at: Option<usize>| at.and_then(|at| tokens.get(at)).map_or("", |token| token.text);
    let before = at.checked_sub(2).and_then(|at| tokens.get(at));
    let inside = text(at.checked_sub(1)) == "::"
        && before.is_some_and(|token| token.is_name() || token.text == ">");
    tokens[at].is_name() && text(Some(at + 1)) == "::" && !inside
}

fn segments_at(tokens: &[Token<'_>], mut at: usize) -> Vec<String> {
    let mut segments = vec![tokens[at].text.to_owned()];
    while let Some([colons, name]) = tokens.get(at + 1..at + 3) {
        if colons.text != "::" || !name.is_name() {
            break;
        }
        segments.push(name.text.to_owned());
        at += 2;
    }
    segments
}

/// The line of an import, its segments, and the name that it brings in.
type Import = (usize, Vec<String>, String);

/// Spreads a `use` tree into its paths.
struct Tree<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    paths: Vec<Import>,
}

impl Tree<'_> {
    /// Reads one branch, and stops behind it at `,`, `}` or `;`.
    fn spread(&mut self, prefix: &[String]) {
        let mut segments = prefix.to_vec();
        let (mut line, mut name) = (0, None);
        while let Some(token) = self.tokens.get(self.at) {
            match token.text {
                "," | "}" | ";" => break,
                "{" => return self.group(&segments),
                "as" => {
                    self.at += 1;
                    name = self.tokens.get(self.at).map(|token| token.text.to_owned());
                }
                "self" if !prefix.is_empty() => line = token.line,
                _ if token.is_name() => {
                    line = token.line;
                    segments.push(token.text.to_owned());
                }
                _ => line = token.line,
            }
            self.at += 1;
        }
        if let Some(last) = segments.last().cloned() {
            self.paths.push((line, segments, name.unwrap_or(last)));
        }
    }

    fn group(&mut self, prefix: &[String]) {
        self.at += 1;
        while let Some(token) = self.tokens.get(self.at) {
            match token.text {
                "}" => {
                    self.at += 1;
                    return;
                }
                ";" => return,
                "," => self.at += 1,
                _ => self.spread(prefix),
            }
        }
    }
}
