//! TLS towards clients: the certificate for the name that is asked for, and who may come in.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, DistinguishedName, Error,
    HandshakeKind, InvalidMessage, ServerConfig, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::files::{self, Disk, Fault, Shown};
use super::kept::{Kept, Made, Swap};
use super::names::Names;
use super::{ALPN_HTTP1, ALPN_HTTP2, Identity, VERSIONS, WallClock, cause, provider, version_name};
use crate::clock;
use crate::config::listener::Protocol;
use crate::config::tls::ListenerTls;
use crate::telemetry::metrics::HandshakeIn;

/// TLS of one listener.
#[derive(Debug)]
pub struct Server {
    settings: ListenerTls,
    protocols: Vec<Protocol>,
    kept: Kept<Ready>,
}

/// What a handshake needs.
#[derive(Debug)]
struct Ready {
    config: Arc<ServerConfig>,
    /// What encrypts the tickets by which clients resume. A ticket vouches for a client as its
    /// certificate does, so other authorities have other keys; a new certificate of ours has not.
    ticketer: Arc<dyn ProducesTickets>,
    authorities: u64,
}

/// A client that has finished its handshake.
#[derive(Debug)]
pub struct Accepted<S> {
    /// The stream under TLS.
    pub stream: TlsStream<S>,
    /// Who the client has proved to be, if it was asked and has a certificate.
    pub identity: Option<Identity>,
    /// What was agreed on in the handshake; `None` when the client asked for nothing.
    pub protocol: Option<Protocol>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

impl Server {
    /// Reads the files of a listener.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn load(
        settings: &ListenerTls,
        protocols: &[Protocol],
        disk: &Disk,
    ) -> Result<Self, Vec<Fault>> {
        let made = make(settings, protocols, disk, None)?;
        let fingerprint = disk.fingerprint(paths(settings));
        let (settings, protocols) = (settings.clone(), protocols.to_vec());
        Ok(Self { settings, protocols, kept: Kept::new(made, fingerprint) })
    }

    /// Whether it was made of these settings.
    #[must_use]
    pub fn is_of(&self, settings: &ListenerTls, protocols: &[Protocol]) -> bool {
        self.settings == *settings && self.protocols == protocols
    }

    /// Takes the files as they are now, if they have changed and have no fault.
    pub fn refresh(&self, disk: &Disk, now: SystemTime) -> Option<Swap> {
        let make =
            |disk: &Disk, before: &Ready| make(&self.settings, &self.protocols, disk, Some(before));
        self.kept.refresh(disk, paths(&self.settings), now, make)
    }

    /// Its files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        paths(&self.settings)
    }

    /// The certificates in use.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        self.kept.made().shown.clone()
    }

    /// Why the files that are there now are not in use, if they are not.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.kept.problem()
    }

    /// How long a handshake may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        *self.settings.handshake_timeout
    }

    /// Shakes hands with a client. The caller bounds the time.
    ///
    /// # Errors
    /// Why it came to nothing; the client has been told by an alert, as far as it listens.
    pub async fn accept<S>(&self, stream: S) -> Result<Accepted<S>, HandshakeIn>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.kept.made().value.config);
        let stream = TlsAcceptor::from(config).accept(stream).await.map_err(|error| {
            tracing::debug!(%error, "handshake with a client failed");
            end_of(&error)
        })?;
        let (_, session) = stream.get_ref();
        let identity = session.peer_certificates().and_then(<[_]>::first).map(Identity::of);
        if identity.as_ref().is_some_and(|identity| identity.expired(clock::wall_now())) {
            return Err(HandshakeIn::ExpiredCertificate);
        }
        let protocol = session.alpn_protocol().map(|name| match name {
            ALPN_HTTP2 => Protocol::Http2,
            _ => Protocol::Http1,
        });
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        tracing::trace!(version = version_name(session.protocol_version()), resumed, "handshake");
        Ok(Accepted { stream: stream.into(), identity, protocol, resumed })
    }
}

fn paths(settings: &ListenerTls) -> impl Iterator<Item = &Path> {
    let listed = settings.certificates.iter().flat_map(|files| [&files.cert, &files.key]);
    let single = settings.cert.iter().chain(&settings.key).chain(&settings.client_ca);
    single.chain(listed).map(std::path::PathBuf::as_path)
}

