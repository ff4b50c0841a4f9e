//! The scripts: one for each operation, so that each is atomic, with one key, so that a cluster can
//! run it. They hold [`crate::policy::idempotency::machine`] in the server's language; a test runs
//! both side by side.
//!
//! Every script can be sent again. A server that forgets its scripts (a restart, `SCRIPT FLUSH`) is
//! told them again by the first use.

use std::sync::LazyLock;

use redis::{Cmd, cmd};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::policy::idempotency::machine::{Claim, Resolution, Settle, Unknowns};
use crate::policy::idempotency::record::{
    Claimant, Fence, Fingerprint, Owner, Retention, Rid, Stored,
};
use crate::records::codec::{NoRandomness, Seal, digest_of};

/// A script, and the name by which the server knows it.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) text: &'static str,
    sha: String,
}

/// What a script is run with.
pub(super) type Args = Vec<Vec<u8>>;

macro_rules! script {
    ($file:literal) => {
        Script::new(concat!(include_str!("scripts/record.lua"), include_str!($file)))
    };
}

pub(super) static PEEK: LazyLock<Script> = LazyLock::new(|| script!("scripts/peek.lua"));
pub(super) static READ: LazyLock<Script> = LazyLock::new(|| script!("scripts/read.lua"));
pub(super) static CLAIM: LazyLock<Script> = LazyLock::new(|| script!("scripts/claim.lua"));
pub(super) static SETTLE: LazyLock<Script> = LazyLock::new(|| script!("scripts/settle.lua"));
pub(super) static BIRTH: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/birth.lua")));
pub(super) static QUOTA: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/quota.lua")));

impl Script {
    fn new(text: &'static str) -> Self {
        // SHA-1 is how the server names scripts; nothing is trusted because of it.
        let sum = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        Self { text, sha: sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect() }
    }

    /// Runs it by its name, or with its text where the server does not know it.
    pub(super) fn command(&self, known: bool, key: &[u8], args: &Args) -> Cmd {
        let mut command = if known { cmd("EVALSHA") } else { cmd("EVAL") };
        command.arg(if known { self.sha.as_str() } else { self.text }).arg(1).arg(key);
        for arg in args {
            command.arg(arg.as_slice());
        }
        command
    }
}

/// A record's key.
pub(super) fn key_of(prefix: &str, rid: &Rid) -> Vec<u8> {
    format!("{prefix}r:{rid}").into_bytes()
}

/// The record of a key; nothing for a key that is not one of a record.
pub(super) fn rid_of(prefix: &str, key: &[u8]) -> Option<Rid> {
    let hex = key.strip_prefix(prefix.as_bytes())?.strip_prefix(b"r:")?;
    Some(Rid(from_hex(hex)?))
}

/// As many bytes as these hexadecimal digits are.
pub(super) fn from_hex<const N: usize>(hex: &[u8]) -> Option<[u8; N]> {
    let digit = |at: usize| char::from(*hex.get(at)?).to_digit(16);
    if hex.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::try_from(digit(place * 2)? << 4 | digit(place * 2 + 1)?).ok()?;
    }
    Some(bytes)
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(number: impl ToString) -> Vec<u8> {
    number.to_string().into_bytes()
}

fn optional(number: Option<impl ToString>) -> Vec<u8> {
    number.map_or_else(Vec::new, text)
}

fn fingerprint(of: &Fingerprint) -> Vec<u8> {
    let mut bytes = vec![of.version];
    bytes.extend_from_slice(&of.digest);
    bytes
}

fn owner(of: &Owner) -> Vec<u8> {
    let mut bytes = of.instance.to_vec();
    bytes.extend_from_slice(&of.epoch.to_be_bytes());
    bytes
}

pub(super) fn peek_args(asked: &Fingerprint) -> Args {
    vec![fingerprint(asked)]
}

