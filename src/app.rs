//! The composition root: builds all, binds all, then starts all; and ends it all in order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};

use crate::clock;
use crate::config::admin::Workers;
use crate::config::listener::{Bind, SocketMode};
use crate::config::{Environment, Problem, ProcessEnvironment};
use crate::control;
use crate::policy::retry::Suppressed;
use crate::protect::Queue;
use crate::proxy::Proxy;
use crate::server::accept::{self, Acceptor, Socketed};
use crate::server::drain::{Phase, Teller};
use crate::server::thread::{self, Desk};
use crate::telemetry::log::LogControl;
use crate::telemetry::metrics::Metrics;
use crate::upstream::own;
use crate::upstream::resolve::Resolver;
use crate::watch::Fingerprint;

/// How long the start waits for the names of upstreams, so that the first requests find endpoints.
const FIRST_ANSWERS: Duration = Duration::from_secs(2);
/// How often the drain looks whether connections are left.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// How long results that are being committed may take.
const LAST_RESULTS: Duration = Duration::from_secs(5);
/// How long the access log may take to write its last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What a start needs.
pub struct Start {
    /// The configuration.
    pub text: String,
    /// The file that it was read from, for reloads.
    pub file: Option<PathBuf>,
    /// Where `${…}` is looked up.
    pub environment: Box<dyn Environment + Send + Sync>,
    /// The process log, if it is ours to control.
    pub log: Option<LogControl>,
    /// The name server; `None` = the system's.
    pub resolver: Option<Resolver>,
}

impl Start {
    /// A start of this text with the process's own environment.
    #[must_use]
    pub fn new(text: String, file: Option<PathBuf>, log: Option<LogControl>) -> Self {
        Self { text, file, environment: Box::new(ProcessEnvironment), log, resolver: None }
    }
}

/// Why the process cannot start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration has problems.
    Config(Vec<Problem>),
    /// The operating system refused something; the text says what.
    System(String),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::System(text) => f.write_str(text),
            Self::Config(problems) => {
                problems.iter().try_for_each(|problem| writeln!(f, "{problem}"))
            }
        }
    }
}

impl std::error::Error for StartError {}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// A proxy that runs.
pub struct App {
    /// The data path's shared part.
    pub proxy: Arc<Proxy>,
    /// The listeners' addresses, by name.
    pub listeners: Vec<(Arc<str>, Address)>,
    /// The admin listener's address.
    pub admin: Address,
    phase: Teller,
    desks: Vec<Desk>,
    workers: Vec<JoinHandle<()>>,
    acceptor: JoinHandle<()>,
    control: JoinHandle<()>,
    control_end: oneshot::Sender<()>,
}

