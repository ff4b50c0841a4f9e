//! Answers by URI and `Vary`, within a bound of bytes.
//!
//! A key has as many answers as `Vary` tells apart, up to [`VARIANTS_MAX`]. Keys that were neither
//! kept anew nor used for the longest time go first, with all their answers. Every byte is counted:
//! the answer as its caller weighs it, the key, the selecting fields, and [`OVERHEAD`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What an answer costs beside its bytes: the places in the map and in the order, the variant and
/// the allocations' own rounding.
pub const OVERHEAD: usize = 512;

/// The most answers of one key. A `Vary` that tells more requests apart than this tells nearly all
/// of them apart.
pub const VARIANTS_MAX: usize = 16;

/// A request's value of a header field: all lines as one list, or nothing where it has none.
pub type Value = Option<Box<[u8]>>;

/// Says a request's value of a header field by its name in lower case.
pub type ValueOf<'a> = &'a dyn Fn(&str) -> Value;

/// The fields that selected an answer, with the values of the request that it was made for
/// (RFC 9111, 4.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selecting(Vec<(Box<str>, Value)>);

impl Selecting {
    /// The values that a request has of these fields.
    pub fn of<'n>(names: impl IntoIterator<Item = &'n str>, value_of: ValueOf<'_>) -> Self {
        let mut fields: Vec<(Box<str>, Value)> = Vec::new();
        for name in names {
            let name = name.trim().to_ascii_lowercase();
            if !name.is_empty() && !fields.iter().any(|(known, _)| **known == *name) {
                let value = value_of(&name);
                fields.push((name.into(), value));
            }
        }
        fields.sort();
        Self(fields)
    }

    /// Whether another request has the same values.
    #[must_use]
    pub fn selects(&self, value_of: ValueOf<'_>) -> bool {
        self.0.iter().all(|(name, value)| value_of(name) == *value)
    }

    /// Whether the same fields select, whatever their values.
    fn same_fields(&self, other: &Self) -> bool {
        self.0.iter().map(|(name, _)| name).eq(other.0.iter().map(|(name, _)| name))
    }

    fn bytes(&self) -> usize {
        let one = |(name, value): &(Box<str>, Value)| {
            name.len()
                + value.as_ref().map_or(0, |value| value.len())
                + size_of::<(Box<str>, Value)>()
        };
        self.0.iter().map(one).sum()
    }
}

/// What became of answers when one was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The answer was kept; one that is larger than the whole bound is not.
    pub kept: bool,
    /// Answers that had to make room.
    pub evicted: usize,
}

/// The answers.
#[derive(Debug)]
pub struct Store<A> {
    entries: HashMap<Arc<str>, Entry<A>>,
    /// The keys in the order of their last use.
    order: BTreeMap<u64, Arc<str>>,
    uses: u64,
    bytes: usize,
    answers: usize,
}

#[derive(Debug)]
struct Entry<A> {
    /// The place of its last use in the order.
    used: u64,
    /// The last one kept comes first.
    variants: Vec<Variant<A>>,
}

#[derive(Debug)]
struct Variant<A> {
    selecting: Selecting,
    answer: A,
    bytes: usize,
}

impl<A> Default for Store<A> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), uses: 0, bytes: 0, answers: 0 }
    }
}

impl<A> Store<A> {
    /// Keeps an answer of so many bytes in place of those that the same request would select, and
    /// makes room for it. Afterwards no more than `max_bytes` are kept.
    pub fn keep(
        &mut self,
        max_bytes: usize,
        key: &str,
        selecting: Selecting,
        (answer, bytes): (A, usize),
    ) -> Change {
        let cost = bytes.saturating_add(2 * key.len() + selecting.bytes()).saturating_add(OVERHEAD);
        if cost > max_bytes {
            // What is kept of the key is no longer the last good answer.
            self.invalidate(key);
            return Change { kept: false, evicted: self.shrink(max_bytes) };
        }
        self.forget_selected(key, &selecting);
        let mut evicted = self.shrink(max_bytes - cost);
        let used = self.tick();
        let entry = match self.entries.get_mut(key) {
            Some(entry) => entry,
            None => {
                let key: Arc<str> = key.into();
                self.order.insert(used, Arc::clone(&key));
                self.entries.entry(key).or_insert(Entry { used, variants: Vec::new() })
            }
        };
        if let Some(key) = self.order.remove(&entry.used) {
            self.order.insert(used, key);
        }
        entry.used = used;
        entry.variants.insert(0, Variant { selecting, answer, bytes: cost });
        self.bytes += cost;
        self.answers += 1;
        for old in entry.variants.drain(VARIANTS_MAX.min(entry.variants.len())..) {
            self.bytes -= old.bytes;
            self.answers -= 1;
            evicted += 1;
        }
        Change { kept: true, evicted }
    }

    /// The answer that a request selects. It counts as used.
    pub fn find(&mut self, key: &str, value_of: ValueOf<'_>) -> Option<&A> {
        let used = self.tick();
        let entry = self.entries.get_mut(key)?;
        if let Some(key) = self.order.remove(&entry.used) {
            self.order.insert(used, key);
        }
        entry.used = used;
        let found = entry.variants.iter().find(|variant| variant.selecting.selects(value_of))?;
        Some(&found.answer)
    }

    /// Forgets every answer of a key, and says how many there were.
    pub fn invalidate(&mut self, key: &str) -> usize {
        let Some(entry) = self.entries.remove(key) else { return 0 };
        self.order.remove(&entry.used);
        self.bytes -= entry.variants.iter().map(|variant| variant.bytes).sum::<usize>();
        self.answers -= entry.variants.len();
        entry.variants.len()
    }

    /// Forgets the keys that were not used for the longest time until no more than `max_bytes` are
    /// kept, and says how many answers went.
    pub fn shrink(&mut self, max_bytes: usize) -> usize {
        let before = self.answers;
        while self.bytes > max_bytes {
            let Some((_, key)) = self.order.first_key_value() else { break };
            let key = Arc::clone(key);
            self.invalidate(&key);
        }
        before - self.answers
    }

    /// Forgets every answer of which this is not true, and says how many went. Looks at all.
    pub fn retain(&mut self, stays: impl Fn(&A) -> bool) -> usize {
        let before = self.answers;
        let Self { entries, order, bytes, answers, .. } = self;
        entries.retain(|_, entry| {
            entry.variants.retain(|variant| {
                let stays = stays(&variant.answer);
                if !stays {
                    *bytes -= variant.bytes;
                    *answers -= 1;
                }
                stays
            });
            let empty = entry.variants.is_empty();
            if empty {
                order.remove(&entry.used);
            }
            !empty
        });
        before - self.answers
    }

    /// The bytes that are kept.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The answers that are kept.
    #[must_use]
    pub const fn answers(&self) -> usize {
        self.answers
    }

    /// Forgets the answers that a new one takes the place of: those that its request selects, and
    /// those that other fields selected, for the resource no longer varies by these. So one request
    /// never selects two answers, and none that is forgotten lets an older one through.
    fn forget_selected(&mut self, key: &str, selecting: &Selecting) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let (mut bytes, mut answers) = (0, 0);
        entry.variants.retain(|variant| {
            let older = &variant.selecting;
            let stays = older.same_fields(selecting) && older != selecting;
            if !stays {
                bytes += variant.bytes;
                answers += 1;
            }
            stays
        });
        self.bytes -= bytes;
        self.answers -= answers;
        if entry.variants.is_empty() {
            self.invalidate(key);
        }
    }

    fn tick(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }
}
