//! A file of the kernel's that is opened once and read anew at each look.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The most that is read of a file; the longest in use here, a container's statistics, has 2 KiB.
const READ_MAX: usize = 16 * 1024;

/// How much the kernel is asked for at once: what it has ready at a time.
pub(super) const STEP: usize = 4096;

/// A file that stays open, so that reading it needs no descriptor when there is none left.
pub(super) struct Kept {
    file: File,
    text: Vec<u8>,
}

impl Kept {
    pub(super) fn open(path: &Path) -> Option<Self> {
        Some(Self { file: File::open(path).ok()?, text: Vec::new() })
    }

    /// What it says now.
    pub(super) fn read(&mut self) -> Option<&str> {
        self.read_while(STEP, READ_MAX, |_| true)
    }

    /// What it says now in a part, which may be cut short.
    pub(super) fn read_part(&mut self, from: usize, length: usize) -> Option<&str> {
        self.text.clear();
        self.text.resize(length, 0);
        let read = self.file.read_at(&mut self.text, from as u64).ok()?;
        std::str::from_utf8(self.text.get(..read)?).ok()
    }

    /// What it says now, up to a size, read so much at a time and no further than the text so far
    /// is worth reading on.
    pub(super) fn read_while(
        &mut self,
        step: usize,
        most: usize,
        on: impl Fn(&str) -> bool,
    ) -> Option<&str> {
        self.text.clear();
        loop {
            let from = self.text.len();
            self.text.resize(from + step, 0);
            let read = self.file.read_at(self.text.get_mut(from..)?, from as u64).ok()?;
            self.text.truncate(from + read);
            let so_far = std::str::from_utf8(&self.text).ok()?;
            if read == 0 || self.text.len() >= most || !on(so_far) {
                break;
            }
        }
        std::str::from_utf8(&self.text).ok()
    }
}

/// The number that follows a key at the beginning of a line.
pub(super) fn number_after(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}
