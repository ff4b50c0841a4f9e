//! What the members of a cluster, or a store, reach a member through: it can cut some of them off,
//! and lose answers.
//!
//! Members name themselves in each request to another one, and every way to a member is one
//! relay; so a relay knows whose connection it carries.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How a member names itself.
const FROM: &[u8] = b"X-Server-From: ";
/// The most digits of a member's number, and the end of the line.
const NUMBER: usize = 18;

/// The way to one member.
pub(crate) struct Relay {
    /// Where others find it.
    pub(crate) address: SocketAddr,
    cut: watch::Sender<Cut>,
}

/// Who is cut off.
#[derive(Clone, Default)]
struct Cut {
    all: bool,
    /// Answers are lost.
    answers: bool,
    members: HashSet<String>,
}

impl Relay {
    /// A relay to this address, on the runtime of who asks.
    pub(crate) async fn to(member: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(Cut::default());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, member, is_cut.clone()));
            }
        });
        Self { address, cut }
    }

    /// Nothing comes through any more.
    pub(crate) fn cut_all(&self) {
        self.cut.send_modify(|cut| cut.all = true);
    }

    /// Nothing of this member comes through any more.
    pub(crate) fn cut_off(&self, member: &str) {
        self.cut.send_modify(|cut| {
            cut.members.insert(member.to_owned());
        });
    }

    /// Nothing comes back any more; what is asked still arrives.
    pub(crate) fn lose_answers(&self) {
        self.cut.send_modify(|cut| cut.answers = true);
    }

    /// Everything comes through again, on new connections where something was lost.
    pub(crate) fn heal(&self) {
        self.cut.send_replace(Cut::default());
    }
}

/// Carries one connection until it is cut.
async fn carry(mut from: TcpStream, to: SocketAddr, cut: watch::Receiver<Cut>) {
    let Ok(mut to) = TcpStream::connect(to).await else { return };
    let (mut from_read, mut from_write) = from.split();
    let (mut to_read, mut to_write) = to.split();
    let names = Arc::new(Mutex::new(HashSet::new()));
    let is_cut = |cut: &Cut| cut.all || !cut.members.is_disjoint(&names.lock().unwrap());
    let there = async {
        let (mut chunk, mut seen) = (vec![0; 16 << 10], Vec::new());
        while let Ok(read @ 1..) = from_read.read(&mut chunk).await {
            seen.extend_from_slice(&chunk[..read]);
            names.lock().unwrap().extend(named(&seen));
            let kept = seen.len().saturating_sub(FROM.len() + NUMBER);
            seen.drain(..kept);
            let over = is_cut(&cut.borrow());
            if over || to_write.write_all(&chunk[..read]).await.is_err() {
                return;
            }
        }
    };
    let back = async {
        let (mut chunk, mut lost) = (vec![0; 16 << 10], false);
        while let Ok(read @ 1..) = to_read.read(&mut chunk).await {
            lost |= cut.borrow().answers;
            if !lost && from_write.write_all(&chunk[..read]).await.is_err() {
                return;
            }
        }
    };
    let mut watched = cut.clone();
    let cutting = async {
        let mut lossy = false;
        loop {
            let now = watched.borrow_and_update().clone();
            if is_cut(&now) || (lossy && !now.answers) {
                return;
            }
            lossy |= now.answers;
            if watched.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
        () = cutting => {}
    }
}

/// The members that these bytes name.
fn named(bytes: &[u8]) -> Vec<String> {
    let starts = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(FROM));
    let number = |at: usize| {
        let digits = bytes[at + FROM.len()..].split(|byte| *byte == b'\r');
        String::from_utf8_lossy(digits.clone().next().unwrap_or_default()).into_owned()
    };
    starts.map(number).collect()
}
