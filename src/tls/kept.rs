//! What is made of files and made anew when they change, unless they have a fault: then what was
//! made before stays in use.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::files::{Disk, Fault, Shown};
use super::unix_seconds;
use crate::shared::Shared;

/// Something made of files.
#[derive(Debug)]
pub(super) struct Kept<T> {
    made: ArcSwap<Made<T>>,
    look: Shared<Look>,
}

/// One making, and the certificates in it.
#[derive(Debug)]
pub(super) struct Made<T> {
    pub(super) value: T,
    pub(super) shown: Vec<Shown>,
}

/// What the last look at the files brought.
#[derive(Debug)]
struct Look {
    fingerprint: u64,
    /// Why the files that are there now are not in use.
    problem: Option<String>,
}

/// What came of a look at files that have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// They are in use.
    Applied,
    /// They have a fault, and earlier ones stay in use; the text says why.
    Rejected(String),
}

impl<T> Kept<T> {
    pub(super) fn new(made: Made<T>, fingerprint: u64) -> Self {
        let look = Shared::new(Look { fingerprint, problem: None });
        Self { made: ArcSwap::from_pointee(made), look }
    }

    pub(super) fn made(&self) -> Arc<Made<T>> {
        self.made.load_full()
    }

    /// Why the files that are there now are not in use, if they are not.
    pub(super) fn problem(&self) -> Option<String> {
        self.look.lock().problem.clone()
    }

    /// Looks at the files; `None` when they are what they were at the last look. A certificate that
    /// is no longer valid does not take the place of one that is.
    pub(super) fn refresh<'p>(
        &self,
        disk: &Disk,
        files: impl Iterator<Item = &'p Path>,
        now: SystemTime,
        make: impl FnOnce(&Disk, &T) -> Result<Made<T>, Vec<Fault>>,
    ) -> Option<Swap> {
        let fingerprint = disk.fingerprint(files);
        let mut look = self.look.lock();
        if look.fingerprint == fingerprint {
            return None;
        }
        look.fingerprint = fingerprint;
        let before = self.made();
        let made = make(disk, &before.value).map_err(|faults| in_a_line(&faults));
        let now = unix_seconds(now);
        let made = made.and_then(|made| match made.shown.iter().find(|s| s.not_after < now) {
            Some(dead) if before.shown.iter().all(|shown| shown.not_after >= now) => {
                Err(format!("`{}` has expired already", dead.file.display()))
            }
            _ => Ok(made),
        });
        Some(match made {
            Ok(made) => {
                look.problem = None;
                self.made.store(Arc::new(made));
                Swap::Applied
            }
            Err(problem) => {
                look.problem = Some(problem.clone());
                Swap::Rejected(problem)
            }
        })
    }
}

fn in_a_line(faults: &[Fault]) -> String {
    let one = |fault: &Fault| format!("{}: {}", fault.key, fault.message);
    faults.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
