//! The text of the file as a tree in which every value knows its place.
//!
//! YAML is read by saphyr's parser; here its events become a tree, within bounds: one document, a
//! depth, a number of values. Anchors are copied where they are used, and the copies count, so that
//! a small file cannot grow into a large tree. Nothing is known here of what a setting means.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::problem::{Place, Problem, Report};

/// The largest file that is read, in bytes; far above what 20,000 routes need.
pub const MAX_FILE_BYTES: usize = 16 << 20;
/// The most values in a file, copies of anchors and of defaults included.
pub const MAX_NODES: usize = 1_000_000;
/// The deepest nesting; the deepest setting is at a tenth of it.
pub const MAX_DEPTH: usize = 64;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Nothing, `~` or `null`, unquoted.
    Null,
    /// A text, a number or a switch; which of them, the reader decides by what it wants.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// Names with values, in the order of the file, each name once.
    Mapping(Vec<(Key, Node)>),
}

/// A scalar as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scalar {
    /// Its text without quotes.
    pub text: String,
    /// Whether it may be a number or a switch: written without quotes, or put in from outside.
    pub plain: bool,
    /// Whether a part of it was put in from the environment or a file.
    pub substituted: bool,
    /// Whether putting in failed, which has been reported: nothing else is to be said of it.
    pub broken: bool,
}

/// The name of an entry of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The name.
    pub text: String,
    /// Where it begins.
    pub place: Place,
}

impl Node {
    /// The entries of a mapping; none of anything else.
    #[must_use]
    pub fn entries(&self) -> &[(Key, Self)] {
        match &self.kind {
            Kind::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// The value of a name in a mapping.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.entries().iter().find(|(key, _)| key.text == name).map(|(_, node)| node)
    }

    /// The number of values in it, itself included.
    #[must_use]
    pub fn size(&self) -> usize {
        1 + match &self.kind {
            Kind::Null | Kind::Scalar(_) => 0,
            Kind::Sequence(items) => items.iter().map(Self::size).sum(),
            Kind::Mapping(entries) => entries.iter().map(|(_, node)| node.size()).sum(),
        }
    }

    /// How many levels it has; 1 for a scalar. Not deeper than [`MAX_DEPTH`], as it was built so.
    fn height(&self) -> usize {
        1 + match &self.kind {
            Kind::Null | Kind::Scalar(_) => 0,
            Kind::Sequence(items) => items.iter().map(Self::height).max().unwrap_or(0),
            Kind::Mapping(entries) => {
                entries.iter().map(|(_, node)| node.height()).max().unwrap_or(0)
            }
        }
    }
}

/// Adds the name of an entry to a path: `retry` to `routes[0]` gives `routes[0].retry`. A name that
/// could be misread in a path is put in quotes.
#[must_use]
pub fn join(path: &str, name: &str) -> String {
    let dot = if path.is_empty() { "" } else { "." };
    if is_plain(name) { format!("{path}{dot}{name}") } else { format!("{path}{dot}{name:?}") }
}

/// Whether a name stands in a path as it is.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// Reads the text into a tree. `None` when it is not YAML, or not within bounds; problems that do
/// not hinder reading, such as a name given twice, are reported and the tree is still returned.
#[must_use]
pub fn parse(text: &str, report: &mut Report) -> Option<Node> {
    if text.len() > MAX_FILE_BYTES {
        let message = format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20);
        report.push(Problem::new(Place { line: 1, column: 1 }, "", message));
        return None;
    }
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((event, span)) => builder.take(event, start(&span), report),
            Err(error) => {
                let mark = error.marker();
                let place = place(mark.line(), mark.col());
                Err(Problem::new(place, "", format!("this is not YAML: {}", error.info())))
            }
        };
        if let Err(problem) = step {
            report.push(problem);
            return None;
        }
    }
    let empty = Node { place: Place { line: 1, column: 1 }, kind: Kind::Null };
    Some(builder.root.unwrap_or(empty))
}

fn start(span: &Span) -> Place {
    place(span.start.line(), span.start.col())
}

fn place(line: usize, column: usize) -> Place {
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: narrow(line.max(1)), column: narrow(column.saturating_add(1)) }
}

/// A list or mapping that is not closed yet.
struct Open {
    place: Place,
    anchor: usize,
    shape: Shape,
}