pub(super) fn claim_args(claim: &Claim, over_quota: bool) -> Args {
    let grace = match claim.unknowns {
        Unknowns::Hold => None,
        Unknowns::Redispatch { grace } => Some(grace),
    };
    vec![
        fingerprint(&claim.fingerprint),
        owner(&claim.owner),
        claim.nonce.0.to_vec(),
        claim.principal.0.to_vec(),
        text(claim.lease),
        text(claim.retention.unknown),
        optional(grace),
        text(u8::from(claim.too_old)),
        text(u8::from(over_quota)),
    ]
}

/// # Errors
/// When there is no randomness to seal an answer with.
pub(super) fn settle_args(settle: &Settle, rid: &Rid, seal: &Seal) -> Result<Args, NoRandomness> {
    Ok(match settle {
        Settle::Renew { by, lease } => with(by, "renew", vec![text(lease)]),
        Settle::Complete { by, answer, retention } => {
            let sealed = if is_bare(answer) {
                Vec::new()
            } else {
                summed(seal.encode(answer, rid, by.fence)?, rid, by.fence)
            };
            let mut rest = vec![text(answer.status), sealed];
            rest.extend(kept(retention));
            with(by, "complete", rest)
        }
        Settle::Release { by } => with(by, "release", Vec::new()),
        Settle::Doubt { by, doubt, observed_status, retention } => {
            let rest =
                vec![text(doubt.index()), optional(*observed_status), text(retention.unknown)];
            with(by, "doubt", rest)
        }
        Settle::Retryable { by, retention } => with(by, "retryable", vec![text(retention.unknown)]),
        Settle::Resolve { expect, how, retention } => {
            let status = match how {
                Resolution::Executed { status } => Some(*status),
                Resolution::NotExecuted => None,
            };
            let mut args = nobody("resolve", text(expect.0));
            args.push(optional(status));
            args.extend(kept(retention));
            args
        }
        Settle::Purge { expect } => nobody("purge", optional(expect.map(|fence| fence.0))),
        Settle::Reassert { by, lease, first_seen, attempts, retention } => {
            let rest = vec![text(lease), text(first_seen), text(attempts), text(retention.unknown)];
            with(by, "reassert", rest)
        }
    })
}

/// How many bytes of a sum an answer ends with: without a key, nothing else tells of damage.
const SUM: usize = 8;

fn sum(bytes: &[u8], rid: &Rid, fence: Fence) -> [u8; SUM] {
    let digest = digest_of(1, &[&rid.0, &fence.0.to_be_bytes(), bytes]);
    digest.first_chunk().copied().unwrap_or_default()
}

fn summed(mut bytes: Vec<u8>, rid: &Rid, fence: Fence) -> Vec<u8> {
    let sum = sum(&bytes, rid, fence);
    bytes.extend_from_slice(&sum);
    bytes
}

/// The answer that a record has; nothing when it is damaged, or another record's.
pub(super) fn answer_of(bytes: &[u8], rid: &Rid, fence: Fence, seal: &Seal) -> Option<Stored> {
    let (bytes, found) = bytes.split_last_chunk::<SUM>()?;
    (*found == sum(bytes, rid, fence)).then(|| seal.decode(bytes, rid, fence))?
}

/// Whether only the status is known: then there is nothing to seal.
pub(super) fn is_bare(answer: &Stored) -> bool {
    *answer == Stored::bare(answer.status)
}

fn kept(retention: &Retention) -> [Vec<u8>; 3] {
    [text(retention.body), text(retention.key), text(retention.unknown)]
}

fn with(by: &Claimant, what: &str, rest: Args) -> Args {
    let mut args = vec![
        what.as_bytes().to_vec(),
        fingerprint(&by.fingerprint),
        owner(&by.owner),
        by.nonce.0.to_vec(),
        by.principal.0.to_vec(),
        text(by.fence.0),
    ];
    args.extend(rest);
    args
}

fn nobody(what: &str, fence: Vec<u8>) -> Args {
    let none = Vec::new;
    vec![what.as_bytes().to_vec(), none(), none(), none(), none(), fence]
}

#[cfg(test)]
mod tests;
