//! Where the servers are, and how one logs in: what `url` says.
//!
//! The text of a URL may hold a password, so no error repeats it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_rustls::TlsConnector;

use crate::config;
use crate::records::{Cause, Kind};

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Address {
    /// By TCP, with TLS or without as all of them.
    Tcp {
        /// A name or an address.
        host: Box<str>,
        /// Its port.
        port: u16,
    },
    /// By a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Address {
    /// From `host:port`, as servers name each other.
    pub(super) fn of_node(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.split('@').next()?.parse().ok()?;
        (!host.is_empty()).then(|| Self::Tcp { host: host.into(), port })
    }
}

/// Who is to be asked for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One server has everything.
    Single,
    /// Sentinels know which server has everything.
    Sentinels,
    /// The servers divide the records among themselves.
    Cluster,
}

/// What `url` and the settings beside it say.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) layout: Layout,
    /// The server, the sentinels, or some nodes of the cluster; at least one.
    pub(super) addresses: Vec<Address>,
    pub(super) login: RedisConnectionInfo,
    pub(super) tls: Option<TlsConnector>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("layout", &self.layout)
            .field("addresses", &self.addresses)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

/// The schemes, how the client's parser knows them, and whether they are of TLS.
const SCHEMES: [(&str, &str, bool); 6] = [
    ("redis://", "redis://", false),
    ("rediss://", "redis://", true),
    ("valkey://", "redis://", false),
    ("valkeys://", "redis://", true),
    ("unix:", "unix:", false),
    ("redis+unix:", "unix:", false),
];

impl Target {
    /// # Errors
    /// When the settings cannot be used; says which and why.
    pub(super) fn of(config: &config::store::Redis) -> Result<Self, Cause> {
        let mut addresses = Vec::new();
        let mut login: Option<RedisConnectionInfo> = None;
        let mut scheme: Option<(&str, bool)> = None;
        for (place, item) in config.url.split(',').map(str::trim).enumerate() {
            let unfit = |what: &str| {
                Cause::new(Kind::Unfit, format!("address {} of `url` {what}", place + 1))
            };
            let own = SCHEMES
                .iter()
                .find_map(|(theirs, known, tls)| Some((item.strip_prefix(theirs)?, *known, *tls)));
            let (rest, known, tls) = match (own, scheme) {
                (Some(own), _) => own,
                (None, Some((known, tls))) => (item, known, tls),
                (None, None) => {
                    return Err(unfit("begins with none of redis://, rediss:// and unix:"));
                }
            };
            if scheme.is_some_and(|before| before != (known, tls)) {
                return Err(unfit("has another scheme than the first; give all the same"));
            }
            scheme = Some((known, tls));
            let (address, theirs) =
                parse(known, rest).ok_or_else(|| unfit("is not an address with a port or path"))?;
            addresses.push(address);
            login = Some(match login {
                Some(first) if first.password().is_some() || theirs.password().is_none() => {
                    if theirs.db() > 0 {
                        first.set_db(theirs.db())
                    } else {
                        first
                    }
                }
                _ => theirs,
            });
        }
        let (Some(login), Some((_, tls))) = (login, scheme) else {
            return Err(Cause::new(Kind::Unfit, "`url` is empty"));
        };
        let layout = layout(config, &addresses, &login)?;
        let tls = if tls { Some(connector(config.ca.as_deref())?) } else { None };
        Ok(Self { layout, addresses, login: login.set_skip_set_lib_name(), tls })
    }
}

fn layout(
    config: &config::store::Redis,
    addresses: &[Address],
    login: &RedisConnectionInfo,
) -> Result<Layout, Cause> {
    let layout = match (&config.sentinel, addresses.len()) {
        (Some(_), _) => Layout::Sentinels,
        (None, 1) => Layout::Single,
        (None, _) => Layout::Cluster,
    };
    if layout == Layout::Cluster && login.db() != 0 {
        return Err(Cause::new(Kind::Unfit, "a cluster has database 0 only; take it off `url`"));
    }
    Ok(layout)
}

fn parse(scheme: &str, rest: &str) -> Option<(Address, RedisConnectionInfo)> {
    let url = format!("{scheme}{rest}");
    let found = url.as_str().into_connection_info().ok()?;
    let address = match found.addr() {
        ConnectionAddr::Tcp(host, port) => Address::Tcp { host: host.as_str().into(), port: *port },
        ConnectionAddr::Unix(path) => Address::Unix(path.clone()),
        _ => return None,
    };
    Some((address, found.redis_settings().clone()))
}

fn connector(ca: Option<&Path>) -> Result<TlsConnector, Cause> {
    let unfit = |what: String| Cause::new(Kind::Unfit, what);
    let mut roots = rustls::RootCertStore::empty();
    match ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let bad = |error: &dyn fmt::Display| {
                unfit(format!("no certificates can be read from `ca` {}: {error}", path.display()))
            };
            for found in CertificateDer::pem_file_iter(path).map_err(|error| bad(&error))? {
                let found = found.map_err(|error| bad(&error))?;
                roots.add(found).map_err(|error| bad(&error))?;
            }
            if roots.is_empty() {
                return Err(bad(&"it has none"));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let settings = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unfit(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(settings)))
}

#[cfg(test)]
mod tests;
