//! A TCP relay between a client and its server that loses what it is told to lose.
//!
//! A connection does not lose bytes in its middle and go on, so whatever is swallowed stays
//! swallowed until the connection is cut.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outrigger::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to what comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It goes on.
    #[default]
    Pass,
    /// It goes on later.
    Delay(Duration),
    /// Requests do not arrive, and the connection stays open.
    SwallowRequests,
    /// Replies do not arrive, and the connection stays open.
    SwallowReplies,
    /// The same from the first request on that contains this text.
    SwallowRepliesTo(&'static str),
    /// The connection is cut when the next request comes, which does not arrive.
    CutAtRequest,
    /// The connection is cut when the next reply comes: its request has been done.
    CutAtReply,
    /// All connections are cut, and new ones end at once.
    Refuse,
}

struct Shared {
    rule: Mutex<Rule>,
    cuts: watch::Sender<u64>,
    /// Requests, and replies, that came in pieces of whatever size.
    came: [AtomicUsize; 2],
}

/// A relay; ends with its holder.
pub(crate) struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

impl Relay {
    /// A relay to this address, on a port of its own.
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            rule: Mutex::default(),
            cuts: watch::Sender::new(0),
            came: Default::default(),
        });
        let ours = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if ours.rule() == Rule::Refuse {
                    continue;
                }
                if let Ok(server) = TcpStream::connect(server).await {
                    relay(client, server, &ours);
                }
            }
        });
        Self { address, shared, task }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on.
    pub(crate) fn rule(&self, rule: Rule) {
        *self.shared.rule.lock().unwrap() = rule;
        if rule == Rule::Refuse {
            self.cut();
        }
    }

    /// Whether a rule that holds once has been used.
    pub(crate) fn is_used(&self) -> bool {
        self.shared.rule() == Rule::Pass
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// How many pieces of requests have come.
    pub(crate) fn requests(&self) -> usize {
        self.shared.came[0].load(Ordering::SeqCst)
    }
}

impl Shared {
    fn rule(&self) -> Rule {
        *self.rule.lock().unwrap()
    }

    /// Takes a rule that holds once.
    fn uses(&self, once: Rule) -> bool {
        let mut rule = self.rule.lock().unwrap();
        let now = *rule == once;
        if now {
            *rule = Rule::Pass;
        }
        now
    }
}

/// Both ways; when one ends, so does the other.
fn relay(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let mut cuts = shared.cuts.subscribe();
        cuts.mark_unchanged();
        tokio::select! {
            () = carry(from_client, to_server, &shared, true) => {}
            () = carry(from_server, to_client, &shared, false) => {}
            _ = cuts.changed() => {}
        }
    });
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, requests: bool) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(len @ 1..) = from.read(&mut bytes).await {
        shared.came[usize::from(!requests)].fetch_add(1, Ordering::SeqCst);
        let once = if requests { Rule::CutAtRequest } else { Rule::CutAtReply };
        if shared.uses(once) {
            return;
        }
        match shared.rule() {
            Rule::SwallowRepliesTo(text) if requests && contains(&bytes[..len], text) => {
                *shared.rule.lock().unwrap() = Rule::SwallowReplies;
            }
            Rule::SwallowRequests if requests => continue,
            Rule::SwallowReplies if !requests => continue,
            Rule::Refuse => return,
            Rule::Delay(wait) => clock::sleep(wait).await,
            _ => {}
        }
        if to.write_all(&bytes[..len]).await.is_err() {
            return;
        }
    }
}
