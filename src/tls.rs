//! TLS by rustls, towards clients and towards upstreams: keys and authorities from files that may
//! change while we run, the handshakes, and who the other side proved to be.
//!
//! Versions 1.2 and 1.3, with the suites that rustls has: all of them authenticated and with
//! forward secrecy. There is no renegotiation, no compression and no early data, and no setting
//! that turns verification off. Nothing here opens a socket or watches a file; a private key goes
//! from its file into rustls and nowhere else.

pub mod client;
pub mod files;
pub mod identity;
pub mod kept;
mod names;
pub mod server;
mod validity;

use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use rustls::{ProtocolVersion, SupportedProtocolVersion, version};

use crate::clock;

pub use self::identity::Identity;

/// A stream under TLS.
pub use tokio_rustls::TlsStream;

/// What is spoken; the newer is preferred.
static VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

/// HTTP/2 in ALPN (RFC 9113, 3.1).
const ALPN_HTTP2: &[u8] = b"h2";
/// HTTP/1.1 in ALPN (RFC 7301, 6).
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// The one provider of the process.
static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(ring::default_provider()));

fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// Gives rustls the process's clock.
#[derive(Debug)]
struct WallClock;

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        clock::wall_now().duration_since(UNIX_EPOCH).ok().map(UnixTime::since_unix_epoch)
    }
}

/// Unix time in seconds; before 1970, 0.
fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// What went wrong in a handshake, if it is rustls that says so and not the socket.
fn cause(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// The version that was agreed on, as logs write it.
fn version_name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        _ => "unknown",
    }
}
