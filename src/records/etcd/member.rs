//! One member of the cluster: its address, and a connection to it that is made again whenever it
//! is lost.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use http::uri::{Scheme, Uri};
use hyper::client::conn::http2;
use hyper::rt::{Read, Write};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::grpc::{Channel, Failure, with_causes};
use super::wire::{AUTHENTICATE, AuthenticateRequest, AuthenticateResponse};
use crate::clock;
use crate::shared::Shared;

/// The longest way to a connection: names, TCP, TLS, a password.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// The waits between attempts to connect: short at first, as most losses are a restart.
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(1);
/// A connection over which nothing comes for so long is asked for a sign of life...
const PING_EVERY: Duration = Duration::from_secs(1);
/// ... and given up when none comes.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// The windows of flow control: answers with bodies come in one go.
const WINDOW: u32 = 1 << 20;

/// One member.
pub(crate) struct Member {
    address: Address,
    ca: Option<PathBuf>,
    channel: Shared<Option<Channel>>,
    problem: Shared<Option<Box<str>>>,
    /// Ends the present connection: its token is no longer good.
    renew: Notify,
}

/// Where a member is.
struct Address {
    origin: Uri,
    /// Without brackets around an IPv6 address.
    host: Box<str>,
    port: u16,
    tls: bool,
    login: Option<Login>,
}

/// Who we are to a member.
struct Login {
    name: Box<str>,
    password: Box<str>,
}

impl Member {
    /// A member by its address, which may hold `name:password@`.
    ///
    /// # Errors
    /// In words, without the password, when it is none.
    pub(crate) fn new(endpoint: &str, ca: Option<PathBuf>) -> Result<Self, Box<str>> {
        Ok(Self {
            address: Address::parse(endpoint)?,
            ca,
            channel: Shared::default(),
            problem: Shared::new(Some("not connected yet".into())),
            renew: Notify::new(),
        })
    }

    /// Its connection, if there is one.
    pub(crate) fn channel(&self) -> Option<Channel> {
        self.channel.lock().clone().filter(|channel| !channel.send.is_closed())
    }

    /// Why there is none.
    pub(crate) fn problem(&self) -> Option<Box<str>> {
        self.problem.lock().clone()
    }

    /// Host and port, for logs.
    pub(crate) fn name(&self) -> String {
        format!("{}:{}", self.address.host, self.address.port)
    }

    /// The server no longer takes the token: the next connection gets another one.
    pub(crate) fn renew(&self) {
        self.renew.notify_one();
    }

