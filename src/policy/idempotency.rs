//! What is remembered of a request that carries an Idempotency-Key, and what may happen next?
//!
//! The promise: for each principal and key at most one sending whose non-execution is not proved,
//! for as long as the record is kept. Not "exactly once": only a service that records the key in
//! the transaction of the effect can give that.
//!
//! - [`record`]: who a request is ([`record::Rid`], [`record::Fingerprint`]), who works on it
//!   ([`record::Claimant`]), and the record itself.
//! - [`machine`]: every transition of a record, T1 to T14; anything else is refused without
//!   change. Stores keep records; whether a record may change is decided there alone.
//!
//! - [`settings`]: what a route asks for.
//! - [`key`], [`age`], [`horizon`], [`fresh`]: the key itself: how it is read, when it was made,
//!   whether a store can still know it, and how one is made.
//! - [`identity`]: what tells one request and one principal from another.
//! - [`outcome`]: what the way in which an exchange ended says of the operation, D1 to D26.
//! - [`response`]: what is kept of an answer, and what an answer says of its key.
//! - [`problem`]: what a client is told that gets no answer of the upstream.
//!
//! Not here: storage, hashing, and the fields of any one HTTP library.

pub mod age;
pub mod fresh;
pub mod horizon;
pub mod identity;
pub mod key;
pub mod machine;
pub mod outcome;
pub mod problem;
pub mod record;
pub mod response;
pub mod settings;

pub use settings::Settings;
