//! Who is first and who is last, at any time: two binary heaps over the same entries.
//!
//! An entry is a small number, which is its index in tables of keys and positions, so that any
//! entry is found and taken out in `O(log n)`.

/// In no heap.
const OUT: u32 = u32::MAX;

/// Entries ordered by a key.
#[derive(Clone, Debug)]
pub(super) struct Order<K> {
    keys: Vec<K>,
    first: Heap,
    last: Heap,
}

/// One heap; the root is the greatest key, or the least one if turned.
#[derive(Clone, Debug)]
struct Heap {
    turned: bool,
    heap: Vec<u32>,
    /// Where in the heap each entry is.
    at: Vec<u32>,
}

impl<K> Default for Order<K> {
    fn default() -> Self {
        let heap = |turned| Heap { turned, heap: Vec::new(), at: Vec::new() };
        Self { keys: Vec::new(), first: heap(false), last: heap(true) }
    }
}

impl<K: Ord + Copy> Order<K> {
    pub(super) fn len(&self) -> usize {
        self.first.heap.len()
    }

    /// The entry of the greatest key.
    pub(super) fn first(&self) -> Option<u32> {
        self.first.heap.first().copied()
    }

    /// The entry of the least key.
    pub(super) fn last(&self) -> Option<u32> {
        self.last.heap.first().copied()
    }

    pub(super) fn contains(&self, entry: u32) -> bool {
        self.first.at.get(entry as usize).is_some_and(|at| *at != OUT)
    }

    /// Puts an entry in that is not. Entries are numbered from 0 without a gap.
    pub(super) fn insert(&mut self, entry: u32, key: K) {
        match self.keys.get_mut(entry as usize) {
            Some(old) => *old = key,
            None => self.keys.push(key),
        }
        self.first.insert(entry, &self.keys);
        self.last.insert(entry, &self.keys);
    }

    /// Takes an entry out; false if it is not in.
    pub(super) fn remove(&mut self, entry: u32) -> bool {
        self.first.remove(entry, &self.keys) && self.last.remove(entry, &self.keys)
    }
}

impl Heap {
    fn insert<K: Ord>(&mut self, entry: u32, keys: &[K]) {
        if self.at.len() <= entry as usize {
            self.at.resize(entry as usize + 1, OUT);
        }
        self.heap.push(entry);
        self.rise(self.heap.len() - 1, keys);
    }

    fn remove<K: Ord>(&mut self, entry: u32, keys: &[K]) -> bool {
        let Some(at) = self.at.get_mut(entry as usize).filter(|at| **at != OUT) else {
            return false;
        };
        let hole = std::mem::replace(at, OUT) as usize;
        let Some(moved) = self.heap.pop() else { return false };
        if let Some(place) = self.heap.get_mut(hole) {
            *place = moved;
            let at = self.rise(hole, keys);
            self.sink(at, keys);
        }
        true
    }

    /// Whether the entry at `a` belongs above that at `b`.
    fn above<K: Ord>(&self, a: usize, b: usize, keys: &[K]) -> bool {
        let key = |at: usize| self.heap.get(at).and_then(|entry| keys.get(*entry as usize));
        if self.turned { key(a) < key(b) } else { key(a) > key(b) }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.settle(a);
        self.settle(b);
    }

    fn settle(&mut self, at: usize) {
        let entry = self.heap.get(at).map_or(OUT, |entry| *entry) as usize;
        if let Some(place) = self.at.get_mut(entry) {
            *place = u32::try_from(at).unwrap_or(OUT);
        }
    }

    /// Moves up what is at `at` to where it belongs, and says where that is.
    fn rise<K: Ord>(&mut self, mut at: usize, keys: &[K]) -> usize {
        self.settle(at);
        while at > 0 && self.above(at, (at - 1) / 2, keys) {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
        at
    }

    fn sink<K: Ord>(&mut self, mut at: usize, keys: &[K]) {
        loop {
            let (left, right) = (at * 2 + 1, at * 2 + 2);
            let mut top = at;
            for child in [left, right] {
                if child < self.heap.len() && self.above(child, top, keys) {
                    top = child;
                }
            }
            if top == at {
                return;
            }
            self.swap(at, top);
            at = top;
        }
    }
}