    /// Connects, and again after every loss, for ever.
    pub(crate) async fn run(self: Arc<Self>, store: Box<str>, handle: Handle) {
        let mut wait = WAIT_MIN;
        loop {
            let opened = match clock::until(clock::now() + CONNECT_MAX, self.open(&handle)).await {
                Ok(opened) => opened,
                Err(_) => Err(format!("no connection within {} s", CONNECT_MAX.as_secs())),
            };
            let problem = match opened {
                Ok((channel, ended)) => {
                    wait = WAIT_MIN;
                    *self.channel.lock() = Some(channel);
                    *self.problem.lock() = None;
                    tracing::info!(store = %store, member = %self.name(), "etcd: connected");
                    tokio::select! {
                        ended = ended => ended.unwrap_or_else(|_| "connection task ended".into()),
                        () = self.renew.notified() => "the token is over".to_owned(),
                    }
                }
                Err(problem) => problem,
            };
            *self.channel.lock() = None;
            let before = self.problem.lock().replace(problem.as_str().into());
            if before.as_deref() != Some(&*problem) {
                let member = self.name();
                tracing::warn!(store = %store, %member, %problem, "etcd: no connection");
            }
            clock::sleep(wait).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    /// A connection that answers, and what tells of its end.
    async fn open(
        &self,
        handle: &Handle,
    ) -> Result<(Channel, tokio::sync::oneshot::Receiver<String>), String> {
        let address = &self.address;
        let tcp = TcpStream::connect((&*address.host, address.port))
            .await
            .map_err(|error| format!("connect: {error}"))?;
        tcp.set_nodelay(true).map_err(|error| format!("socket: {error}"))?;
        if !address.tls {
            return self.speak(TokioIo::new(tcp), handle).await;
        }
        let connector = tokio_rustls::TlsConnector::from(self.trust(handle).await?);
        let name = ServerName::try_from(address.host.to_string())
            .map_err(|error| format!("TLS: {} is no name: {error}", address.host))?;
        let tls = connector.connect(name, tcp).await.map_err(|error| format!("TLS: {error}"))?;
        self.speak(TokioIo::new(tls), handle).await
    }

    /// The authorities, read anew for each connection, so that new ones need no restart.
    async fn trust(&self, handle: &Handle) -> Result<Arc<ClientConfig>, String> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = self.ca.clone() {
            let shown = path.display().to_string();
            let bytes = handle.spawn_blocking(move || std::fs::read(path)).await;
            let bytes = bytes.map_err(|error| error.to_string())?;
            let bytes = bytes.map_err(|error| format!("ca {shown}: {error}"))?;
            for certificate in CertificateDer::pem_slice_iter(&bytes) {
                let certificate = certificate.map_err(|error| format!("ca {shown}: {error}"))?;
                roots.add(certificate).map_err(|error| format!("ca {shown}: {error}"))?;
            }
            if roots.is_empty() {
                return Err(format!("ca {shown}: no certificate in it"));
            }
        } else {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS: {error}"))?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    async fn speak<I>(
        &self,
        io: I,
        handle: &Handle,
    ) -> Result<(Channel, tokio::sync::oneshot::Receiver<String>), String>
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let (send, connection) = http2::Builder::new(On(handle.clone()))
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(4 * WINDOW)
            .handshake(io)
            .await
            .map_err(|error| format!("HTTP/2: {}", with_causes(&error)))?;
        let (tell, ended) = tokio::sync::oneshot::channel();
        handle.spawn(async move {
            let words = match connection.await {
                Ok(()) => "the server closed the connection".to_owned(),
                Err(error) => with_causes(&error),
            };
            // Nobody listens when the store is gone.
            let _ = tell.send(words);
        });
        let mut channel = Channel { send, origin: self.address.origin.clone(), token: None };
        channel.token = self.log_in(&mut channel).await?;
        Ok((channel, ended))
    }

    async fn log_in(&self, channel: &mut Channel) -> Result<Option<HeaderValue>, String> {
        let Some(Login { name, password }) = &self.address.login else { return Ok(None) };
        let question =
            AuthenticateRequest { name: name.to_string(), password: password.to_string() };
        let deadline = clock::now() + CONNECT_MAX;
        let answer: Result<AuthenticateResponse, _> =
            channel.ask(AUTHENTICATE, &question, deadline).await;
        let token = match answer {
            Ok(answer) => answer.token,
            // Members without authentication need no token.
            Err(Failure::Status { words, .. }) if words.contains("not enabled") => return Ok(None),
            Err(Failure::Status { words, .. }) => return Err(format!("login: {words}")),
            Err(Failure::Unsent(cause) | Failure::Silent(cause)) => {
                return Err(format!("login: {}", cause.detail));
            }
        };
        let mut token = HeaderValue::try_from(token).map_err(|_| "login: no token".to_owned())?;
        token.set_sensitive(true);
        Ok(Some(token))
    }
}

impl Address {
    fn parse(endpoint: &str) -> Result<Self, Box<str>> {
        let bad = |why: &str| format!("an endpoint of etcd {why}; write http://host:port").into();
        let uri: Uri = endpoint.parse().map_err(|_| bad("is no URL"))?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(bad("has neither http: nor https:")),
        };
        let authority = uri.authority().ok_or_else(|| bad("has no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(2379);
        let login = match authority.as_str().rsplit_once('@') {
            None => None,
            Some((login, _)) => {
                let (name, password) = login.split_once(':').unwrap_or((login, ""));
                Some(Login { name: decoded(name), password: decoded(password) })
            }
        };
        let scheme = if tls { Scheme::HTTPS } else { Scheme::HTTP };
        let origin = Uri::builder()
            .scheme(scheme)
            .authority(format!("{}:{port}", authority.host()))
            .path_and_query("/")
            .build()
            .map_err(|_| bad("is no URL"))?;
        Ok(Self { origin, host: host.into(), port, tls, login })
    }
}

/// `%40` and its like as the characters that they stand for.
fn decoded(text: &str) -> Box<str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let value = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        rest = match (first, value) {
            (b'%', Some(value)) => {
                bytes.push(value);
                after.get(2..).unwrap_or_default()
            }
            _ => {
                bytes.push(*first);
                after
            }
        };
    }
    String::from_utf8_lossy(&bytes).into()
}

/// Runs what a connection needs on the store's runtime, whoever asks.
#[derive(Clone)]
struct On(Handle);

impl<F> hyper::rt::Executor<F> for On
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

#[cfg(test)]
mod tests;