enum Shape {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<(Key, Node)>, key: Option<Key> },
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Place, report: &mut Report) -> Result<(), Problem> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(Problem::new(at, "", "a second document begins here; write one document"))
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), at)?;
                let plain = style == ScalarStyle::Plain;
                self.scalar(text.into_owned(), plain, anchor, at)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), at)?;
                self.begin(Shape::Sequence(Vec::new()), anchor, at)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), at)?;
                self.begin(Shape::Mapping { entries: Vec::new(), key: None }, anchor, at)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(report),
            Event::Alias(anchor) => self.alias(anchor, at),
            _ => Ok(()),
        }
    }

    fn refuse_tag(&self, tagged: bool, at: Place) -> Result<(), Problem> {
        if tagged {
            return Err(self.problem(at, "YAML tags (`!name`) are not supported; remove it"));
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        text: String,
        plain: bool,
        anchor: usize,
        at: Place,
    ) -> Result<(), Problem> {
        if let Some(Open { shape: Shape::Mapping { key: key @ None, .. }, .. }) =
            self.open.last_mut()
        {
            *key = Some(Key { text, place: at });
            return Ok(());
        }
        let kind = if plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") {
            Kind::Null
        } else {
            Kind::Scalar(Scalar { text, plain, substituted: false, broken: false })
        };
        let node = Node { place: at, kind };
        self.remember(anchor, &node);
        self.count(1, at)?;
        self.put(node);
        Ok(())
    }

    fn begin(&mut self, shape: Shape, anchor: usize, at: Place) -> Result<(), Problem> {
        self.refuse_as_key(at)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(self.problem(at, &format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.count(1, at)?;
        self.open.push(Open { place: at, anchor, shape });
        Ok(())
    }

    fn end(&mut self, report: &mut Report) -> Result<(), Problem> {
        let Some(Open { place, anchor, shape }) = self.open.pop() else { return Ok(()) };
        let kind = match shape {
            Shape::Sequence(items) => Kind::Sequence(items),
            Shape::Mapping { entries, .. } => Kind::Mapping(self.once_each(entries, report)),
        };
        let node = Node { place, kind };
        self.remember(anchor, &node);
        self.put(node);
        Ok(())
    }

    fn alias(&mut self, anchor: usize, at: Place) -> Result<(), Problem> {
        self.refuse_as_key(at)?;
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(self.problem(at, "this alias stands for a value that contains itself"));
        };
        if self.open.len() + node.height() > MAX_DEPTH {
            return Err(self.problem(at, &format!("nested deeper than {MAX_DEPTH} levels")));
        }
        // Counted before it is copied: the copy is what a chain of aliases would blow up.
        let size = node.size();
        self.count(size, at)?;
        if let Some(node) = self.anchors.get(&anchor).cloned() {
            self.put(node);
        }
        Ok(())
    }

    /// Reports names that are given twice, and YAML's merge key, and drops them.
    fn once_each(&self, entries: Vec<(Key, Node)>, report: &mut Report) -> Vec<(Key, Node)> {
        let mut lines: HashMap<String, u32> = HashMap::with_capacity(entries.len());
        let mut kept = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            let path = || join(&self.path(), &key.text);
            if key.text == "<<" {
                let message = "YAML merge keys are not supported; write what several routes or \
                               upstreams share under `defaults`";
                report.push(Problem::new(key.place, &path(), message));
            } else if let Some(line) = lines.get(&key.text) {
                let message = format!("given twice; the first is in line {line}");
                report.push(Problem::new(key.place, &path(), message));
            } else {
                lines.insert(key.text.clone(), key.place.line);
                kept.push((key, node));
            }
        }
        kept
    }

    fn refuse_as_key(&self, at: Place) -> Result<(), Problem> {
        match self.open.last() {
            Some(Open { shape: Shape::Mapping { key: None, .. }, .. }) => {
                Err(self.problem(at, "the name of an entry must be a plain text"))
            }
            _ => Ok(()),
        }
    }

    fn remember(&mut self, anchor: usize, node: &Node) {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
    }

    fn count(&mut self, more: usize, at: Place) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > MAX_NODES {
            return Err(self.problem(at, &format!("the file has more than {MAX_NODES} values")));
        }
        Ok(())
    }

    fn put(&mut self, node: Node) {
        match self.open.last_mut().map(|open| &mut open.shape) {
            None => self.root = Some(node),
            Some(Shape::Sequence(items)) => items.push(node),
            Some(Shape::Mapping { entries, key }) => {
                if let Some(key) = key.take() {
                    entries.push((key, node));
                }
            }
        }
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &open.shape {
                Shape::Sequence(items) => path = format!("{path}[{}]", items.len()),
                Shape::Mapping { key: Some(key), .. } => path = join(&path, &key.text),
                Shape::Mapping { key: None, .. } => {}
            }
        }
        path
    }

    fn problem(&self, at: Place, message: &str) -> Problem {
        Problem::new(at, &self.path(), message)
    }
}

#[cfg(test)]
mod tests;
