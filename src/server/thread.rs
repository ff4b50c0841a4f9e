//! One data-path thread: its runtime, its connections, and its regular rounds.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;

use super::connection;
use super::drain::{self, Phase};
use super::handshake::Handshakes;
use super::origin;
use crate::clock;
use crate::config::listener::{Limits, Protocol};
use crate::policy::protection::patience;
use crate::proxy::Proxy;
use crate::proxy::peer::{Ends, Peer, Registry};
use crate::proxy::worker::Worker;
use crate::telemetry::metrics::ListenerMetrics;
use crate::tls::server::Server;
use crate::upstream::connect::Stream;

/// The time between two rounds over a worker's connections: the grain of head, idle and stall
/// timeouts.
const ROUND: Duration = Duration::from_millis(100);
/// Rounds between two sweeps of the pool.
const ROUNDS_PER_SWEEP: u32 = 10;

/// A connection on its way to a worker.
pub struct Accepted {
    /// The stream, not yet of any runtime.
    pub stream: std::io::Result<Handed>,
    /// The client's address, if it has one.
    pub client: Option<SocketAddr>,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The listener's metrics.
    pub metrics: Arc<ListenerMetrics>,
    /// Its place under the listener's limit.
    pub place: OwnedSemaphorePermit,
}

/// A stream between two runtimes.
pub enum Handed {
    /// Over TCP.
    Tcp(std::net::TcpStream),
    /// Over a unix socket.
    Unix(std::os::unix::net::UnixStream),
}

/// A worker as the acceptor sees it.
#[derive(Clone)]
pub struct Desk {
    /// Where connections are handed over. Bounded by the listeners' places, of which each
    /// connection holds one from before it was accepted.
    queue: UnboundedSender<Accepted>,
    connections: Arc<AtomicUsize>,
}

impl Desk {
    /// Connections of this worker.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Hands a connection over.
    pub fn hand(&self, accepted: Accepted) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        if self.queue.send(accepted).is_err() {
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Counts a connection of a worker for as long as it lives.
struct Counted {
    connections: Arc<AtomicUsize>,
    worker: Rc<Worker>,
    metrics: Arc<ListenerMetrics>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        self.worker.metrics.connections.dec();
        self.metrics.connections.dec();
    }
}

/// Starts a worker.
///
/// # Errors
/// When the operating system has no thread or no event queue left.
pub fn start(
    index: usize,
    proxy: Arc<Proxy>,
    drain: drain::Listener,
) -> std::io::Result<(Desk, std::thread::JoinHandle<()>)> {
    let (queue, connections) = unbounded_channel();
    let count = Arc::new(AtomicUsize::new(0));
    let desk = Desk { queue, connections: Arc::clone(&count) };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let metrics = proxy.metrics.worker(index);
        let worker = Rc::new(Worker::new(proxy, metrics));
        let local = LocalSet::new();
        local.block_on(&runtime, work(worker, connections, count, drain));
    })?;
    Ok((desk, thread))
}

async fn work(
    worker: Rc<Worker>,
    mut queue: UnboundedReceiver<Accepted>,
    count: Arc<AtomicUsize>,
    mut drain: drain::Listener,
) {
    let registry = Rc::new(Registry::default());
    let handshakes = Rc::default();
    let rounds = tokio::task::spawn_local(rounds(Rc::clone(&worker), Rc::clone(&registry)));
    let mut closing = drain.clone();
    loop {
        tokio::select! {
            biased;
            () = drain::reached(&mut closing, Phase::Closing) => break,
            accepted = queue.recv() => match accepted {
                Some(accepted) => take(&worker, &registry, &handshakes, &count, accepted),
                None => break,
            },
        }
    }
    // Those that were handed over before the listeners closed are served, and closed after that.
    while let Ok(accepted) = queue.try_recv() {
        take(&worker, &registry, &handshakes, &count, accepted);
    }
    registry.close_all();
    worker.pools.clear();
    tokio::select! {
        () = async { registry.emptied().await; worker.aside.emptied().await } => {}
        () = drain::reached(&mut drain, Phase::Over) => {}
    }
    rounds.abort();
}

