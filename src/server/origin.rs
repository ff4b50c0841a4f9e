//! Where a new connection comes from and where it was going: what the socket knows, what the kernel
//! remembers of a redirection, and what a header of the PROXY protocol says.

use std::net::SocketAddr;
use std::time::Instant;

use socket2::SockRef;
use tokio::io::AsyncReadExt as _;

use super::handshake::told_to_end;
use crate::clock;
use crate::proxy::peer::{Ends, Peer};
use crate::proxy_protocol::{MAX_TEXT, Origin, Reader, Version};
use crate::telemetry::metrics::HeaderIn;
use crate::upstream::connect::Stream;
use crate::upstream::own;

/// How much of a header is read at once.
const PIECE: usize = MAX_TEXT;

/// The ends of a connection as this machine knows them. `redirected`: connections may come from
/// elsewhere by a rule of the kernel, which is then asked where they were going.
pub(super) fn ends(stream: &Stream, client: Option<SocketAddr>, redirected: bool) -> Ends {
    let Stream::Tcp(stream) = stream else {
        return Ends { client, ..Ends::default() };
    };
    let local = stream.local_addr().ok();
    if redirected {
        own::may_return();
        let original = original(&SockRef::from(stream), client);
        // A connection that nobody has redirected was going where it is.
        let elsewhere = |to: &SocketAddr| local.map(canonical) != Some(canonical(*to));
        if let Some(destination) = original.filter(elsewhere) {
            return Ends { client, destination: Some(destination), redirected: true };
        }
    }
    Ends { client, destination: local, redirected: false }
}

/// The destination before the redirection (`SO_ORIGINAL_DST`, `IP6T_SO_ORIGINAL_DST`). Clients over
/// IPv4 are asked for as such, on a socket for both families too.
fn original(socket: &SockRef<'_>, client: Option<SocketAddr>) -> Option<SocketAddr> {
    let ipv4 = client.is_some_and(|client| client.ip().to_canonical().is_ipv4());
    let asked = if ipv4 { socket.original_dst_v4() } else { socket.original_dst_v6() };
    // Without a word of the kernel there was no redirection.
    asked.ok()?.as_socket().map(canonical)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Reads the header that comes before everything else, and nothing that follows it; counts what
/// came. Nothing when the connection is to be closed.
pub(super) async fn told(stream: &mut Stream, peer: &Peer, until: Instant) -> Option<Ends> {
    let read = tokio::select! {
        biased;
        read = clock::until(until, read(stream)) => read.unwrap_or(Err(HeaderIn::Timeout)),
        () = told_to_end(peer) => Err(HeaderIn::Closing),
    };
    // The connection that is served under the header is not known to who has just ended this one.
    let read = if peer.closing() { Err(HeaderIn::Closing) } else { read };
    match read {
        Ok((version, origin)) => {
            peer.metrics.proxy_headers.count(HeaderIn::Read(version));
            Some(match origin {
                Origin::Sender => peer.ends,
                Origin::Nameless => Ends::default(),
                Origin::Client(ends) => Ends {
                    client: Some(ends.source),
                    destination: Some(ends.destination),
                    redirected: false,
                },
            })
        }
        Err(came) => {
            peer.metrics.proxy_headers.count(came);
            let (client, came) = (&*peer.text, came.as_str());
            tracing::debug!(client, came, "refused without a header of the PROXY protocol");
            None
        }
    }
}

async fn read(stream: &mut Stream) -> Result<(Version, Origin), HeaderIn> {
    let mut reader = Reader::default();
    let mut piece = [0; PIECE];
    loop {
        let wanted = reader.wants().min(PIECE);
        let room = piece.get_mut(..wanted).unwrap_or_default();
        let length = match stream.read(room).await {
            Ok(0) | Err(_) => return Err(HeaderIn::Closed),
            Ok(length) => length,
        };
        for byte in piece.iter().take(length) {
            if let Some(read) = reader.push(*byte).map_err(HeaderIn::Bad)? {
                return Ok(read);
            }
        }
    }
}
