//! The file below the engine, and room that is set aside for the day when the disk is full.
//!
//! A second file beside the first holds nothing but room. When a write finds the disk full, that
//! room is given back and the write done again: so the results of what is in flight are still
//! recorded, while new claims are refused until the room could be set aside again. The engine
//! itself never sees the failure, after which it would have to be opened anew.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Write as _};
use std::ops::Bound;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// How room is set aside at once.
const PIECE: usize = 64 << 10;
/// What a block of a file counts in `st_blocks`.
const BLOCK: u64 = 512;

/// Makes what the engine reads and writes of an open file; tests put faults in between.
pub(in crate::records) type Medium =
    Arc<dyn Fn(File) -> Result<Box<dyn StorageBackend>, redb::Error> + Send + Sync>;

/// The file itself.
pub(in crate::records) fn plain() -> Medium {
    Arc::new(|file| Ok(Box::new(FileBackend::new(file)?)))
}

/// Opens or makes a file that this user alone can read.
pub(in crate::records) fn open(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    // A new file is there after a loss of power only when its folder is written, too.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(file)
}

/// Whether an error means that there is no room.
pub(in crate::records) fn is_full(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Room that is set aside.
#[derive(Debug)]
pub(in crate::records) struct Reserve {
    path: PathBuf,
    bytes: u64,
    full: AtomicBool,
}

impl Reserve {
    /// Of so many bytes, in a file beside this one; none yet.
    pub(in crate::records) fn beside(path: &Path, bytes: u64) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push(".reserve");
        Self { path: name.into(), bytes, full: AtomicBool::new(false) }
    }

    /// Whether the disk was found full, and the room could not be set aside again since.
    pub(in crate::records) fn is_spent(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Gives the room back to the disk; whether there was any.
    fn spend(&self) -> bool {
        self.full.store(true, Ordering::Relaxed);
        let held = std::fs::metadata(&self.path).is_ok_and(|file| file.len() > 0);
        held && std::fs::remove_file(&self.path).is_ok()
    }

    /// Sets the room aside, unless it is.
    pub(in crate::records) fn restore(&self) {
        let result = self.try_restore();
        let full = match &result {
            Ok(()) => false,
            Err(error) if is_full(error) => true,
            // Where no second file can be made the first one still works; it has no reserve then.
            Err(_) => self.is_spent(),
        };
        if result.is_err() {
            // A part of it would keep from the disk what is of no use here.
            let _ = std::fs::remove_file(&self.path);
        }
        self.full.store(full, Ordering::Relaxed);
    }

    fn try_restore(&self) -> Result<(), Error> {
        if let Ok(file) = std::fs::metadata(&self.path)
            && file.len() == self.bytes
            && file.blocks().saturating_mul(BLOCK) >= self.bytes
        {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        let piece = vec![0; PIECE];
        let mut left = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        while left > 0 {
            let part = piece.get(..left.min(PIECE)).unwrap_or(&piece);
            file.write_all(part)?;
            left -= part.len();
        }
        file.sync_data()
    }
}

/// The file with its reserve, as the engine sees it.
pub(in crate::records) struct Disk {
    file: Box<dyn StorageBackend>,
    reserve: Arc<Reserve>,
}

impl Disk {
    pub(in crate::records) fn new(file: Box<dyn StorageBackend>, reserve: Arc<Reserve>) -> Self {
        Self { file, reserve }
    }

    /// Does it; again when it has found the disk full and there was room in reserve. Only what can
    /// be done again: nothing is known of a file whose sync has failed.
    fn with_reserve(&self, act: impl Fn() -> Result<(), Error>) -> Result<(), Error> {
        match act() {
            Err(error) if is_full(&error) => {
                if self.reserve.spend() {
                    act()
                } else {
                    Err(error)
                }
            }
            result => result,
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("reserve", &self.reserve).finish_non_exhaustive()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        self.with_reserve(|| self.file.set_len(len))
    }

    fn sync_data(&self) -> Result<(), Error> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.with_reserve(|| self.file.write(offset, data))
    }

    fn close(&self) -> Result<(), Error> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
