//! TLS towards endpoints: whom we believe, what we show, and the handshake.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, HandshakeKind, InvalidMessage,
    RootCertStore,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, TlsStream};

use super::files::{self, Disk, Fault, Shown};
use super::kept::{Kept, Made, Swap};
use super::{ALPN_HTTP1, ALPN_HTTP2, VERSIONS, WallClock, cause, provider};
use crate::config::tls::{CertificateFiles, UpstreamTls};
use crate::telemetry::metrics::HandshakeOut;

/// The names of servers whose last session is kept for resumption, of one upstream. All workers
/// share them; an upstream has one name as a rule.
const SESSIONS: usize = 64;

/// Gives every [`Client`] of the process a number of its own; 0 is nobody's.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// TLS of one upstream.
#[derive(Debug)]
pub struct Client {
    id: u64,
    settings: UpstreamTls,
    kept: Kept<Ready>,
}

/// What a handshake needs: the same but for the protocols that are offered.
#[derive(Debug)]
struct Ready {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    either: Arc<ClientConfig>,
}

/// The protocols of which an endpoint is to choose one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// HTTP/1.1 alone; taken for granted where an endpoint does not choose.
    Http1,
    /// HTTP/2 alone, and no other.
    Http2,
    /// HTTP/2 if the endpoint has it, else HTTP/1.1.
    Either,
}

/// An endpoint that has proved its name.
#[derive(Debug)]
pub struct Connected<S> {
    /// The stream under TLS.
    pub stream: TlsStream<S>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

/// A handshake that came to nothing.
#[derive(Debug)]
pub struct Failure {
    /// Why, in the closed vocabulary of metrics.
    pub end: HandshakeOut,
    /// Why, in the words of rustls or of the operating system.
    pub text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS handshake failed ({}): {}", self.end.as_str(), self.text)
    }
}

impl std::error::Error for Failure {}

impl Client {
    /// Reads the files of an upstream.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn load(settings: &UpstreamTls, disk: &Disk) -> Result<Self, Vec<Fault>> {
        let made = make(settings, disk)?;
        let fingerprint = disk.fingerprint(paths(settings));
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Ok(Self { id, settings: settings.clone(), kept: Kept::new(made, fingerprint) })
    }

    /// Tells it, with its settings, from every other.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Whether it was made of these settings.
    #[must_use]
    pub fn is_of(&self, settings: &UpstreamTls) -> bool {
        self.settings == *settings
    }

    /// Takes the files as they are now, if they have changed and have no fault.
    pub fn refresh(&self, disk: &Disk, now: SystemTime) -> Option<Swap> {
        let make = |disk: &Disk, _: &Ready| make(&self.settings, disk);
        self.kept.refresh(disk, paths(&self.settings), now, make)
    }

    /// Its files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        paths(&self.settings)
    }

    /// The certificate in use, if we have one to show.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        self.kept.made().shown.clone()
    }

    /// Why the files that are there now are not in use, if they are not.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.kept.problem()
    }

    /// Shakes hands with an endpoint, whose certificate must be for the `server_name` of the
    /// settings, or else for this host: a DNS name or an IP address. The caller bounds the time.
    ///
    /// # Errors
    /// Why it came to nothing; no byte of a request has been sent.
    pub async fn connect<S>(
        &self,
        stream: S,
        host: &str,
        offer: Offer,
    ) -> Result<Connected<S>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let host = self.settings.server_name.as_deref().unwrap_or(host);
        // The dot of the root is of DNS, not of the name that a certificate has.
        let host = host.strip_suffix('.').unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Failure {
            end: HandshakeOut::WrongName,
            text: format!("`{host}` is no name that a certificate can be for; set `server_name`"),
        })?;
        let made = self.kept.made();
        let config = match offer {
            Offer::Http1 => &made.value.http1,
            Offer::Http2 => &made.value.http2,
            Offer::Either => &made.value.either,
        };
        let connecting = TlsConnector::from(Arc::clone(config)).connect(name, stream);
        let stream = connecting
            .await
            .map_err(|error| Failure { end: end_of(&error), text: error.to_string() })?;
        let (_, session) = stream.get_ref();
        if offer == Offer::Http2 && session.alpn_protocol() != Some(ALPN_HTTP2) {
            let text = "the endpoint does not choose HTTP/2 (ALPN `h2`)".to_owned();
            return Err(Failure { end: HandshakeOut::Incompatible, text });
        }
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        Ok(Connected { stream: stream.into(), resumed })
    }
}

/// Whether HTTP/2 was agreed on.
pub fn is_http2<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2)
}

fn paths(settings: &UpstreamTls) -> impl Iterator<Item = &Path> {
    let UpstreamTls { ca, cert, key, .. } = settings;
    ca.iter().chain(cert).chain(key).map(std::path::PathBuf::as_path)
}

fn make(settings: &UpstreamTls, disk: &Disk) -> Result<Made<Ready>, Vec<Fault>> {
    let roots = match &settings.ca {
        Some(ca) => files::authorities(disk, "ca", ca),
        None => Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect::<RootCertStore>()),
    };
    let pair = settings.cert.clone().zip(settings.key.clone());
    let own = pair.map(|(cert, key)| files::certificate(disk, "", &CertificateFiles { cert, key }));
    let (roots, own) = match (roots, own.transpose()) {
        (Ok(roots), Ok(own)) => (roots, own),
        (roots, own) => {
            let faults = roots.err().into_iter().chain(own.err().into_iter().flatten());
            return Err(faults.collect());
        }
    };
    let general = |message: String| vec![Fault { key: String::new(), message, suggestion: None }];
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    let verifier = verifier.build().map_err(|error| general(error.to_string()))?;
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(WallClock))
        .with_protocol_versions(&VERSIONS)
        .map_err(|error| general(error.to_string()))?
        .with_webpki_verifier(verifier);
    let (mut config, shown) = match own {
        Some((key, shown)) => {
            let only = Arc::new(SingleCertAndKey::from(key));
            (builder.with_client_cert_resolver(only), vec![shown])
        }
        None => (builder.with_no_client_auth(), Vec::new()),
    };
    // A session is one under this certificate and these authorities: others begin anew.
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    let offering = |names: &[&[u8]]| {
        let mut config = config.clone();
        config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    };
    let value = Ready {
        http1: offering(&[ALPN_HTTP1]),
        http2: offering(&[ALPN_HTTP2]),
        either: offering(&[ALPN_HTTP2, ALPN_HTTP1]),
    };
    Ok(Made { value, shown })
}

/// The name of a failed handshake's end.
fn end_of(error: &std::io::Error) -> HandshakeOut {
    let Some(cause) = cause(error) else { return HandshakeOut::Closed };
    match cause {
        Error::InvalidCertificate(error) => match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => HandshakeOut::ExpiredCertificate,
            CertificateError::UnknownIssuer => HandshakeOut::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                HandshakeOut::WrongName
            }
            _ => HandshakeOut::BadCertificate,
        },
        Error::AlertReceived(
            AlertDescription::ProtocolVersion
            | AlertDescription::HandshakeFailure
            | AlertDescription::InsufficientSecurity
            | AlertDescription::NoApplicationProtocol,
        )
        | Error::PeerIncompatible(_)
        | Error::NoApplicationProtocol => HandshakeOut::Incompatible,
        Error::AlertReceived(AlertDescription::CloseNotify) => HandshakeOut::Closed,
        Error::AlertReceived(_) => HandshakeOut::Refused,
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => HandshakeOut::NotTls,
        _ => HandshakeOut::Protocol,
    }
}
