//! Opening the file: whose it is, when it was made, how often it was opened, and what is in it.

use std::path::Path;
use std::sync::Arc;

use redb::{Builder, Database, ReadableDatabase, ReadableTable};

use super::disk::{self, Disk, Medium, Reserve};
use super::rows::{DUE, FORM, META, RECORDS, Row};
use super::tables::Tables;
use crate::config::store::Embedded as Settings;
use crate::policy::idempotency::record::Fence;
use crate::records::codec::Seal;
use crate::records::local::{Dropped, Fences, Limits, Time, Usage, secret};
use crate::records::{Birth, Cause, Common, Kind};
use crate::shared::Shared;

/// What the engine may keep of the file in memory: its upper pages, and records of late.
const CACHE_BYTES: usize = 32 << 20;
/// The limit counts what records take on average; the pages of the engine itself, and those that
/// are free for the moment, are this share of the file.
const ENGINE_SHARE: u64 = 8;

/// The file, open. Dropping it closes it.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) seal: Seal,
    pub(super) epoch: u64,
    pub(super) birth: Birth,
    pub(super) time: Time,
    pub(super) fences: Fences,
    pub(super) limits: Limits,
    pub(super) usage: Arc<Shared<Usage>>,
    pub(super) dropped: Arc<Dropped>,
    pub(super) reserve: Arc<Reserve>,
}

/// What an opening needs besides settings.
pub(super) struct Around<'a> {
    pub(super) common: &'a Common,
    pub(super) medium: &'a Medium,
    pub(super) usage: &'a Arc<Shared<Usage>>,
    pub(super) dropped: &'a Arc<Dropped>,
    pub(super) reserve: &'a Arc<Reserve>,
    /// The number of this process's opening before; 0 when there was none.
    pub(super) before: u64,
    /// How far the time of earlier openings has come.
    pub(super) past: u64,
}

/// What the file says of itself.
struct Meta {
    birth: u64,
    secret: [u8; 32],
    config: [u8; 32],
    epoch: u64,
    time: u64,
    fence: u64,
}

/// The most that records may take of a file, by the reckoning of [`super::rows::size`].
pub(super) fn limits(settings: &Settings) -> Limits {
    let whole = settings.max_bytes.get();
    Limits { entries: u64::MAX, bytes: whole - whole / ENGINE_SHARE }
}

/// Opens the file, and makes it when there is none.
pub(super) fn open(settings: &Settings, around: &Around<'_>) -> Result<Opened, Cause> {
    let database = database(&settings.path, around.medium, around.reserve)?;
    let fault = |error: redb::Error| cause(&settings.path, &error);
    let meta = read(&database).map_err(fault)?;
    let (meta, is_new) = match meta {
        Some(meta) => (meta, false),
        None => (new(around.common)?, true),
    };
    if meta.config != around.common.config {
        let detail = format!(
            "{} was made with another namespace or fingerprint key; give the old ones back, or \
             move the file away",
            settings.path.display()
        );
        return Err(Cause::new(Kind::Unfit, detail));
    }
    // Who is still at work in this process goes on; when the file was another's in between, or is
    // opened for the first time, all work of before has lost its owner.
    let goes_on = around.before != 0 && around.before == meta.epoch;
    let epoch = if goes_on { meta.epoch } else { meta.epoch.saturating_add(1) };
    let time = Time::not_before(meta.time.max(around.past).saturating_add(1));
    let birth = if is_new { time.now() } else { meta.birth };
    let meta = Meta { birth, epoch, time: time.now(), ..meta };
    // A file that goes on can be read also when there is no room to write.
    if !goes_on {
        write(&database, &meta, settings.paranoid).map_err(fault)?;
    }
    count(&database, epoch, limits(settings), around.usage).map_err(fault)?;
    Ok(Opened {
        database,
        seal: around.common.seal.clone(),
        epoch,
        birth: Birth { at: birth, now: birth, secret: meta.secret, config: meta.config },
        time,
        fences: Fences::after(Fence(meta.fence)),
        limits: limits(settings),
        usage: Arc::clone(around.usage),
        dropped: Arc::clone(around.dropped),
        reserve: Arc::clone(around.reserve),
    })
}

