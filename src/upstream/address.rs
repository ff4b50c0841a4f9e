//! Where an endpoint is: as it is written in the configuration, and as it is connected to.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// The longest path of a unix socket: `sun_path` of `sockaddr_un(7)` without its final zero byte.
const MAX_UNIX_PATH: usize = 107;

/// The longest name in text form (RFC 1035 section 2.3.4), without the dot of the root.
const MAX_NAME: usize = 253;

/// The longest label of a name (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// What can be connected to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddress {
    /// A TCP socket.
    Tcp(SocketAddr),
    /// A unix stream socket, by its absolute path.
    Unix(PathBuf),
}

/// What an operator may write: `host:port`, `1.2.3.4:port`, `[v6]:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// An address that needs no resolving.
    Ip(SocketAddr),
    /// A name, in lower case, and a port; every address of the name is an endpoint.
    Name(String, u16),
    /// The absolute path of a unix stream socket.
    Unix(PathBuf),
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(text, path);
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(format!("`{text}` has no port; write host:port, [v6]:port or unix:/path"));
        };
        let port = match port.parse::<u16>() {
            Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => number,
            _ => return Err(format!("`{text}`: `{port}` is not a port from 1 to 65535")),
        };
        if let Some(inside) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return match inside.parse::<Ipv6Addr>() {
                Ok(ip) => Ok(Self::Ip(SocketAddr::new(ip.into(), port))),
                Err(_) => Err(format!("`{text}`: `{inside}` is not an IPv6 address")),
            };
        }
        if host.contains(':') {
            return Err(format!("`{text}`: an IPv6 address is written in brackets, [v6]:port"));
        }
        match host.parse::<IpAddr>() {
            Ok(ip) => Ok(Self::Ip(SocketAddr::new(ip, port))),
            Err(_) => match name_fault(host) {
                None => Ok(Self::Name(host.to_ascii_lowercase(), port)),
                Some(fault) => Err(format!("`{text}`: {fault}")),
            },
        }
    }
}

fn unix(text: &str, path: &str) -> Result<Target, String> {
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(format!("`{text}`: a unix socket is written unix:/absolute/path"));
    }
    if path.len() > MAX_UNIX_PATH || path.contains('\0') {
        let limit = format!("at most {MAX_UNIX_PATH} bytes without a zero byte");
        return Err(format!("`{text}`: the path of a unix socket has {limit}"));
    }
    Ok(Target::Unix(PathBuf::from(path)))
}

/// What is wrong with a name. Underscores are let through, because names of container networks have
/// them. A name whose last label is a number would be a misspelt IPv4 address.
fn name_fault(name: &str) -> Option<&'static str> {
    let bare = name.strip_suffix('.').unwrap_or(name);
    let label_fits = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if bare.is_empty() {
        Some("the host is missing")
    } else if bare.len() > MAX_NAME {
        Some("the name is longer than 253 characters")
    } else if !bare.split('.').all(label_fits) {
        Some("a name is labels of 1 to 63 letters, digits, `-` or `_`, with dots between them")
    } else if bare.rsplit('.').next().is_some_and(|l| l.bytes().all(|byte| byte.is_ascii_digit())) {
        Some("this is not an IPv4 address, and a name does not end in a number")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
