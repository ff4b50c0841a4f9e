//! Sending to an endpoint that chooses the protocol in its TLS handshake.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body::Body;

use super::{Answered, Pools};
use crate::tls::client::Offer;
use crate::upstream::Upstream;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::error::Error;
use crate::upstream::http1::Outgoing;
use crate::upstream::message::Message;

impl<B> Pools<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Sends over whichever protocol the endpoint chose when the connection was made. An endpoint
    /// to which connections of HTTP/1.1 are kept has chosen that.
    pub(super) async fn send_as_chosen(
        self: &Rc<Self>,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        message: Message<'_, B>,
        connect_by: Instant,
    ) -> Result<Answered<B>, Error> {
        if self.shared(upstream, endpoint).is_some() {
            return self.send_http2(upstream, endpoint, message, connect_by).await;
        }
        if self.has_idle(endpoint) {
            return self.send_http1(upstream, endpoint, message, connect_by).await;
        }
        let offer = (Offer::Either, message.origin);
        let (stream, place) = self.open(upstream, endpoint, offer, connect_by).await?;
        if stream.chose_http2() {
            let shaking = self.shake_http2(upstream, endpoint, stream, place, connect_by);
            // Kept, so that the request finds it.
            shaking.await?;
            return self.send_http2(upstream, endpoint, message, connect_by).await;
        }
        let informed = message.informed;
        let outgoing = Outgoing::new(message);
        self.exchange_on_new(upstream, endpoint, outgoing, informed, (stream, place)).await
    }

    fn has_idle(&self, endpoint: &Endpoint) -> bool {
        self.by_endpoint.borrow().get(&endpoint.id).is_some_and(|kept| !kept.idle.is_empty())
    }
}
