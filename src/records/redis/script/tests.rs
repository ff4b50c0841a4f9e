//! The scripts, run by a real server, beside the machine that they have to agree with.

use std::process::{Child, Command, Stdio};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use redis::{Commands, Connection, Value};

use super::*;
use crate::policy::idempotency::machine::{
    self, Around, Change, Claimed, Room, Settled, Stands, stands,
};
use crate::policy::idempotency::record::{
    Doubt, Entry, Fence, Millis, NEVER, Nonce, Principal, State,
};
use crate::records::redis::reply::Reader;

/// A server of its own, on a socket in a folder of its own; ends with the test.
struct Server {
    process: Child,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket", "socket"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server runs; Debian has it in the package redis-server");
        Self { process, folder }
    }

    fn connect(&self) -> Connection {
        let path = self.folder.path().join("socket");
        let client = redis::Client::open(format!("unix:{}", path.display())).unwrap();
        for _ in 0..1_000_000 {
            if let Ok(connection) = client.get_connection() {
                return connection;
            }
            std::thread::yield_now();
        }
        panic!("the server does not start");
    }
}

/// What is told the scripts as the time, in place of the server's, so that a test decides it: the
/// last argument, in microseconds.
const CLOCK: &str = "\
local given = tonumber(table.remove(ARGV))
local server = redis
local redis = {
  call = function(name, ...)
    if name == 'TIME' then
      return { string.format('%.0f', math.floor(given / 1000000)),
        string.format('%.0f', given % 1000000) }
    end
    return server.call(name, ...)
  end,
  sha1hex = redis.sha1hex,
}
";

/// In the future, so that the server's own expiry never comes in between.
const START: u64 = 4_000_000_000_000_000;
const RID: Rid = Rid([5; 32]);

fn run(connection: &mut Connection, script: &Script, args: Args, micros: u64) -> Value {
    let mut command = cmd("EVAL");
    command.arg(format!("{CLOCK}{}", script.text)).arg(1).arg(key_of("t:", &RID));
    for arg in args {
        command.arg(arg);
    }
    command.arg(micros.to_string()).query(connection).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Back(u64),
    Peek(u8),
    Claim(Claim, bool),
    /// A change by one of the fences that were given, or by one that never was.
    Settle(usize, Settle),
}

fn fingerprints() -> impl Strategy<Value = Fingerprint> {
    (1..=2_u8, 0..=1_u8).prop_map(|(version, digest)| Fingerprint {
        // Mostly the same, so that most steps meet the record.
        version: if digest == 0 { 1 } else { version },
        digest: [digest; 32],
    })
}

fn retentions() -> impl Strategy<Value = Retention> {
    let time = || prop_oneof![0..3_000_u64, Just(86_400_000)];
    (time(), time(), prop_oneof![time(), Just(NEVER)]).prop_map(|(body, key, unknown)| Retention {
        body,
        key,
        unknown,
    })
}

fn leases() -> impl Strategy<Value = u64> {
    prop_oneof![0..2_000_u64, Just(600_000), Just(900_000)]
}

fn claims() -> impl Strategy<Value = Claim> {
    let unknowns = prop_oneof![
        Just(Unknowns::Hold),
        (0..2_000_u64).prop_map(|grace| Unknowns::Redispatch { grace })
    ];
    let numbers = (0..=3_u8, leases(), prop::bool::weighted(0.1));
    (fingerprints(), numbers, retentions(), unknowns).prop_map(
        |(fingerprint, (nonce, lease, too_old), retention, unknowns)| Claim {
            fingerprint,
            owner: Owner { instance: [nonce; 16], epoch: 0 },
            nonce: Nonce([nonce; 16]),
            principal: Principal([nonce; 8]),
            lease,
            retention,
            unknowns,
            too_old,
        },
    )
}

fn claimants() -> impl Strategy<Value = Claimant> {
    (fingerprints(), 0..=3_u8).prop_map(|(fingerprint, nonce)| Claimant {
        fingerprint,
        owner: Owner { instance: [nonce; 16], epoch: 0 },
        nonce: Nonce([nonce; 16]),
        fence: Fence(0),
        principal: Principal([nonce; 8]),
    })
}

fn answers() -> impl Strategy<Value = Stored> {
    let body = prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
    (200..=503_u16, any::<bool>(), body, any::<bool>()).prop_map(
        |(status, indeterminate, body, headers)| {
            let field = (b"etag"[..].into(), b"\"1\""[..].into());
            let headers = if headers { vec![field] } else { Vec::new() };
            let body = body.map(Into::into);
            Stored { status, indeterminate, headers, body, trailers: Vec::new() }
        },
    )
}