fn make(
    settings: &ListenerTls,
    protocols: &[Protocol],
    disk: &Disk,
    before: Option<&Ready>,
) -> Result<Made<Ready>, Vec<Fault>> {
    let mut faults = Vec::new();
    let (mut keys, mut shown) = (Vec::new(), Vec::new());
    for (under, files) in settings.pairs() {
        match files::certificate(disk, &under, &files) {
            Ok((key, certificate)) => {
                keys.push(key);
                shown.push(certificate);
            }
            Err(more) => faults.extend(more),
        }
    }
    let ca = settings.client_ca.as_deref();
    let verifier = match ca.map(|ca| verifier(settings, ca, disk)).transpose() {
        Ok(verifier) => verifier,
        Err(fault) => {
            faults.push(fault);
            None
        }
    };
    if !faults.is_empty() {
        return Err(faults);
    }
    let authorities = disk.fingerprint(ca);
    let ticketer = match before.filter(|before| before.authorities == authorities) {
        Some(before) => Arc::clone(&before.ticketer),
        None => Ticketer::new().map_err(|error| general(&error))?,
    };
    let names = Certificates::new(keys, &shown);
    let builder = ServerConfig::builder_with_details(provider(), Arc::new(WallClock))
        .with_protocol_versions(&VERSIONS)
        .map_err(|error| general(&error))?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(names));
    config.ticketer = Arc::clone(&ticketer);
    // Tickets keep a session at the client; none is kept here, so that none has to be bounded.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    let offered = [(Protocol::Http2, ALPN_HTTP2), (Protocol::Http1, ALPN_HTTP1)];
    let offered = offered.iter().filter(|(protocol, _)| protocols.contains(protocol));
    config.alpn_protocols = offered.map(|(_, name)| name.to_vec()).collect();
    Ok(Made { value: Ready { config: Arc::new(config), ticketer, authorities }, shown })
}

fn general(error: &Error) -> Vec<Fault> {
    let message = format!("cannot be set up: {error}");
    vec![Fault { key: String::new(), message, suggestion: None }]
}

fn verifier(
    settings: &ListenerTls,
    ca: &Path,
    disk: &Disk,
) -> Result<Arc<dyn ClientCertVerifier>, Fault> {
    let roots = files::authorities(disk, "client_ca", ca)?;
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    if !settings.requires_client_cert() {
        builder = builder.allow_unauthenticated();
    }
    let inner = builder.build().map_err(|error| {
        let message = format!("cannot be used: {error}");
        Fault { key: "client_ca".to_owned(), message, suggestion: None }
    })?;
    Ok(Arc::new(Named { inner, names: Names::new(&settings.client_names) }))
}

/// Verifies as `inner` does, and then asks for the name.
#[derive(Debug)]
struct Named {
    inner: Arc<dyn ClientCertVerifier>,
    names: Names,
}

impl ClientCertVerifier for Named {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        if self.names.admit(&Identity::of(end_entity)) {
            Ok(verified)
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The certificates of a listener by the names that they are for.
#[derive(Debug)]
struct Certificates {
    all: Vec<Arc<CertifiedKey>>,
    /// A name, or with `*` for its first label, and its certificates in the order of the file.
    named: HashMap<String, Vec<usize>>,
}

impl Certificates {
    fn new(all: Vec<Arc<CertifiedKey>>, shown: &[Shown]) -> Self {
        let mut named: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, certificate) in shown.iter().enumerate() {
            for name in &certificate.names {
                named.entry(name.clone()).or_default().push(index);
            }
        }
        Self { all, named }
    }

    /// Those for a name, the whole name first.
    fn of(&self, name: &str) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let any_label = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        let whole = self.named.get(&name).into_iter();
        let wild = any_label.and_then(|any| self.named.get(&any)).into_iter();
        whole.chain(wild).flatten().filter_map(|index| self.all.get(*index))
    }
}

impl ResolvesServerCert for Certificates {
    /// The first for the name that the client can verify; without a name that we know, the first of
    /// all that it can, and what it makes of that is its affair.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let verifiable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        let named = hello.server_name().and_then(|name| self.of(name).find(verifiable));
        let any = || self.all.iter().find(verifiable).or(self.all.first());
        named.or_else(any).cloned()
    }
}

/// The name of a failed handshake's end.
fn end_of(error: &std::io::Error) -> HandshakeIn {
    let Some(cause) = cause(error) else { return HandshakeIn::Closed };
    match cause {
        Error::NoCertificatesPresented => HandshakeIn::NoCertificate,
        Error::InvalidCertificate(error) => match error {
            CertificateError::ApplicationVerificationFailure => HandshakeIn::NameNotAllowed,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                HandshakeIn::ExpiredCertificate
            }
            CertificateError::UnknownIssuer => HandshakeIn::UnknownIssuer,
            _ => HandshakeIn::BadCertificate,
        },
        Error::AlertReceived(AlertDescription::CloseNotify) => HandshakeIn::Closed,
        Error::AlertReceived(_) => HandshakeIn::Refused,
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => HandshakeIn::Incompatible,
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => HandshakeIn::NotTls,
        _ => HandshakeIn::Protocol,
    }
}

#[cfg(test)]
mod tests;
