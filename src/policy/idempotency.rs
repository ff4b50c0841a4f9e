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
//! Not here: storage, hashing, header fields.

pub mod machine;
pub mod record;
