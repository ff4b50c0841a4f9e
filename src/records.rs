//! Where the records of requests with an Idempotency-Key live.
//!
//! A [`Store`] keeps records and applies [`crate::policy::idempotency::machine`] to them, one
//! record at a time and atomically. What each kind promises, and what it does not, is its
//! [`Guarantee`].
//!
//! The laws that every store passes (tests/it/records holds them against all kinds):
//!
//! 1. A claim is linearizable for each record.
//! 2. Every change can be sent again with the same claimant: a repeat whose first answer was lost
//!    brings the same answer ([`Settled::Already`] where it says that it had been done).
//! 3. A wrong fence never changes anything.
//! 4. Fences rise strictly for each record, also over its removal.
//! 5. Time is the store's, not its caller's.
//! 6. What cannot be read is unknown, never absent.
//! 7. A positive answer is as durable as the guarantee says.
//!
//! Not here: what a request is, which records it needs, and what its client is told.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use crate::policy::idempotency::machine::{Claim, Claimed, Found, Settle, Settled};
use crate::policy::idempotency::record::{Entry, Fingerprint, Millis, Rid, State};

pub mod codec;
pub mod embedded;
pub mod etcd;
mod local;
pub mod memory;
pub mod spool;

/// What a store answers with, in the end. It can be sent to any runtime, holds no borrow, and what
/// it does goes on, or not, when it is dropped: the store may or may not have been changed.
pub type Reply<T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send>>;

/// Keeps records.
pub trait Store: Send + Sync + 'static {
    /// What there is of a request; nothing when a claim could succeed.
    fn peek(&self, rid: Rid, fingerprint: Fingerprint, deadline: Instant) -> Reply<Option<Found>>;

    /// A request wants to be sent. When the answer is [`Claimed::Acquired`] the claim is as durable
    /// as the store's guarantee says.
    fn claim(&self, rid: Rid, claim: Claim, deadline: Instant) -> Reply<Claimed>;

    /// Changes a record that was claimed.
    fn settle(&self, rid: Rid, settle: Settle, deadline: Instant) -> Reply<Settled>;

    /// The record itself, for operators; as time has left it, so that what is over is absent.
    fn read(&self, rid: Rid, deadline: Instant) -> Reply<Seen>;

    /// Records by name, for operators: at most `limit` of them after `after`, of these states as
    /// time has left them; unreadable ones count as unknown.
    fn list(&self, wanted: Wanted, deadline: Instant) -> Reply<Page>;

    /// Resolves when the record may have changed, or soon: a hint that may be wrong, never the
    /// authority. The waiter asks again, and bounds the time itself.
    fn changed(&self, rid: Rid) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// What the store remembers of itself; fails while it cannot be reached.
    fn birth(&self, deadline: Instant) -> Reply<Birth>;

    /// The present opening of a store that belongs to one process; 0 otherwise. Such a store puts
    /// it
    /// into claims itself.
    fn epoch(&self) -> u64 {
        0
    }

    /// What it promises.
    fn guarantee(&self) -> Guarantee;

    /// How it is doing, without asking anybody.
    fn health(&self) -> Health;
}

/// What every store is opened with.
#[derive(Clone, Debug)]
pub struct Common {
    /// Its name in the configuration, for logs.
    pub name: Box<str>,
    /// Seals answers at rest.
    pub seal: codec::Seal,
    /// A digest of what all proxies that share the store must have in common. Written into a new
    /// store; with a store that has another one, every question is [`Kind::Unfit`].
    pub config: [u8; 32],
    /// This process, drawn at random at its start.
    pub instance: [u8; 16],
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is proved that nothing was changed.
    NotApplied(Cause),
    /// It may have been done or not: no answer came in time, the connection was lost, or the disk
    /// failed at the last moment.
    Ambiguous(Cause),
}

impl Fault {
    /// What happened.
    #[must_use]
    pub const fn cause(&self) -> &Cause {
        match self {
            Self::NotApplied(cause) | Self::Ambiguous(cause) => cause,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = self.cause();
        write!(f, "{}: {}", cause.kind.name(), cause.detail)
    }
}

/// What happened to a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Its kind, for metrics.
    pub kind: Kind,
    /// What to read in a log; no secrets, no keys of clients.
    pub detail: Box<str>,
}

