//! Names to addresses, again and again: by the TTL of the answer, within bounds.
//!
//! [`Resolver`] asks once, [`keep_resolved`] keeps asking and publishes each change. What an answer
//! or a failure does to the set is decided in [`crate::policy::resolution`]. Nothing is cached
//! here, because a TTL that is counted down twice would hide changes; the name servers do that.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};

use crate::clock;
use crate::policy::resolution::{Answer, Bounds, Failure, Resolution, Transition, Update};

/// The longest time for one question to one set of name servers. Shorter than the five seconds of
/// `resolv.conf(5)`, because a server that never answers for one address family would otherwise use
/// up [`LOOKUP_TIMEOUT`] and lose the answer for the other.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// How often an unanswered question is repeated at most.
const MAX_REPEATS: usize = 1;

/// The longest time for a whole lookup: all search domains, both address families, all repeats.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);

/// The TTL of what no name server said: `/etc/hosts` and literal addresses. Bounds cap it.
const LOCAL_TTL: Duration = Duration::from_secs(24 * 3600);

/// The largest `resolv.conf` or `hosts` file that is read; more cannot be meant.
const MAX_FILE: u64 = 4 << 20;

/// Asks for the addresses of names: IPv4 and IPv6 together, by the hosts file first and the name
/// servers, search domains and `ndots` of `resolv.conf(5)` then. Both files are read again when
/// they have changed.
pub struct Resolver {
    source: Source,
    current: Mutex<Current>,
    /// Whether there is a route to an address.
    has_route: fn(IpAddr) -> bool,
}

/// Where the settings come from.
enum Source {
    Files { resolv_conf: PathBuf, hosts: PathBuf },
    Server,
}

/// The settings as they were last read.
struct Current {
    stamps: [Option<Stamp>; 2],
    client: TokioResolver,
    hosts: Arc<Hosts>,
}

/// What tells one version of a file from another.
type Stamp = (SystemTime, u64);

impl Resolver {
    /// A resolver with the settings of the system. Without a readable `/etc/resolv.conf` it asks
    /// the name server of the local machine, as `resolv.conf(5)` says.
    ///
    /// # Errors
    /// When the client of the name servers cannot be built.
    pub fn system() -> Result<Self, String> {
        Self::from_files("/etc/resolv.conf".into(), "/etc/hosts".into())
    }

    /// A resolver that asks one name server over UDP, and TCP for long answers, with no hosts file
    /// and no search domain.
    ///
    /// # Errors
    /// When the client of the name server cannot be built.
    pub fn with_server(server: SocketAddr) -> Result<Self, String> {
        Self::asking(server, QUERY_TIMEOUT)
    }

    fn asking(server: SocketAddr, timeout: Duration) -> Result<Self, String> {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
        let connections = connections.into_iter().map(|mut connection| {
            connection.port = server.port();
            connection
        });
        let server = NameServerConfig::new(server.ip(), true, connections.collect());
        let config = ResolverConfig::from_name_servers(vec![server]);
        let mut options = ResolverOpts::default();
        options.timeout = timeout;
        let client = client(config, options)?;
        let current = Current { stamps: [None; 2], client, hosts: Arc::default() };
        Ok(Self { source: Source::Server, current: Mutex::new(current), has_route })
    }

    fn from_files(resolv_conf: PathBuf, hosts: PathBuf) -> Result<Self, String> {
        let current = Current::read(&resolv_conf, &hosts)?;
        let source = Source::Files { resolv_conf, hosts };
        Ok(Self { source, current: Mutex::new(current), has_route })
    }

    /// Asks for the addresses of a name, IPv4 before IPv6. One address family is enough when the
    /// other fails. A literal address is its own answer.
    ///
    /// # Errors
    /// When neither family has an address; why.
    pub async fn lookup(&self, host: &str) -> Result<Answer, Failure> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(Answer { addresses: vec![ip], ttl: LOCAL_TTL });
        }
        let name = Name::from_str_relaxed(host.to_ascii_lowercase())
            .map_err(|error| Failure::BadName(error.to_string()))?;
        let (client, hosts) = self.current();
        if let Some(addresses) = in_hosts(&hosts, &name) {
            return Ok(Answer { addresses: usable(addresses, self.has_route), ttl: LOCAL_TTL });
        }
        // The client always has a cache. It is emptied, so that each answer is a name server's and
        // no absence is counted twice.
        client.clear_cache();
        let deadline = clock::now() + LOOKUP_TIMEOUT;
        // Boxed, because the client's future is several kilobytes large.
        let found = match clock::until(deadline, Box::pin(client.lookup_ip(name))).await.ok() {
            Some(found) => found.map_err(failure)?,
            None => return Err(Failure::Timeout),
        };
        let ttl = found.as_lookup().answers().iter().map(|record| record.ttl).min();
        let addresses: Vec<IpAddr> = found.iter().collect();
        if addresses.is_empty() {
            return Err(Failure::Empty);
        }
        Ok(Answer {
            addresses: usable(addresses, self.has_route),
            ttl: Duration::from_secs(ttl.unwrap_or_default().into()),
        })
    }

    /// The client and the hosts, read again if a file has changed since.
    fn current(&self) -> (TokioResolver, Arc<Hosts>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Source::Files { resolv_conf, hosts } = &self.source
            && [stamp(resolv_conf), stamp(hosts)] != current.stamps
            && let Ok(read) = Current::read(resolv_conf, hosts)
        {
            tracing::info!("the system's name resolution settings have changed and are read again");
            *current = read;
        }
        (current.client.clone(), Arc::clone(&current.hosts))
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Current {
    fn read(resolv_conf: &Path, hosts: &Path) -> Result<Self, String> {
        // The stamps come first: a change in between is then seen the next time.
        let stamps = [stamp(resolv_conf), stamp(hosts)];
        let parsed = read_bounded(resolv_conf)
            .and_then(|text| parse_resolv_conf(text).map_err(|error| error.to_string()));
        let (mut config, options) = parsed.unwrap_or_else(|error| {
            tracing::warn!(
                file = %resolv_conf.display(), error,
                "no name server is configured; the one of the local machine is asked"
            );
            let local = NameServerConfig::udp_and_tcp(IpAddr::from([127, 0, 0, 1]));
            (ResolverConfig::from_name_servers(vec![local]), ResolverOpts::default())
        });
        // The host's own domain counts only where no search list is given.
        if !config.search.is_empty() {
            config.domain = None;
        }
        let mut names = Hosts::default();
        if let Err(error) = read_bounded(hosts).and_then(|text| {
            names.read_hosts_conf(text.as_slice()).map_err(|error| error.to_string())
        }) {
            tracing::debug!(file = %hosts.display(), error, "the hosts file is not used");
        }
        Ok(Self { stamps, client: client(config, options)?, hosts: Arc::new(names) })
    }
}

fn client(config: ResolverConfig, mut options: ResolverOpts) -> Result<TokioResolver, String> {
    options.timeout = options.timeout.min(QUERY_TIMEOUT);
    options.attempts = options.attempts.min(MAX_REPEATS);
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build().map_err(|error| format!("the client for name servers cannot start: {error}"))
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let mut text = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut text))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text)
}

