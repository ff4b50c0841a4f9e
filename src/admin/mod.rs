//! The operator's listener: state to look at, and a few things to do.
//!
//! It runs on the control runtime, so that a request of the data path never waits for it. Looking
//! changes nothing; doing needs the bearer token of `admin.token_file`, and so does looking at
//! records, which tell of clients' operations. A connection serves one
//! request and is then closed, so that a client can hold one of the few places for a bounded time
//! only. No TLS: bind it to the loopback or to a unix socket.

mod answer;
mod api;
mod authority;
mod gauges;
mod query;
mod records;
#[cfg(test)]
mod tests;
mod view;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::clock;
use crate::proxy::Proxy;
use crate::server::accept::Socketed;
use crate::server::socket_file::SocketFile;

/// The size of a request's head. The longest that makes sense is a target to be explained, with a
/// few header fields.
const HEAD_BYTES: usize = 16 * 1024;
/// The number of header fields.
const HEADERS_MAX: usize = 64;
/// To send a request's head.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// From the accept to the last byte of the answer. It bounds how long a client that reads nothing
/// keeps its place; a large exposition takes well below a second.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// The size of a request's body. Few calls need one, and then a line; the rest is for what tools
/// send by themselves.
const BODY_BYTES: usize = 64 * 1024;
/// The pause after an accept that failed for want of descriptors or memory, so that we do not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who asks, and over which of our addresses.
#[derive(Clone, Debug)]
struct Client {
    /// For the audit line: an address and port, or the user and process behind a unix socket.
    name: String,
    /// Our own address on the connection; nothing for a unix socket.
    local: Option<IpAddr>,
}

enum Listening {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

/// Serves the operator until dropped. Above `admin.max_connections` nothing is accepted, and the
/// kernel's queue fills.
pub async fn serve(socket: Socketed, proxy: Arc<Proxy>) {
    let listening = match socket {
        Socketed::Tcp(listener, _) => TcpListener::from_std(listener).map(Listening::Tcp),
        Socketed::Unix(listener, file) => {
            let listener = UnixListener::from_std(listener);
            listener.map(|listener| Listening::Unix { listener, _file: file })
        }
    };
    let listening = match listening {
        Ok(listening) => listening,
        Err(error) => return tracing::error!(%error, "the admin listener cannot accept"),
    };
    let limit = proxy.live().snapshot.config.admin.max_connections;
    let places = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
    let mut running = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while running.try_join_next().is_some() {}
        if let Err(error) = accept(&listening, place, &proxy, &mut running).await {
            tracing::warn!(%error, "the admin listener cannot accept");
            clock::sleep(ACCEPT_PAUSE).await;
        }
    }
}

async fn accept(
    listening: &Listening,
    place: OwnedSemaphorePermit,
    proxy: &Arc<Proxy>,
    running: &mut JoinSet<()>,
) -> std::io::Result<()> {
    let proxy = Arc::clone(proxy);
    match listening {
        Listening::Tcp(listener) => {
            let (stream, address): (_, SocketAddr) = listener.accept().await?;
            let local = Some(stream.local_addr()?.ip().to_canonical());
            let client = Client { name: address.to_string(), local };
            running.spawn(connection(stream, client, proxy, place));
        }
        Listening::Unix { listener, .. } => {
            let (stream, _) = listener.accept().await?;
            let name = match stream.peer_cred() {
                Ok(peer) => match peer.pid() {
                    Some(pid) => format!("unix:uid={},pid={pid}", peer.uid()),
                    None => format!("unix:uid={}", peer.uid()),
                },
                Err(_) => "unix".to_owned(),
            };
            running.spawn(connection(stream, Client { name, local: None }, proxy, place));
        }
    }
    Ok(())
}

/// One connection: one request, one answer, within its time.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    client: Client,
    proxy: Arc<Proxy>,
    _place: OwnedSemaphorePermit,
) {
    let end = clock::now() + CONNECTION_TIME;
    let service = service_fn(|request| {
        let (client, proxy) = (client.clone(), Arc::clone(&proxy));
        async move { Ok::<_, Infallible>(respond(proxy, client, request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    match clock::until(end, serving).await.ok() {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(client = client.name, %error, "admin connection ended"),
        None => tracing::debug!(client = client.name, "admin connection took too long"),
    }
}

async fn respond(
    proxy: Arc<Proxy>,
    client: Client,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let get = head.method == http::Method::HEAD;
    // Read although few calls need it: closing on unread bytes would reset the connection, and the
    // answer with it.
    let Ok(body) = Limited::new(body, BODY_BYTES).collect().await else {
        let detail = format!("the body is broken off or larger than {BODY_BYTES} bytes");
        return answer::problem(413, &detail).finish(get);
    };
    if api::is_probe(head.uri.path()) {
        return api::answer(&proxy, &client, &head).finish(get);
    }
    // Reading a file, compiling and rendering take time in proportion to the configuration, and
    // health checks and names are kept on this thread.
    let runtime = tokio::runtime::Handle::current();
    let answering = tokio::task::spawn_blocking(move || {
        if records::is_for(head.uri.path()) {
            let body = body.to_bytes();
            return runtime.block_on(records::answer(&proxy, &client, &head, &body));
        }
        api::answer(&proxy, &client, &head)
    });
    match answering.await {
        Ok(answer) => answer.finish(get),
        Err(_) => answer::problem(500, "the answer failed; the process log says why").finish(get),
    }
}