fn settles() -> impl Strategy<Value = Settle> {
    let status = || prop::option::of(100..600_u16);
    let doubt = (0..Doubt::ALL.len()).prop_map(|index| Doubt::ALL[index]);
    let how = prop_oneof![
        Just(Resolution::NotExecuted),
        (200..210_u16).prop_map(|status| Resolution::Executed { status })
    ];
    prop_oneof![
        (claimants(), leases()).prop_map(|(by, lease)| Settle::Renew { by, lease }),
        (claimants(), answers(), retentions())
            .prop_map(|(by, answer, retention)| Settle::Complete { by, answer, retention }),
        (claimants(), 200..210_u16, retentions()).prop_map(|(by, status, retention)| {
            Settle::Complete { by, answer: Stored::bare(status), retention }
        }),
        claimants().prop_map(|by| Settle::Release { by }),
        (claimants(), doubt, status(), retentions()).prop_map(
            |(by, doubt, observed_status, retention)| {
                Settle::Doubt { by, doubt, observed_status, retention }
            }
        ),
        (claimants(), retentions()).prop_map(|(by, retention)| Settle::Retryable { by, retention }),
        (how, retentions()).prop_map(|(how, retention)| Settle::Resolve {
            expect: Fence(0),
            how,
            retention
        }),
        any::<bool>().prop_map(|some| Settle::Purge { expect: some.then_some(Fence(0)) }),
        (claimants(), leases(), 1..=9_u64, 1..=4_u32, retentions()).prop_map(
            |(by, lease, first_seen, attempts, retention)| {
                Settle::Reassert { by, lease, first_seen, attempts, retention }
            }
        ),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..1_500_u64).prop_map(Step::Wait),
        1 => (0..700_000_u64).prop_map(Step::Wait),
        1 => (0..700_000_u64).prop_map(Step::Back),
        2 => (0..=1_u8).prop_map(Step::Peek),
        6 => (claims(), prop::bool::weighted(0.1))
            .prop_map(|(claim, over)| Step::Claim(claim, over)),
        9 => (0..4_usize, settles()).prop_map(|(fence, settle)| Step::Settle(fence, settle)),
    ];
    prop::collection::vec(step, 1..40)
}

/// A change as somebody with this fence makes it; mostly with the nonce that belongs to the fence.
fn by_fence(settle: Settle, fence: Option<(Fence, Claim)>) -> Settle {
    let Some((fence, claim)) = fence else { return settle };
    let own = |by: Claimant| {
        // A fingerprint of the second kind stays as it is: somebody who has no right to the record.
        if by.fingerprint.version == 2 {
            return Claimant { fence, ..by };
        }
        Claimant { fence, nonce: claim.nonce, fingerprint: claim.fingerprint, ..by }
    };
    match settle {
        Settle::Renew { by, lease } => Settle::Renew { by: own(by), lease },
        Settle::Complete { by, answer, retention } => {
            Settle::Complete { by: own(by), answer, retention }
        }
        Settle::Release { by } => Settle::Release { by: own(by) },
        Settle::Doubt { by, doubt, observed_status, retention } => {
            Settle::Doubt { by: own(by), doubt, observed_status, retention }
        }
        Settle::Retryable { by, retention } => Settle::Retryable { by: own(by), retention },
        Settle::Resolve { how, retention, .. } => Settle::Resolve { expect: fence, how, retention },
        Settle::Purge { expect } => Settle::Purge { expect: expect.map(|_| fence) },
        Settle::Reassert { by, lease, first_seen, attempts, retention } => {
            Settle::Reassert { by: own(by), lease, first_seen, attempts, retention }
        }
    }
}

/// The entry as the server keeps it: what time has taken is gone, and stays gone.
fn aged(entry: Entry, now: Millis) -> Entry {
    match entry {
        Entry::Record(record) => match stands(&record, now, None) {
            Stands::Over(_) => Entry::Absent,
            Stands::In(State::Tombstone) => Entry::Record(Box::new(machine::shed(*record))),
            Stands::In(_) => Entry::Record(record),
        },
        other => other,
    }
}

/// Both of them.
struct Pair {
    connection: Connection,
    seal: Seal,
    entry: Entry,
    micros: u64,
    fences: Vec<(Fence, Claim)>,
}