/// The addresses of the hosts file. It is asked here, before any search domain is tried, because
/// the client asks it only after them.
fn in_hosts(hosts: &Hosts, name: &Name) -> Option<Vec<IpAddr>> {
    let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    let found = [of(RecordType::A), of(RecordType::AAAA)];
    let records = found.iter().flatten().flat_map(Lookup::answers);
    let addresses: Vec<IpAddr> = records.filter_map(|record| record.data.ip_addr()).collect();
    (!addresses.is_empty()).then_some(addresses)
}

/// Leaves out a whole address family that this machine has no route for, if the other one has:
/// avoiding unusable destinations, RFC 6724 section 6 rule 1. Names are often in both families
/// where the network is in one.
fn usable(addresses: Vec<IpAddr>, has_route: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(IpAddr::is_ipv4);
    let reached = |family: &[IpAddr]| family.iter().any(|ip| has_route(*ip));
    match (v4.is_empty(), v6.is_empty()) {
        (false, false) => match (reached(&v4), reached(&v6)) {
            (true, false) => v4,
            (false, true) => v6,
            _ => v4.into_iter().chain(v6).collect(),
        },
        _ => v4.into_iter().chain(v6).collect(),
    }
}

/// Whether there is a route to an address. Connecting a datagram socket looks the route up and
/// sends nothing, so the port does not matter; it is the one of the discard protocol.
fn has_route(ip: IpAddr) -> bool {
    let any: IpAddr =
        if ip.is_ipv4() { [0; 4].into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((ip, 9))).is_ok()
}

fn failure(error: NetError) -> Failure {
    match error {
        NetError::Timeout => Failure::Timeout,
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => Failure::NoSuchName,
            ResponseCode::NoError => Failure::Empty,
            code => Failure::Rejected(code.to_string()),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => Failure::Rejected(code.to_string()),
        other => Failure::Unreachable(other.to_string()),
    }
}

/// Resolves a name for as long as the future lives and publishes each change of its set, in
/// ascending order. The first publication follows the first answer. If that is a failure, it is
/// what `known`, from an earlier keeping of the name, still allows. What is known is handed on
/// after every answer. A literal address is published once; the future is then done.
pub async fn keep_resolved(
    name: String,
    port: u16,
    bounds: Bounds,
    resolver: Arc<Resolver>,
    known: Resolution,
    mut publish: impl FnMut(Option<Vec<SocketAddr>>, &Resolution),
) {
    let mut state = known;
    if let Ok(ip) = name.parse::<IpAddr>() {
        publish(Some(vec![SocketAddr::new(ip, port)]), &state);
        return;
    }
    state.resume();
    loop {
        let answer = resolver.lookup(&name).await;
        let failure = answer.as_ref().err().cloned();
        let update = state.on_answer(&bounds, answer, clock::now(), fastrand::f64());
        report(&name, &state, &update, failure.as_ref());
        let set = update.addresses;
        let set =
            set.map(|set| set.into_iter().map(|ip| SocketAddr::new(ip, port)).collect::<Vec<_>>());
        publish(set, &state);
        clock::sleep(update.next_in).await;
    }
}

/// One log line for each change of state, and none for a name that stays as it is.
fn report(name: &str, state: &Resolution, update: &Update, failure: Option<&Failure>) {
    let Some(transition) = update.transition else { return };
    let addresses: Vec<String> = state.addresses().map(|ip| ip.to_string()).collect();
    let (count, addresses) = (addresses.len(), addresses.join(" "));
    let reason = failure.map_or_else(|| Failure::Empty.to_string(), ToString::to_string);
    match transition {
        Transition::Resolved => tracing::info!(name, count, addresses, "the name is resolved"),
        Transition::Changed => tracing::info!(name, count, addresses, "the name's set changed"),
        Transition::Recovered => {
            tracing::info!(name, count, addresses, "the name is resolved again");
        }
        Transition::Failing if count == 0 => {
            tracing::warn!(name, reason, "the name cannot be resolved; it has no endpoint yet");
        }
        Transition::Failing => {
            tracing::warn!(name, reason, count, "the name cannot be resolved; its set is kept");
        }
        Transition::Expired => {
            tracing::warn!(name, reason, "the name's last good set is too old and is dropped");
        }
    }
}

#[cfg(test)]
mod tests;