fn take(
    worker: &Rc<Worker>,
    registry: &Rc<Registry>,
    handshakes: &Rc<Handshakes>,
    count: &Arc<AtomicUsize>,
    accepted: Accepted,
) {
    let Accepted { stream, client, listener, metrics, place } = accepted;
    worker.metrics.connections.inc();
    metrics.connections.inc();
    let counted = Counted {
        connections: Arc::clone(count),
        worker: Rc::clone(worker),
        metrics: Arc::clone(&metrics),
        _place: place,
    };
    let stream = stream.and_then(|stream| match stream {
        Handed::Tcp(stream) => tokio::net::TcpStream::from_std(stream).map(Stream::Tcp),
        Handed::Unix(stream) => tokio::net::UnixStream::from_std(stream).map(Stream::Unix),
    });
    let stream = match stream {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%listener, %error, "connection lost at hand-over"),
    };
    let live = worker.proxy.live();
    let Some((_, settings)) = live.snapshot.listener(&listener) else { return };
    let (protocols, limits) = (settings.protocols.clone(), settings.limits.clone());
    let tls = live.snapshot.servers.get(&*listener).cloned();
    let ends = origin::ends(&stream, client, settings.original_destination);
    let told = settings.proxy_protocol;
    let guest = Guest {
        worker: Rc::clone(worker),
        registry: Rc::clone(registry),
        handshakes: Rc::clone(handshakes),
        counted,
        stream,
        ends,
        listener,
        metrics,
        protocols,
        limits,
        tls,
    };
    if told {
        // A task of its own, which is gone when the connection is served.
        tokio::task::spawn_local(async move {
            if let Some(guest) = introduced(guest).await {
                serve(guest);
            }
        });
    } else {
        serve(guest);
    }
}

/// A connection that is about to be served.
struct Guest {
    worker: Rc<Worker>,
    registry: Rc<Registry>,
    handshakes: Rc<Handshakes>,
    counted: Counted,
    stream: Stream,
    ends: Ends,
    listener: Arc<str>,
    metrics: Arc<ListenerMetrics>,
    protocols: Vec<Protocol>,
    limits: Limits,
    tls: Option<Arc<Server>>,
}

impl Guest {
    fn peer(&self) -> Rc<Peer> {
        let (listener, metrics) = (Arc::clone(&self.listener), Arc::clone(&self.metrics));
        Peer::new(listener, metrics, self.ends, &self.limits, clock::now())
    }
}

/// Lets whoever connected say whom it connects for; nothing when it did not.
async fn introduced(mut guest: Guest) -> Option<Guest> {
    let peer = guest.peer();
    // Entered meanwhile, so that the end of the process does not wait for it.
    let registered = guest.registry.enter(&peer);
    let until = clock::now() + *guest.limits.header_timeout;
    guest.ends = origin::told(&mut guest.stream, &peer, until).await?;
    drop(registered);
    Some(guest)
}

/// Serves a connection on a task of its own.
fn serve(guest: Guest) {
    let peer = guest.peer();
    let registered = guest.registry.enter(&peer);
    let Guest { worker, handshakes, counted, stream, protocols, limits, tls, .. } = guest;
    // A task of its own kind, so that a connection in the clear keeps no room for a handshake.
    if let Some(tls) = tls {
        tokio::task::spawn_local(async move {
            let shaken = Box::pin(handshakes.shake(&tls, &peer, stream, &protocols)).await;
            drop((tls, handshakes));
            if let Some((stream, protocol)) = shaken {
                connection::serve(worker, peer, stream, &[protocol], &limits).await;
            }
            drop(registered);
            drop(counted);
        });
        return;
    }
    tokio::task::spawn_local(async move {
        connection::serve(worker, peer, stream, &protocols, &limits).await;
        drop(registered);
        drop(counted);
    });
}

/// Looks over the connections and the pool, and measures how late the thread is.
async fn rounds(worker: Rc<Worker>, registry: Rc<Registry>) {
    let runtime = Handle::current().metrics();
    let mut busy_before = Duration::ZERO;
    let mut round = 0_u32;
    loop {
        let due = clock::now() + ROUND;
        clock::sleep_until(due).await;
        let now = clock::now();
        worker.tell_date();
        worker.late(now.saturating_duration_since(due), now);
        let busy = runtime.worker_total_busy_duration(0);
        worker.metrics.busy.add(busy.saturating_sub(busy_before));
        busy_before = busy;
        let short = worker.proxy.protection.of_connections();
        let patience = patience(short);
        registry.look_over(now, patience);
        worker.pools.give_way();
        round = round.wrapping_add(1);
        if round.is_multiple_of(ROUNDS_PER_SWEEP) || short > 0.0 {
            worker.pools.sweep(now, patience);
        }
    }
}