impl Pair {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Keep => {}
            Change::Put(record) => self.entry = Entry::Record(record),
            Change::Remove => self.entry = Entry::Absent,
        }
    }

    fn around(&self, over: bool) -> Around {
        Around {
            now: self.micros / 1_000,
            next_fence: Fence(self.micros),
            epoch: None,
            room: if over { Room::Quota } else { Room::Free },
        }
    }

    fn claim(&mut self, claim: &Claim, over: bool) -> (Claimed, Claimed) {
        let (change, ours) = machine::claim(&self.entry, claim, &self.around(over));
        self.apply(change);
        if let Claimed::Acquired { fence, .. } = ours {
            self.fences.push((fence, *claim));
        }
        let value = run(&mut self.connection, &CLAIM, claim_args(claim, over), self.micros);
        (ours, Reader { seal: &self.seal, rid: &RID }.claimed(&value).unwrap())
    }

    fn settle(&mut self, place: usize, settle: Settle) -> (Settled, Settled) {
        let held = self.fences.iter().rev().nth(place).copied();
        let settle = by_fence(settle, held);
        let (change, ours) = machine::settle(&self.entry, &settle, &self.around(false));
        self.apply(change);
        let args = settle_args(&settle, &RID, &self.seal).unwrap();
        let value = run(&mut self.connection, &SETTLE, args, self.micros);
        (ours, Reader { seal: &self.seal, rid: &RID }.settled(&value).unwrap())
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        self.micros += 1;
        self.entry = aged(self.entry.clone(), self.micros / 1_000);
        match step {
            Step::Wait(millis) => self.micros += millis * 1_000,
            Step::Back(millis) => self.micros -= millis * 1_000,
            Step::Peek(digest) => {
                let asked = Fingerprint { version: 1, digest: [digest; 32] };
                let ours = machine::peek(&self.entry, &asked, &self.around(false));
                let value = run(&mut self.connection, &PEEK, peek_args(&asked), self.micros);
                let theirs = Reader { seal: &self.seal, rid: &RID }.peeked(&value).unwrap();
                prop_assert_eq!(ours, theirs);
            }
            Step::Claim(claim, over) => {
                let (ours, theirs) = self.claim(&claim, over);
                prop_assert_eq!(ours, theirs);
            }
            Step::Settle(place, settle) => {
                let (ours, theirs) = self.settle(place, settle);
                prop_assert_eq!(ours, theirs);
            }
        }
        self.agree()
    }

    fn agree(&mut self) -> Result<(), TestCaseError> {
        let now = self.micros / 1_000;
        self.entry = aged(self.entry.clone(), now);
        let value = run(&mut self.connection, &READ, Vec::new(), self.micros);
        let (seen, _) = Reader { seal: &self.seal, rid: &RID }.seen(&value).unwrap();
        prop_assert_eq!(&seen.entry, &self.entry);
        prop_assert_eq!(seen.now, now);
        let state = match &self.entry {
            Entry::Record(record) => match stands(record, now, None) {
                Stands::In(state) => Some(state),
                Stands::Over(_) => None,
            },
            Entry::Absent => None,
            Entry::Unreadable => Some(State::Unknown),
        };
        prop_assert_eq!(seen.state, state);
        self.expires()
    }

    /// The server drops a record when its retention ends, and never at the end of a lease.
    fn expires(&mut self) -> Result<(), TestCaseError> {
        let at: i64 =
            cmd("PEXPIRETIME").arg(key_of("t:", &RID)).query(&mut self.connection).unwrap();
        let expected = match &self.entry {
            Entry::Record(record) if record.keep_until == NEVER => -1,
            Entry::Record(record) => i64::try_from(record.keep_until).unwrap(),
            _ => -2,
        };
        prop_assert_eq!(at, expected);
        Ok(())
    }
}

