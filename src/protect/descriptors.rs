//! How many of the file descriptors that the process may have are open.

use std::fs;
use std::path::{Path, PathBuf};

use super::file::{Kept, number_after};

/// Descriptors that a listing of the folder goes through in the time of the rest of a look: for
/// each further so many, one look is left out.
const LISTED_PER_LOOK: usize = 2000;

/// The open descriptors, and their limit.
pub(super) struct Descriptors {
    folder: PathBuf,
    limits: Option<Kept>,
    /// The soft limit, as it was last read.
    pub(super) limit: Option<u64>,
    known: Option<f64>,
    leave_out: usize,
}

impl Descriptors {
    pub(super) fn open(proc: &Path) -> Self {
        Self {
            folder: proc.join("self/fd"),
            limits: Kept::open(&proc.join("self/limits")),
            limit: None,
            known: None,
            leave_out: 0,
        }
    }

    /// The share of the soft limit that is open.
    pub(super) fn share(&mut self) -> Option<f64> {
        if self.leave_out > 0 {
            self.leave_out -= 1;
            return self.known;
        }
        // `unlimited` is no number, and then nothing runs short.
        self.limit = number_after(self.limits.as_mut()?.read()?, "Max open files");
        let limit = self.limit?;
        // Since Linux 6.2 the folder's size is the number of its entries.
        let sized = fs::metadata(&self.folder).ok()?.len();
        let open = match usize::try_from(sized) {
            Ok(0) => self.list(),
            Ok(open) => Some(open),
            Err(_) => None,
        };
        // No descriptor for the listing is left: then all of them are open.
        self.known = Some(open.map_or(1.0, |open| open as f64 / limit.max(1) as f64));
        self.known
    }

    fn list(&mut self) -> Option<usize> {
        let open = fs::read_dir(&self.folder).ok()?.count();
        self.leave_out = open / LISTED_PER_LOOK;
        // The listing itself was open as well.
        Some(open.saturating_sub(1))
    }
}
