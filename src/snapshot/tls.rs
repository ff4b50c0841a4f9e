//! TLS of listeners and upstreams: read when a configuration is compiled, taken over from the one
//! before while the settings are the same, and read again when the files change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::Snapshot;
use crate::clock;
use crate::config::{Config, Problem, Source};
use crate::telemetry::metrics::{Expiry, Metrics};
use crate::tls::client::Client;
use crate::tls::files::{Disk, Fault, Shown};
use crate::tls::kept::Swap;
use crate::tls::server::Server;

/// TLS of a configuration, by name.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    pub(super) servers: BTreeMap<String, Arc<Server>>,
    pub(super) clients: BTreeMap<String, Arc<Client>>,
}

/// TLS of one listener or upstream, for operators.
#[derive(Clone, Debug)]
pub struct Standing {
    /// `listener` or `upstream`.
    pub side: &'static str,
    /// Its name.
    pub name: String,
    /// The certificates that it shows.
    pub certificates: Vec<Shown>,
    /// Why the files that are there now are not in use, if they are not.
    pub problem: Option<String>,
}

/// Reads what is not taken over. All faults of all files are collected.
pub(super) fn compile(
    config: &Config,
    source: &Source,
    previous: Option<&Snapshot>,
    problems: &mut Vec<Problem>,
) -> Compiled {
    let disk = Disk::default();
    let mut compiled = Compiled::default();
    let mut refuse = |at: String, faults: Vec<Fault>| {
        problems.extend(faults.into_iter().map(|fault| problem(source, &at, fault)));
    };
    for (index, listener) in config.listeners.iter().enumerate() {
        let Some(settings) = &listener.tls else { continue };
        let known = previous.and_then(|previous| previous.servers.get(&listener.name));
        let server = match known.filter(|known| known.is_of(settings, &listener.protocols)) {
            Some(known) => Ok(Arc::clone(known)),
            None => Server::load(settings, &listener.protocols, &disk).map(Arc::new),
        };
        match server {
            Ok(server) => drop(compiled.servers.insert(listener.name.clone(), server)),
            Err(faults) => refuse(format!("listeners[{index}].tls"), faults),
        }
    }
    for (name, upstream) in &config.upstreams {
        let Some(settings) = &upstream.tls else { continue };
        let known = previous.and_then(|previous| previous.upstreams.get(name)?.tls.as_ref());
        let client = match known.filter(|known| known.is_of(settings)) {
            Some(known) => Ok(Arc::clone(known)),
            None => Client::load(settings, &disk).map(Arc::new),
        };
        match client {
            Ok(client) => drop(compiled.clients.insert(name.clone(), client)),
            Err(faults) => refuse(format!("upstreams.{name}.tls"), faults),
        }
    }
    compiled
}

fn problem(source: &Source, at: &str, fault: Fault) -> Problem {
    let path = if fault.key.is_empty() { at.to_owned() } else { format!("{at}.{}", fault.key) };
    super::problem(source, &path, fault.message).suggest(fault.suggestion.as_deref())
}

impl Snapshot {
    /// TLS of every listener and upstream that has it.
    #[must_use]
    pub fn tls(&self) -> Vec<Standing> {
        let standing = |side, name: &str, certificates, problem| Standing {
            side,
            name: name.to_owned(),
            certificates,
            problem,
        };
        let servers = self.servers.iter();
        let servers = servers.map(|(name, s)| standing("listener", name, s.shown(), s.problem()));
        let clients = self.clients();
        let clients = clients.map(|(name, c)| standing("upstream", name, c.shown(), c.problem()));
        servers.chain(clients).collect()
    }

    fn clients(&self) -> impl Iterator<Item = (&str, &Arc<Client>)> {
        let with_tls = self.upstreams.iter();
        with_tls.filter_map(|(name, upstream)| Some((name.as_str(), upstream.tls.as_ref()?)))
    }

    /// The folders that hold files of TLS.
    #[must_use]
    pub fn tls_folders(&self) -> BTreeSet<PathBuf> {
        let servers = self.servers.values().flat_map(|server| server.files());
        let clients = self.clients().flat_map(|(_, client)| client.files());
        servers.chain(clients).map(folder).collect()
    }

    /// Takes the files of TLS as they are now, where they have changed and have no fault. Reads
    /// files, so it blocks.
    pub fn refresh_tls(&self, metrics: &Metrics) {
        let (disk, now) = (Disk::default(), clock::wall_now());
        for (name, server) in &self.servers {
            if let Some(swap) = server.refresh(&disk, now) {
                tell("listener", name, &swap, metrics);
            }
        }
        for (name, client) in self.clients() {
            if let Some(swap) = client.refresh(&disk, now) {
                tell("upstream", name, &swap, metrics);
            }
        }
    }

    /// Shows how long certificates are still good.
    pub fn measure_tls(&self, metrics: &Metrics, now: SystemTime) {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let (mut expiries, mut refused) = (Vec::new(), Vec::new());
        for Standing { side, name, certificates, problem } in self.tls() {
            expiries.extend(certificates.into_iter().map(|certificate| Expiry {
                side,
                name: name.clone(),
                file: certificate.file.display().to_string(),
                seconds: certificate.not_after as f64 - now,
            }));
            refused.push((side, name, problem.is_some()));
        }
        metrics.tls().show(expiries, refused);
    }
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn tell(side: &'static str, name: &str, swap: &Swap, metrics: &Metrics) {
    metrics.tls().swapped(*swap == Swap::Applied);
    match swap {
        Swap::Applied => tracing::info!(side, name, "changed TLS files are in use"),
        Swap::Rejected(problem) => {
            tracing::error!(side, name, problem, "changed TLS files refused; earlier ones stay");
        }
    }
}
