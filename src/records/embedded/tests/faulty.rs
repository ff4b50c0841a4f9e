//! A file that fails when it is told to, and forgets what was not synced when its sync fails, as
//! an operating system does.

use std::io::{Error, ErrorKind};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

use crate::records::embedded::disk::Medium;

/// What goes wrong.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// So many syncs fail.
    pub(super) syncs: AtomicU32,
    /// With a failed sync, what was written since the last one is lost.
    pub(super) forgets: AtomicBool,
    /// So many writes are cut in half.
    pub(super) short_writes: AtomicU32,
    /// The disk has no room while the reserve has it.
    pub(super) full: AtomicBool,
    /// How often something was synced through a handle whose sync had failed.
    pub(super) synced_again: AtomicU32,
    /// How often the file was opened.
    pub(super) openings: AtomicU32,
}

impl Faults {
    /// A medium with these faults for the file at this path.
    pub(super) fn medium(self: &Arc<Self>, path: &Path) -> Medium {
        let faults = Arc::clone(self);
        let mut reserve = path.as_os_str().to_owned();
        reserve.push(".reserve");
        let reserve = PathBuf::from(reserve);
        Arc::new(move |file| {
            faults.openings.fetch_add(1, SeqCst);
            Ok(Box::new(Faulty {
                file: FileBackend::new(file)?,
                faults: Arc::clone(&faults),
                reserve: reserve.clone(),
                has_failed: AtomicBool::new(false),
                unsynced: Mutex::default(),
            }))
        })
    }
}

#[derive(Debug)]
struct Faulty {
    file: FileBackend,
    faults: Arc<Faults>,
    reserve: PathBuf,
    has_failed: AtomicBool,
    /// What was there before each write since the last sync.
    unsynced: Mutex<Vec<Before>>,
}

/// What was there before a write.
#[derive(Debug)]
struct Before {
    offset: u64,
    bytes: Vec<u8>,
}

fn one_of(count: &AtomicU32) -> bool {
    count.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl StorageBackend for Faulty {
    fn len(&self) -> Result<u64, Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), Error> {
        if self.has_failed.load(SeqCst) {
            self.faults.synced_again.fetch_add(1, SeqCst);
        }
        let mut unsynced = self.unsynced.lock().unwrap();
        if one_of(&self.faults.syncs) {
            self.has_failed.store(true, SeqCst);
            if self.faults.forgets.load(SeqCst) {
                for before in unsynced.drain(..).rev() {
                    self.file.write(before.offset, &before.bytes)?;
                }
            }
            return Err(Error::other("an error of the disk"));
        }
        unsynced.clear();
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        if self.faults.full.load(SeqCst) && self.reserve.exists() {
            return Err(ErrorKind::StorageFull.into());
        }
        let len = self.file.len()?;
        let there = len.saturating_sub(offset).min(data.len() as u64);
        let mut bytes = vec![0; usize::try_from(there).unwrap()];
        self.file.read(offset, &mut bytes)?;
        self.unsynced.lock().unwrap().push(Before { offset, bytes });
        if one_of(&self.faults.short_writes) {
            self.file.write(offset, &data[..data.len() / 2])?;
            return Err(ErrorKind::WriteZero.into());
        }
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<(), Error> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
