//! Listening sockets, and the thread that accepts on them and hands connections to the workers.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::drain::{self, Phase};
use super::socket_file::{self, SocketFile};
use super::thread::{Accepted, Desk, Handed};
use crate::clock;
use crate::config::listener::{Bind, SocketMode};
use crate::proxy::Proxy;
use crate::telemetry::metrics::ListenerMetrics;

/// Connections that the kernel keeps for us while we are at our own limit.
pub const BACKLOG: i32 = 1024;
/// The pause after an accept that failed for want of descriptors or memory, so that we do not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The least time between two lines of the log about that.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// A socket that listens.
pub enum Socketed {
    /// TCP, and its address.
    Tcp(std::net::TcpListener, SocketAddr),
    /// A unix socket, and its file, which is removed at the end.
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

impl Socketed {
    /// The inode of a TCP socket, by which the kernel's tables name it; nothing where there is no
    /// procfs to ask.
    #[must_use]
    pub fn inode(&self) -> Option<u64> {
        let Self::Tcp(listener, _) = self else { return None };
        let entry = format!("/proc/self/fd/{}", listener.as_raw_fd());
        std::fs::metadata(entry).ok().map(|entry| entry.ino())
    }
}

/// Binds a socket. A name is resolved once, here. `mode` is who may connect to a unix socket, as
/// the permissions of its file; as the process's umask has them, if not given.
///
/// # Errors
/// What the operating system said.
pub fn bind(bind: &Bind, mode: Option<SocketMode>) -> std::io::Result<Socketed> {
    match bind {
        Bind::Unix(path) => {
            let (listener, file) = socket_file::listen(path, mode, BACKLOG)?;
            Ok(Socketed::Unix(listener, file))
        }
        Bind::Tcp(address) => {
            let mut last = std::io::Error::new(
                std::io::ErrorKind::AddrNotAvailable,
                "the name has no address",
            );
            for address in std::net::ToSocketAddrs::to_socket_addrs(address.as_str())? {
                match bind_tcp(address) {
                    Ok(listener) => {
                        let address = listener.local_addr()?;
                        return Ok(Socketed::Tcp(listener, address));
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}

/// Not SO_REUSEPORT: a second process on the same port must fail, not take half of the traffic.
fn bind_tcp(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A listener that accepts.
pub struct Acceptor {
    /// Its name.
    pub name: Arc<str>,
    /// Its metrics.
    pub metrics: Arc<ListenerMetrics>,
    /// The most connections at once; above it nothing is accepted, and the kernel's queue fills.
    pub max_connections: usize,
    /// Its socket.
    pub socket: Socketed,
    /// What all workers share.
    pub proxy: Arc<Proxy>,
}

enum Listening {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

impl Acceptor {
    /// Accepts until the drain closes the listeners.
    ///
    /// # Errors
    /// When the socket cannot be watched.
    pub async fn run(self, desks: Vec<Desk>, mut drain: drain::Listener) -> std::io::Result<()> {
        let listening = match self.socket {
            Socketed::Tcp(listener, _) => Listening::Tcp(TcpListener::from_std(listener)?),
            Socketed::Unix(listener, file) => {
                Listening::Unix { listener: UnixListener::from_std(listener)?, _file: file }
            }
        };
        self.metrics.connection_limit.set(self.max_connections);
        let places = Arc::new(Semaphore::new(self.max_connections));
        let accepting = async {
            let mut said: Option<Instant> = None;
            loop {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let accepted = accept(&listening).await;
                let (stream, client) = match accepted.and_then(|one| spared(&self.proxy, one)) {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        let now = clock::now();
                        if said.is_none_or(|at| now.saturating_duration_since(at) >= LINE_EVERY) {
                            said = Some(now);
                            tracing::warn!(listener = %self.name, %error, "cannot accept");
                        }
                        clock::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                self.metrics.accepted.inc();
                let Some(desk) = desks.iter().min_by_key(|desk| desk.connections()) else { return };
                desk.hand(Accepted {
                    stream: Ok(stream),
                    client,
                    listener: Arc::clone(&self.name),
                    metrics: Arc::clone(&self.metrics),
                    place,
                });
            }
        };
        tokio::select! {
            () = accepting => {}
            () = drain::reached(&mut drain, Phase::Closing) => {}
        }
        Ok(())
    }
}

/// A connection whose descriptor can be spared for a client; another one is closed at once.
fn spared(
    proxy: &Proxy,
    (stream, client): (Handed, Option<SocketAddr>),
) -> std::io::Result<(Handed, Option<SocketAddr>)> {
    let descriptor = match &stream {
        Handed::Tcp(stream) => stream.as_raw_fd(),
        Handed::Unix(stream) => stream.as_raw_fd(),
    };
    if proxy.protection.for_clients(u64::from(descriptor.unsigned_abs())) {
        return Ok((stream, client));
    }
    Err(std::io::Error::other("the last descriptors are for the operator; raise the limit"))
}

async fn accept(listening: &Listening) -> std::io::Result<(Handed, Option<SocketAddr>)> {
    match listening {
        Listening::Tcp(listener) => {
            let (stream, client) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Handed::Tcp(stream.into_std()?), Some(client)))
        }
        Listening::Unix { listener, .. } => {
            let (stream, _) = listener.accept().await?;
            Ok((Handed::Unix(stream.into_std()?), None))
        }
    }
}
