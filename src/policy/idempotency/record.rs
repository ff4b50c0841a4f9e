//! A request's identity, and what is kept of it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970 by the clock of the store, which alone dates records: proxies may
/// disagree about the time.
pub type Millis = u64;

/// An instant that never comes.
pub const NEVER: Millis = u64::MAX;

/// The name of a record: a digest of namespace, principal and key, so that no store ever sees the
/// key itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rid(pub [u8; 32]);

/// What the request asked for: a digest of method, target, selected fields and body, with the
/// version of the recipe. A digest by another recipe is not comparable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The recipe.
    pub version: u8,
    /// The digest.
    pub digest: [u8; 32],
}

/// A random number for one claim: the same claim sent twice is recognised by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Nonce(pub [u8; 16]);

/// Rises with every claim of a record, over its removal too. Who holds an older one can change
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fence(pub u64);

/// The process that works on a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// Drawn at random when the process starts.
    pub instance: [u8; 16],
    /// Counts the openings of a store that belongs to one process; 0 where several share it.
    pub epoch: u64,
}

/// The principal of a request as a short digest, by which a store counts what one of them holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Principal(pub [u8; 8]);

impl Principal {
    /// All callers together, where none is told from another: it has the whole store.
    pub const ALL: Self = Self([0; 8]);
}

/// Who holds a record: fingerprint, nonce and fence have to fit for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimant {
    /// What was asked for.
    pub fingerprint: Fingerprint,
    /// The process.
    pub owner: Owner,
    /// The claim.
    pub nonce: Nonce,
    /// Its place in the order of claims.
    pub fence: Fence,
    /// Whose request it is.
    pub principal: Principal,
}

/// How long records are kept, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The whole answer, from its completion on.
    pub body: u64,
    /// That there was one, from its completion on; at least `body`.
    pub key: u64,
    /// That the outcome is unknown; [`NEVER`] for ever.
    pub unknown: u64,
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// Claimed: bytes may have reached the upstream.
    InFlight,
    /// The final answer is known; without a body it cannot be given again.
    Completed,
    /// Failed or ambiguous where the upstream itself recognises keys: may be sent again.
    Retryable,
    /// It may have been executed or not, and nobody is at work on it.
    Unknown,
    /// Completed, and past the time for which the answer itself is kept.
    Tombstone,
}

impl State {
    /// All states, in the order of their [`State::index`].
    pub const ALL: [Self; 5] =
        [Self::InFlight, Self::Completed, Self::Retryable, Self::Unknown, Self::Tombstone];

    /// Its place in [`State::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name in metrics, problem documents and commands.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::Completed => "completed",
            Self::Retryable => "retryable",
            Self::Unknown => "unknown",
            Self::Tombstone => "tombstone",
        }
    }
}

/// Why an outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Doubt {
    /// The process that worked on it died, or lost its lease.
    OwnerLost,
    /// The connection broke when the request might have been read.
    ConnectionLost,
    /// The answer began and was cut off.
    AnswerCut,
    /// No answer came in time.
    Timeout,
    /// The upstream's own answer leaves it open (502, 503, 504, or what the route says).
    Answer,
    /// The application said so.
    Application,
    /// The proxy had to end before the answer came.
    Shutdown,
    /// The record cannot be read.
    Unreadable,
}

impl Doubt {
    /// All of them, in the order of their [`Doubt::index`].
    pub const ALL: [Self; 8] = [
        Self::OwnerLost,
        Self::ConnectionLost,
        Self::AnswerCut,
        Self::Timeout,
        Self::Answer,
        Self::Application,
        Self::Shutdown,
        Self::Unreadable,
    ];

    /// Its place in [`Doubt::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name in metrics and commands.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OwnerLost => "owner_lost",
            Self::ConnectionLost => "connection_lost",
            Self::AnswerCut => "answer_cut",
            Self::Timeout => "timeout",
            Self::Answer => "answer",
            Self::Application => "application",
            Self::Shutdown => "shutdown",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A name and a value of a header or trailer field.
pub type Field = (Box<[u8]>, Box<[u8]>);

/// An upstream's final answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The HTTP status.
    pub status: u16,
    /// Whether the status leaves open what happened (a 500).
    pub indeterminate: bool,
    /// The fields that may be given again.
    pub headers: Vec<Field>,
    /// The body; nothing when it was too large, streamed or shed. Then it cannot be given again.
    pub body: Option<Arc<[u8]>>,
    /// The trailer fields.
    pub trailers: Vec<Field>,
}

impl Stored {
    /// An answer of which only the status is known.
    #[must_use]
    pub const fn bare(status: u16) -> Self {
        Self { status, indeterminate: false, headers: Vec::new(), body: None, trailers: Vec::new() }
    }

    /// What it takes, in bytes, as limits count it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let fields = |fields: &[Field]| {
            fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
        };
        let body = self.body.as_ref().map_or(0, |body| body.len());
        fields(&self.headers) + fields(&self.trailers) + body
    }
}

/// What is kept of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands, as written; [`super::machine::stands`] tells what time has made of it.
    pub state: State,
    /// Who claimed it last.
    pub claimant: Claimant,
    /// When the lease ends; until then its owner is taken to be at work.
    pub lease_until: Millis,
    /// When it was first claimed.
    pub first_seen: Millis,
    /// When it was completed; 0 until then.
    pub completed: Millis,
    /// How often it was claimed.
    pub attempts: u32,
    /// The status that was seen before the outcome became unknown.
    pub observed_status: Option<u16>,
    /// Why the outcome is unknown, as its owner said.
    pub doubt: Option<Doubt>,
    /// When the answer itself is dropped.
    pub body_until: Millis,
    /// When the record is dropped.
    pub keep_until: Millis,
    /// Whether a claim with a newer fence was found when an older one was asserted again: both may
    /// have been executed.
    pub contested: bool,
    /// The answer, once there is one.
    pub answer: Option<Stored>,
}

/// What a store has under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing.
    Absent,
    /// A record.
    Record(Box<Record>),
    /// Bytes that are damaged, of an unknown version or cannot be decrypted. Never taken for
    /// nothing: the operation may have been executed.
    Unreadable,
}

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Debug for Rid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Display for Rid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}:", self.version)?;
        hex(&self.digest, f)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.instance, f)?;
        write!(f, "#{}", self.epoch)
    }
}
