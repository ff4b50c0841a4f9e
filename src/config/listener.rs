//! Where requests come in.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tls::ListenerTls;
use crate::units::{ByteSize, Period, text_value};

/// One address on which requests come in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Its name: in metrics, logs and `match.listeners`. Required.
    pub name: String,
    /// The address. Required.
    pub bind: Bind,
    /// Who may connect to a unix socket, as the permissions of its file in octal, in quotes; null =
    /// as the process's umask has it.
    #[serde(default)]
    pub socket_mode: Option<SocketMode>,
    /// What is spoken on it.
    #[serde(default = "both_protocols")]
    pub protocols: Vec<Protocol>,
    /// Accept absolute-form requests, and CONNECT where a route names that method, so that
    /// `HTTP_PROXY` and `HTTPS_PROXY` work.
    #[serde(default = "yes")]
    pub forward_proxy: bool,
    /// Take the destination of connections that nftables or iptables redirect here from the kernel.
    #[serde(default)]
    pub original_destination: bool,
    /// Demand a header of the PROXY protocol, version 1 or 2, and believe it: the client is who it
    /// says. Only proxies that write it may be able to connect.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Serve TLS.
    #[serde(default)]
    pub tls: Option<ListenerTls>,
    /// Whether `x-outrigger-*` and deadline headers from this side are believed.
    #[serde(default)]
    pub trust: Trust,
    /// What becomes of a request whose path other servers could read as one of another route.
    #[serde(default)]
    pub ambiguous_paths: AmbiguousPaths,
    /// What is written of the client's address and of ourselves into requests.
    #[serde(default)]
    pub forwarded: Forwarded,
    /// What one client can take.
    #[serde(default)]
    pub limits: Limits,
}

/// An address to listen on: `host:port`, `[v6]:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// An IP address (or name) and port; port 0 takes any free one.
    Tcp(String),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// The permissions of a socket's file, such as `0660`. To connect is to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(u32);

impl SocketMode {
    /// The bits, none of them above `0o777`.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ListenerProtocol")]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// Whether headers that steer us are believed from this side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// The service beside us: they are believed.
    #[default]
    Local,
    /// Anybody: they are removed before anything reads them.
    None,
}

/// What becomes of a request whose path other servers could read as one of another route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AmbiguousPaths {
    /// It is refused with 400.
    #[default]
    Refuse,
    /// It goes by the path as it came.
    Pass,
}

/// What is written of the client's address and of ourselves into requests and answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Forwarded {
    /// `X-Forwarded-For`, `-Proto` and `-Host`.
    pub x_forwarded: ForwardedMode,
    /// The `Forwarded` field (RFC 7239).
    pub forwarded: ForwardedMode,
    /// The name under which we add ourselves to `Via` (RFC 9110, 7.6.3); null = not added.
    pub via: Option<String>,
}

/// What happens to a forwarding header that a request brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForwardedMode {
    /// Passed as it came.
    #[default]
    Pass,
    /// Our client's address is appended.
    Append,
    /// What came is replaced by what we know.
    Replace,
    /// Removed.
    Remove,
}

impl Default for Forwarded {
    fn default() -> Self {
        Self { x_forwarded: ForwardedMode::Pass, forwarded: ForwardedMode::Pass, via: None }
    }
}

/// What one client can take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ListenerLimits")]
pub struct Limits {
    /// Connections at once; above it new ones wait in the kernel's accept queue.
    pub max_connections: usize,
    /// Requests on one connection before it is closed; null = no limit.
    pub max_requests_per_connection: Option<u64>,
    /// The size of a request's head; 431 above it.
    pub header_bytes: ByteSize,
    /// The number of header fields; 431 above it.
    pub headers: usize,
    /// To send a request's head, from its first byte; 408 after it.
    pub header_timeout: Period,
    /// Between two pieces of a request's body; 408 after it. Not of a call of gRPC, whose client
    /// may have nothing to say: there `timeouts.idle` counts.
    pub body_timeout: Period,
    /// Between two requests on a connection.
    pub idle_timeout: Period,
    /// The size of a request's body; 413 above it; null = no limit.
    pub body_bytes: Option<ByteSize>,
    /// Limits of HTTP/2.
    pub http2: Http2Limits,
}

/// Limits of HTTP/2 on one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http2Limits {
    /// Streams at once.
    pub max_concurrent_streams: u32,
    /// Streams in a second that the client resets, or makes us reset; the connection ends above it.
    pub resets_per_second: u32,
    /// Pings in a second; the connection ends above it.
    pub pings_per_second: u32,
    /// Settings frames in a second; the connection ends above it.
    pub settings_per_second: u32,
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 256,
            resets_per_second: 1000,
            pings_per_second: 100,
            settings_per_second: 50,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_requests_per_connection: None,
            header_bytes: ByteSize::kib(60),
            headers: 100,
            header_timeout: Period::from_secs(10),
            body_timeout: Period::from_secs(30),
            idle_timeout: Period::from_secs(60),
            body_bytes: None,
            http2: Http2Limits::default(),
        }
    }
}

fn both_protocols() -> Vec<Protocol> {
    vec![Protocol::Http1, Protocol::Http2]
}

const fn yes() -> bool {
    true
}

impl FromStr for Bind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return Err(format!(
                    "`{text}` needs an absolute path, such as unix:/run/outrigger.sock"
                ));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self::Tcp(text.to_owned()))
            }
            _ => {
                Err(format!("`{text}` is not an address; write host:port, [v6]:port or unix:/path"))
            }
        }
    }
}

impl FromStr for SocketMode {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        match u32::from_str_radix(text, 8) {
            Ok(bits) if octal && bits <= 0o777 => Ok(Self(bits)),
            _ => Err(format!("`{text}` is no mode of a file; write it in octal, such as \"0660\"")),
        }
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

text_value!(
    Bind,
    "Bind",
    r"^(unix:/.+|.+:[0-9]+)$",
    "an address: host:port, [v6]:port or unix:/path"
);

text_value!(
    SocketMode,
    "SocketMode",
    "^0?[0-7]{3}$",
    "the permissions of a file in octal, such as \"0660\""
);
