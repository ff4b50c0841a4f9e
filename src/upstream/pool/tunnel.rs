//! Connections for CONNECT: opened as all others are, and used for nothing else.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::Response;
use http_body::Body;

use super::{Answered, Pools};
use crate::clock;
use crate::proxy_protocol::Origin;
use crate::tls::client::Offer;
use crate::upstream::Upstream;
use crate::upstream::answer;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::error::Error;
use crate::upstream::http1::Connection;

impl<B> Pools<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Opens a connection to an endpoint, which is the whole of what CONNECT asks for (RFC 9110,
    /// 9.3.6). The answer is what the client is to get; its body holds the connection.
    pub(super) async fn connect(
        self: &Rc<Self>,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        origin: Origin,
        connect_by: Instant,
    ) -> Result<Answered<B>, Error> {
        let (stream, place) =
            self.open(upstream, endpoint, (Offer::Http1, origin), connect_by).await?;
        let connection = Box::new(Connection::for_tunnel(stream, place, clock::now()));
        let answer = Response::new(answer::Body::Http1(connection));
        Ok((answer, self.lease(upstream, endpoint)))
    }
}