#[test]
fn the_scripts_agree_with_the_machine() {
    let server = Server::start();
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let config =
        Config { cases: cases.unwrap_or(400), failure_persistence: None, ..Config::default() };
    let case = (steps(), any::<bool>());
    let result = TestRunner::new(config).run(&case, |(steps, sealed)| {
        let mut connection = server.connect();
        let _: () = connection.del(key_of("t:", &RID)).unwrap();
        let seal = Seal::new(sealed.then_some(&[9; 32]));
        let (entry, fences) = (Entry::Absent, Vec::new());
        let mut pair = Pair { connection, seal, entry, micros: START, fences };
        for step in steps {
            pair.step(step)?;
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// Changes what is written of a record behind everybody's back.
fn set(connection: &mut Connection, key: &[u8], damage: fn(&mut Vec<u8>)) {
    let mut bytes: Vec<u8> = connection.hget(key, "r").unwrap();
    damage(&mut bytes);
    let _: () = connection.hset(key, "r", bytes).unwrap();
}

#[test]
fn what_cannot_be_read_is_unknown_and_never_absent() {
    let server = Server::start();
    let mut connection = server.connect();
    let key = key_of("t:", &RID);
    let claim = Claim {
        fingerprint: Fingerprint { version: 1, digest: [1; 32] },
        owner: Owner { instance: [1; 16], epoch: 0 },
        nonce: Nonce([1; 16]),
        principal: Principal([1; 8]),
        lease: 1_000,
        retention: Retention { body: 1_000, key: 1_000, unknown: 1_000 },
        unknowns: Unknowns::Redispatch { grace: 0 },
        too_old: false,
    };
    let seal = Seal::default();
    let reader = Reader { seal: &seal, rid: &RID };
    let unreadable = crate::policy::idempotency::machine::Found::Unknown {
        doubt: Doubt::Unreadable,
        observed_status: None,
        first_seen: 0,
    };
    type Damage = fn(&mut Connection, &[u8]);
    let damages: [Damage; 7] = [
        |connection, key| set(connection, key, |bytes| bytes[0] = b'2'),
        |connection, key| set(connection, key, |bytes| bytes[1] = b'X'),
        |connection, key| set(connection, key, |bytes| bytes[2] = b'2'),
        |connection, key| set(connection, key, |bytes| bytes.truncate(90)),
        |connection, key| set(connection, key, |bytes| bytes[90] ^= 1),
        |connection, key| {
            let _: () = connection.hdel(key, "r").unwrap();
            let _: () = connection.hset(key, "an", "x").unwrap();
        },
        |connection, key| {
            let _: () = connection.del(key).unwrap();
            let _: () = connection.set(key, "a string").unwrap();
        },
    ];
    for damage in damages {
        let args = || claim_args(&claim, false);
        let acquired = run(&mut connection, &CLAIM, args(), START);
        assert!(matches!(reader.claimed(&acquired), Some(Claimed::Acquired { .. })));
        damage(&mut connection, &key);
        let again = run(&mut connection, &CLAIM, args(), START + 1);
        assert_eq!(reader.claimed(&again), Some(Claimed::Found(unreadable.clone())));
        let peeked = run(&mut connection, &PEEK, peek_args(&claim.fingerprint), START + 2);
        assert_eq!(reader.peeked(&peeked), Some(Some(unreadable.clone())));
        let read = run(&mut connection, &READ, Vec::new(), START + 3);
        let (seen, _) = reader.seen(&read).unwrap();
        assert_eq!((seen.entry, seen.state), (Entry::Unreadable, Some(State::Unknown)));
        let purge = |expect| settle_args(&Settle::Purge { expect }, &RID, &seal).unwrap();
        let refused = run(&mut connection, &SETTLE, purge(Some(Fence(START))), START + 4);
        assert_eq!(reader.settled(&refused), Some(Settled::Fenced { current: None }));
        let purged = run(&mut connection, &SETTLE, purge(None), START + 5);
        assert_eq!(reader.settled(&purged), Some(Settled::Done));
    }
}

#[test]
fn a_full_server_refuses_what_is_new_and_keeps_what_is_known() {
    let server = Server::start();
    let mut connection = server.connect();
    let _: () = cmd("CONFIG")
        .arg(&["SET", "maxmemory-policy", "noeviction"])
        .query(&mut connection)
        .unwrap();
    let claim = Claim {
        fingerprint: Fingerprint { version: 1, digest: [1; 32] },
        owner: Owner { instance: [1; 16], epoch: 0 },
        nonce: Nonce([1; 16]),
        principal: Principal([1; 8]),
        lease: 1_000,
        retention: Retention { body: 1_000, key: 1_000, unknown: NEVER },
        unknowns: Unknowns::Hold,
        too_old: false,
    };
    let seal = Seal::default();
    let reader = Reader { seal: &seal, rid: &RID };
    let value = run(&mut connection, &CLAIM, claim_args(&claim, false), START);
    let Some(Claimed::Acquired { fence, .. }) = reader.claimed(&value) else { panic!("{value:?}") };
    let _: () = cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).query(&mut connection).unwrap();
    let new = CLAIM.command(false, b"t:another", &claim_args(&claim, false));
    let refused = new.query::<Value>(&mut connection).unwrap_err();
    assert!(refused.to_string().contains("OOM"), "{refused}");
    let by = Claimant {
        fingerprint: claim.fingerprint,
        owner: claim.owner,
        nonce: claim.nonce,
        fence,
        principal: claim.principal,
    };
    let retention = claim.retention;
    let answer = Stored { body: Some([1; 100][..].into()), ..Stored::bare(201) };
    let changes = [
        (Settle::Renew { by, lease: 2_000 }, Settled::Done),
        (Settle::Complete { by, answer: answer.clone(), retention }, Settled::Done),
        (Settle::Complete { by, answer: answer.clone(), retention }, Settled::Already),
    ];
    for (settle, expected) in changes {
        let args = settle_args(&settle, &RID, &seal).unwrap();
        let value = run(&mut connection, &SETTLE, args, START + 1);
        assert_eq!(reader.settled(&value), Some(expected), "{settle:?}");
    }
    // Also what the server has lost.
    let _: () = cmd("DEL").arg(key_of("t:", &RID)).query(&mut connection).unwrap();
    let args = settle_args(&Settle::Complete { by, answer, retention }, &RID, &seal).unwrap();
    let value = run(&mut connection, &SETTLE, args, START + 1);
    assert_eq!(reader.settled(&value), Some(Settled::Reasserted));
}
