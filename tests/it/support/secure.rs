//! Authorities and what they issue, clients and servers that speak TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::within;

/// An authority of a test's own.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub(crate) pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Issues a certificate for these DNS names, IP addresses and URIs.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_until(names, 2049)
    }

    /// The same, good until the first day of this year.
    pub(crate) fn issue_until(&self, names: &[&str], year: i32) -> Issued {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        for name in names {
            let text = (*name).to_owned();
            params.subject_alt_names.push(match name.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) if name.contains("://") => SanType::URI(text.try_into().unwrap()),
                Err(_) => SanType::DnsName(text.try_into().unwrap()),
            });
        }
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { cert, key: key.serialize_pem() }
    }
}

impl Issued {
    /// Writes `name.crt` and `name.key`, and returns them as settings of YAML.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> String {
        let (cert, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        replace(&cert, &self.cert);
        replace(&key, &self.key);
        format!("cert: {}, key: {}", cert.display(), key.display())
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()]
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    /// Whether this is the certificate that the other side shows.
    pub(crate) fn is_shown_by(&self, stream: &TlsStream<TcpStream>) -> bool {
        stream.get_ref().1.peer_certificates() == Some(&self.chain())
    }
}

/// Puts a file in place whole, as renaming does.
pub(crate) fn replace(path: &Path, content: &str) {
    let aside = path.with_extension("new");
    std::fs::write(&aside, content).unwrap();
    std::fs::rename(aside, path).unwrap();
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    roots
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A client that believes one authority. Its sessions are kept for resumption.
#[derive(Clone)]
pub(crate) struct TlsClient {
    address: SocketAddr,
    config: ClientConfig,
}

/// A client of this address.
pub(crate) fn tls_client(address: SocketAddr, believes: &Authority) -> TlsClient {
    TlsClient { address, config: client_config(believes, None, &[]) }
}

fn client_config(
    believes: &Authority,
    own: Option<&Issued>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let all = [&rustls::version::TLS13, &rustls::version::TLS12];
    let versions = if versions.is_empty() { &all } else { versions };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots(believes));
    match own {
        Some(own) => builder.with_client_auth_cert(own.chain(), own.private_key()).unwrap(),
        None => builder.with_no_client_auth(),
    }
}

impl TlsClient {
    /// Shows this certificate if asked.
    pub(crate) fn showing(mut self, believes: &Authority, own: &Issued) -> Self {
        self.config = client_config(believes, Some(own), &[]);
        self
    }

    /// Speaks this version alone.
    pub(crate) fn version(
        mut self,
        believes: &Authority,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Self {
        self.config = client_config(believes, None, &[version]);
        self
    }

    /// Offers these protocols.
    pub(crate) fn alpn(mut self, names: &[&str]) -> Self {
        self.config.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Shakes hands, asking for this name.
    pub(crate) async fn connect(&self, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_over(TcpStream::connect(self.address).await?, name).await
    }

    /// The same over a connection on which something may have been sent already.
    pub(crate) async fn connect_over(
        &self,
        stream: TcpStream,
        name: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = TlsConnector::from(Arc::new(self.config.clone()));
        within("a handshake", connector.connect(name, stream)).await
    }

    /// One request on a connection of its own; the status, or why there is none.
    pub(crate) async fn get(&self, name: &str) -> std::io::Result<u16> {
        let mut stream = self.connect(name).await?;
        exchange(&mut stream, name).await
    }
}

/// One request that ends the connection, and the status of its answer.
pub(crate) async fn exchange(
    stream: &mut TlsStream<TcpStream>,
    host: &str,
) -> std::io::Result<u16> {
    let head = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    within("an answer", stream.read_to_end(&mut answer)).await?;
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| std::io::Error::other(format!("no status in {text:?}")))
}

/// A server that speaks TLS in front of one that does not.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts one that shows this certificate, offers these protocols, and asks for a certificate of
/// this authority if there is one.
pub(crate) async fn front(
    behind: SocketAddr,
    shows: &Issued,
    alpn: &[&str],
    wants: Option<&Authority>,
) -> Front {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .unwrap();
    let builder = match wants {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let roots = Arc::new(roots(authority));
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let mut config = builder.with_single_cert(shows.chain(), shows.private_key()).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Some of those who come do not believe us, and that is what is tested.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut plain = TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut plain).await;
            });
        }
    });
    Front { address, task }
}