/// The engine on a file, with its reserve.
pub(in crate::records) fn database(
    path: &Path,
    medium: &Medium,
    reserve: &Arc<Reserve>,
) -> Result<Database, Cause> {
    let fault = |error: redb::Error| cause(path, &error);
    let file = disk::open(path).map_err(|error| fault(redb::Error::Io(error)))?;
    let file = medium(file).map_err(fault)?;
    let database = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(Disk::new(file, Arc::clone(reserve)))
        .map_err(|error| fault(error.into()))?;
    // Only who has the file may touch what lies beside it.
    reserve.restore();
    Ok(database)
}

/// An error of the engine, in words.
pub(in crate::records) fn cause(path: &Path, error: &redb::Error) -> Cause {
    let path = path.display();
    match error {
        redb::Error::DatabaseAlreadyOpen => {
            Cause::new(Kind::Unreachable, format!("{path} is in use by another process"))
        }
        redb::Error::Io(error) if disk::is_full(error) => {
            Cause::new(Kind::Full, format!("{path}: {error}; make room on its disk"))
        }
        redb::Error::Corrupted(detail) => {
            Cause::new(Kind::Io, format!("{path} is damaged ({detail}); restore or move it away"))
        }
        error => Cause::new(Kind::Io, format!("{path}: {error}")),
    }
}

fn read(database: &Database) -> Result<Option<Meta>, redb::Error> {
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let number = |name: &str| -> Result<u64, redb::Error> {
        let value = meta.get(name)?;
        let bytes = value.as_ref().and_then(|value| value.value().try_into().ok());
        bytes.map(u64::from_be_bytes).ok_or_else(|| incomplete(name))
    };
    let bytes = |name: &str| -> Result<[u8; 32], redb::Error> {
        let value = meta.get(name)?;
        value
            .as_ref()
            .and_then(|value| value.value().try_into().ok())
            .ok_or_else(|| incomplete(name))
    };
    if number("form")? != FORM {
        let detail = "its form is that of another version of outrigger".to_owned();
        return Err(redb::Error::Corrupted(detail));
    }
    Ok(Some(Meta {
        birth: number("birth")?,
        secret: bytes("secret")?,
        config: bytes("config")?,
        epoch: number("epoch")?,
        time: number("time")?,
        fence: number("fence")?,
    }))
}

fn incomplete(name: &str) -> redb::Error {
    redb::Error::Corrupted(format!("its {name} is missing"))
}

fn new(common: &Common) -> Result<Meta, Cause> {
    let secret = secret().map_err(|_| {
        Cause::new(Kind::Unavailable, "the system has no randomness to give to a new file")
    })?;
    Ok(Meta { birth: 0, secret, config: common.config, epoch: 0, time: 0, fence: 0 })
}

/// Writes what the file says of itself, and makes its tables.
fn write(database: &Database, meta: &Meta, paranoid: bool) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(paranoid);
    {
        let mut table = transaction.open_table(META)?;
        let numbers = [("form", FORM), ("birth", meta.birth), ("epoch", meta.epoch)];
        for (name, number) in numbers {
            table.insert(name, number.to_be_bytes().as_slice())?;
        }
        for (name, bytes) in [("secret", &meta.secret), ("config", &meta.config)] {
            table.insert(name, bytes.as_slice())?;
        }
    }
    Tables::mark(&transaction, meta.time, Fence(meta.fence))?;
    transaction.open_table(RECORDS)?;
    transaction.open_table(DUE)?;
    Ok(transaction.commit()?)
}

/// Counts what is in the file.
fn count(
    database: &Database,
    epoch: u64,
    limits: Limits,
    usage: &Shared<Usage>,
) -> Result<(), redb::Error> {
    let mut counted = Usage::new(limits);
    let transaction = database.begin_read()?;
    for row in transaction.open_table(DUE)?.iter()? {
        if let Some(row) = Row::from_bytes(row?.1.value()) {
            counted.replace(None, Some(&row.share(epoch)));
        }
    }
    *usage.lock() = counted;
    Ok(())
}