impl Cause {
    /// A cause in words.
    pub fn new(kind: Kind, detail: impl fmt::Display) -> Self {
        Self { kind, detail: detail.to_string().into_boxed_str() }
    }
}

/// The kinds of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It could not be reached.
    Unreachable,
    /// No answer came in time.
    Timeout,
    /// The connection was lost while an answer was awaited.
    ConnectionLost,
    /// More is being asked of it than it takes, and the question was not sent.
    Busy,
    /// It said that it cannot now: it loads its data, is read-only, has no leader.
    Unavailable,
    /// It has not enough copies of what was written.
    Replicas,
    /// It has no room, on disk or in memory.
    Full,
    /// Reading or writing its file failed.
    Io,
    /// It is set up in a way in which it could forget, or for somebody else.
    Unfit,
    /// It answered in a way that we do not understand.
    Protocol,
}

impl Kind {
    /// All kinds, in the order of their [`Kind::index`].
    pub const ALL: [Self; 10] = [
        Self::Unreachable,
        Self::Timeout,
        Self::ConnectionLost,
        Self::Busy,
        Self::Unavailable,
        Self::Replicas,
        Self::Full,
        Self::Io,
        Self::Unfit,
        Self::Protocol,
    ];

    /// Its place in [`Kind::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::ConnectionLost => "connection_lost",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Replicas => "replicas",
            Self::Full => "full",
            Self::Io => "io",
            Self::Unfit => "unfit",
            Self::Protocol => "protocol",
        }
    }
}

/// A record as an operator sees it, with the time of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What is there.
    pub entry: Entry,
    /// Where it stands; nothing when it is absent.
    pub state: Option<State>,
    /// The store's time.
    pub now: Millis,
}

/// Which records an operator wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Their states, as time has left them.
    pub states: Vec<State>,
    /// Only those that come after this name; all when nothing is given.
    pub after: Option<Rid>,
    /// How many; at most [`PAGE_MAX`].
    pub limit: usize,
}

/// The most records of one page: what is read of a store at once for an operator.
pub const PAGE_MAX: usize = 1_000;

/// Some records, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The records.
    pub records: Vec<(Rid, Seen)>,
    /// Where to go on; nothing at the end.
    pub next: Option<Rid>,
}

/// What a store remembers of itself. Written once, by the first that opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    /// When, by its own clock. It can know of no key that is older.
    pub at: Millis,
    /// Its clock now.
    pub now: Millis,
    /// Random bytes that all its proxies share, for references to records.
    pub secret: [u8; 32],
    /// A digest of what all its proxies must have in common; see [`Common::config`].
    pub config: [u8; 32],
}

/// What a store promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guarantee {
    /// What a positive answer survives.
    pub durability: Durability,
    /// Whether several processes share it.
    pub shared: bool,
    /// Whether it refuses, rather than forgets, on the smaller side of a partition.
    pub consistent: bool,
}

/// What a positive answer survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Nothing: it is in this process's memory.
    None,
    /// A crash of this process; of the server as far as the server is set up for it.
    Server,
    /// A crash of this machine.
    Disk,
    /// The loss of a minority of machines.
    Quorum,
}

/// How a store is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether it has been opened, and answers.
    pub ready: bool,
    /// Why not.
    pub problem: Option<Box<str>>,
    /// Records by [`State::index`], where the store counts them.
    pub entries: [u64; State::ALL.len()],
    /// What the records take, in bytes, where the store counts it.
    pub bytes: u64,
    /// Answers shed for room since the start.
    pub bodies_shed: u64,
    /// Tombstones whose time was over, removed since the start.
    pub tombstones_purged: u64,
    /// Records of unknown outcome whose time was over since the start.
    pub unknown_expired: u64,
    /// Writes that had fewer copies than wanted and went on, since the start.
    pub weak: u64,
    /// Records that were found contested, since the start.
    pub contested: u64,
}