impl App {
    /// Builds, binds and starts.
    ///
    /// # Errors
    /// All problems of the configuration, or what the operating system refused.
    pub fn start(start: Start) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new(Suppressed::NAMES));
        let Start { text, file, environment, log, resolver } = start;
        // Of what is read here, so that a change before the watch begins is one.
        let known = file.as_ref().map(|_| Fingerprint::of(text.as_bytes()));
        let proxy = Proxy::start(&text, file, environment, Arc::clone(&metrics), log);
        let proxy = Arc::new(proxy.map_err(StartError::Config)?);
        let config = proxy.live().snapshot.config.clone();
        let resolver = match resolver {
            Some(resolver) => resolver,
            None => Resolver::system().map_err(StartError::System)?,
        };
        let mut acceptors = Vec::new();
        for listener in &config.listeners {
            acceptors.push(Acceptor {
                name: listener.name.as_str().into(),
                metrics: metrics.listener(&listener.name),
                max_connections: listener.limits.max_connections,
                socket: bind(
                    &listener.bind,
                    listener.socket_mode,
                    &format!("listener `{}`", listener.name),
                )?,
                proxy: Arc::clone(&proxy),
            });
        }
        let admin = bind(&config.admin.bind, None, "the admin listener")?;
        let listeners: Vec<_> =
            acceptors.iter().map(|a| (Arc::clone(&a.name), address(&a.socket))).collect();
        let admin_address = address(&admin);
        for (_, at) in listeners.iter().chain([&(Arc::from(""), admin_address.clone())]) {
            if let Address::Tcp(at) = at {
                own::listens(*at);
            }
        }
        let phase: Teller = watch::Sender::new(Phase::Serving);
        let mut desks = Vec::new();
        let mut workers = Vec::new();
        for index in 0..worker_count(config.runtime.workers) {
            let worker = thread::start(index, Arc::clone(&proxy), phase.subscribe());
            let (desk, handle) = worker.map_err(|e| system("cannot start a worker", &e))?;
            desks.push(desk);
            workers.push(handle);
        }
        let (control_end, ended) = oneshot::channel();
        let (answered, first_answers) = std::sync::mpsc::channel();
        let queues = acceptors.iter().filter_map(|acceptor| queue(&acceptor.socket)).collect();
        let (proxy_too, resolver) = (Arc::clone(&proxy), Arc::new(resolver));
        let parts = control::Parts { proxy: proxy_too, resolver, admin, queues, known };
        let control = spawn("control", move || control::run(parts, answered, ended))?;
        // A name that does not answer in time is not fatal: its requests get 503 until it does.
        let _ = first_answers.recv_timeout(FIRST_ANSWERS);
        let accepting = Accepting { acceptors, desks: desks.clone(), phase: phase.clone() };
        let acceptor = spawn("accept", move || accepting.run())?;
        Ok(Self {
            proxy,
            listeners,
            admin: admin_address,
            phase,
            desks,
            workers,
            acceptor,
            control,
            control_end,
        })
    }

    /// The address of a listener.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<&Address> {
        self.listeners.iter().find(|(known, _)| &**known == name).map(|(_, address)| address)
    }

    /// Ends in order: readiness fails; after the linger time, if connections are open, the
    /// listeners close; what is in flight is finished, or cut off when the drain's timeout has
    /// passed.
    pub async fn drain(self) {
        self.proxy.begin_drain();
        let settings = self.proxy.live().snapshot.config.runtime.drain.clone();
        tracing::info!(timeout = %settings.timeout, linger = %settings.linger, "draining");
        let end = clock::now() + *settings.timeout;
        let linger = clock::now() + (*settings.linger).min(*settings.timeout);
        while self.connections() > 0 && clock::now() < linger {
            clock::sleep(DRAIN_LOOK).await;
        }
        self.phase.send_replace(Phase::Closing);
        while !self.workers.iter().all(JoinHandle::is_finished) && clock::now() < end {
            clock::sleep(DRAIN_LOOK).await;
        }
        let cut = self.connections();
        if cut > 0 {
            tracing::warn!(connections = cut, "drain timeout passed, cutting off what is left");
        }
        self.stop();
    }

    /// Connections of all workers.
    fn connections(&self) -> usize {
        self.desks.iter().map(Desk::connections).sum()
    }

    /// Ends at once.
    pub fn stop(self) {
        self.phase.send_replace(Phase::Over);
        // A thread that panicked has said so; there is nobody left to tell.
        let _ = self.acceptor.join();
        for worker in self.workers {
            let _ = worker.join();
        }
        drop(self.control_end);
        let _ = self.control.join();
        self.proxy.stores.close(clock::now() + LAST_RESULTS, clock::now);
        if !self.proxy.access_log.close(LAST_LINES) {
            tracing::warn!("the last lines of the access log are lost");
        }
        tracing::info!("stopped");
    }
}

/// The thread that accepts for all listeners.
struct Accepting {
    acceptors: Vec<Acceptor>,
    desks: Vec<Desk>,
    phase: Teller,
}

impl Accepting {
    fn run(self) {
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "cannot accept: no event queue"),
        };
        runtime.block_on(async {
            let mut running = tokio::task::JoinSet::new();
            for acceptor in self.acceptors {
                running.spawn(acceptor.run(self.desks.clone(), self.phase.subscribe()));
            }
            while let Some(ended) = running.join_next().await {
                if let Ok(Err(error)) = ended {
                    tracing::error!(%error, "a listener cannot accept");
                }
            }
        });
    }
}

fn bind(to: &Bind, mode: Option<SocketMode>, what: &str) -> Result<Socketed, StartError> {
    accept::bind(to, mode).map_err(|error| {
        StartError::System(format!(
            "{what} cannot bind {to}: {error}; is another process listening there?"
        ))
    })
}

/// The accept queue of a listener, where it can be watched.
fn queue(socket: &Socketed) -> Option<Queue> {
    let Socketed::Tcp(_, address) = socket else { return None };
    let (inode, backlog) = (socket.inode()?, accept::BACKLOG.unsigned_abs());
    Some(Queue { inode, v6: address.is_ipv6(), backlog })
}

fn address(socket: &Socketed) -> Address {
    match socket {
        Socketed::Tcp(_, address) => Address::Tcp(*address),
        Socketed::Unix(_, file) => Address::Unix(file.path().to_owned()),
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map_err(|error| system("cannot start a thread", &error))
}

fn system(what: &str, error: &std::io::Error) -> StartError {
    StartError::System(format!("{what}: {error}"))
}

/// The CPU quota of the cgroup, which the standard library reads, at least 1.
fn worker_count(workers: Workers) -> usize {
    match workers {
        Workers::Count(count) => count,
        Workers::Auto => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    }
}
