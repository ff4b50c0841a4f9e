//! How many bytes of request bodies the whole process keeps for another attempt or a copy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most that is kept at once, over all requests: 256 bodies of the default buffer's size. Each
/// request has a bound of its own, but there is none on how many wait; beyond this one a body goes
/// through all the same and is sent once.
pub const KEPT_MAX: usize = 16 << 20;

/// What is kept, of [`KEPT_MAX`].
#[derive(Debug, Default)]
pub struct KeptBytes(AtomicUsize);

/// One request's part of it, given back on drop.
#[derive(Debug)]
pub struct Part {
    all: Arc<KeptBytes>,
    bytes: usize,
}

impl KeptBytes {
    /// A part of nothing yet.
    #[must_use]
    pub fn part(self: &Arc<Self>) -> Part {
        Part { all: Arc::clone(self), bytes: 0 }
    }

    /// How many bytes are kept.
    #[must_use]
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Part {
    /// Takes so many bytes more; false if there are not as many left.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let before = self.all.0.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > KEPT_MAX {
            self.all.0.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }

    /// Gives all of it back.
    pub fn clear(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.all.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests;
