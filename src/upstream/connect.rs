//! Making one connection to an endpoint: TCP or unix socket, and TLS over it where that is wanted.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::Upstream;
use super::address::EndpointAddress;
use super::endpoint::Endpoint;
use super::error::Cause;
use crate::proxy_protocol::{Header, Origin, Version};
use crate::telemetry::metrics::{HandshakeOut, HandshakesOut};
use crate::tls::TlsStream;
use crate::tls::client::{Client, Connected, Offer, is_http2};

/// A byte stream to an endpoint or from a client.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
    /// Under TLS over one of the others; on the heap, so that those stay small.
    Tls(Box<Secured>),
}

/// A stream under TLS.
#[derive(Debug)]
pub struct Secured {
    stream: TlsStream<Stream>,
    /// The [`Client::id`] that it was opened by; 0 for one that came from a client.
    opened_by: u64,
}

impl Stream {
    /// Whether HTTP/2 was agreed on in a TLS handshake.
    #[must_use]
    pub fn chose_http2(&self) -> bool {
        matches!(self, Self::Tls(secured) if is_http2(&secured.stream))
    }

    /// Who vouched for the other side: the [`Client::id`] by which it was opened, or 0 in the
    /// clear. A connection is used under the settings that it was opened under, and no others.
    #[must_use]
    pub fn opened_by(&self) -> u64 {
        if let Self::Tls(secured) = self { secured.opened_by } else { 0 }
    }

    /// The address that it was opened from, if it has one.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Unix(_) => None,
            Self::Tls(secured) => secured.stream.get_ref().0.local_address(),
        }
    }

    /// A client's stream, under TLS now.
    #[must_use]
    pub fn accepted(stream: TlsStream<Self>) -> Self {
        Self::Tls(Box::new(Secured { stream, opened_by: 0 }))
    }
}

/// TLS towards one endpoint.
#[derive(Clone, Copy)]
pub struct Secure<'a> {
    /// The upstream's keys and authorities.
    pub client: &'a Client,
    /// The name or IP address that the endpoint's certificate must be for, unless the settings say
    /// another.
    pub host: &'a str,
    /// Where the ends of handshakes are counted.
    pub handshakes: &'a HandshakesOut,
}

impl<'a> Secure<'a> {
    /// TLS towards an endpoint of an upstream, if it is spoken there.
    #[must_use]
    pub fn of(upstream: &'a Upstream, endpoint: &'a Endpoint) -> Option<Self> {
        let client = upstream.tls.as_deref()?;
        let handshakes = &upstream.state.metrics.handshakes;
        Some(Self { client, host: &endpoint.host, handshakes })
    }

    /// Shakes hands over an open stream.
    ///
    /// # Errors
    /// Why it came to nothing.
    pub async fn shake(self, stream: Stream, offer: Offer) -> Result<Stream, Cause> {
        let Self { client, host, handshakes } = self;
        match client.connect(stream, host, offer).await {
            Ok(Connected { stream, resumed }) => {
                handshakes.count(if resumed { HandshakeOut::Resumed } else { HandshakeOut::Full });
                Ok(Stream::Tls(Box::new(Secured { stream, opened_by: client.id() })))
            }
            Err(failure) => {
                handshakes.count(failure.end);
                Err(Cause::Tls(Box::new(failure)))
            }
        }
    }
}

/// Opens a stream to an endpoint, says there whom it is for if the upstream wants that, and puts it
/// under TLS if the upstream has it. The caller bounds the time.
///
/// # Errors
/// What the operating system said, or why the handshake came to nothing.
pub async fn open(
    upstream: &Upstream,
    endpoint: &Endpoint,
    offer: Offer,
    origin: Origin,
) -> Result<Stream, Cause> {
    let mut stream = connect(&endpoint.address).await.map_err(Cause::Io)?;
    if let Some(version) = upstream.settings.proxy_protocol {
        introduce(&mut stream, version, origin).await.map_err(Cause::Io)?;
    }
    match Secure::of(upstream, endpoint) {
        // On the heap: a handshake has more state than all the rest of a request's way.
        Some(secure) => Box::pin(secure.shake(stream, offer)).await,
        None => Ok(stream),
    }
}

/// Says whom a connection is made for, before anything else.
///
/// # Errors
/// What the operating system said.
pub async fn introduce(
    stream: &mut Stream,
    version: Version,
    origin: Origin,
) -> std::io::Result<()> {
    stream.write_all(Header::of(version, origin).as_bytes()).await
}

/// Opens a stream to an endpoint. Nagle's delay is off: every write is a whole piece of a message.
///
/// # Errors
/// What the operating system said.
pub async fn connect(address: &EndpointAddress) -> std::io::Result<Stream> {
    match address {
        EndpointAddress::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        }
        EndpointAddress::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
