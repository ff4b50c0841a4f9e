//! Sending to an endpoint that chooses the protocol in its TLS handshake.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body::Body;

use super::turn::Turn;
use super::{Answered, Pools};
use crate::proxy_protocol::Origin;
use crate::tls::client::Offer;
use crate::upstream::Upstream;
use crate::upstream::connect::Stream;
use crate::upstream::connections::Place;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::error::Error;
use crate::upstream::http1::Outgoing;
use crate::upstream::message::Message;

impl<B> Pools<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Sends over whichever protocol the endpoint chose when the connection was made. As long as it
    /// has not chosen HTTP/1.1, connections are opened one after another, since all can share the
    /// first that is HTTP/2.
    pub(super) async fn send_as_chosen(
        self: &Rc<Self>,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        message: Message<'_, B>,
        connect_by: Instant,
    ) -> Result<Answered<B>, Error> {
        let mut turn = None;
        while turn.is_none() && !self.chose_http1(endpoint) {
            if self.shared(upstream, endpoint).is_some() {
                return self.send_http2(upstream, endpoint, message, connect_by).await;
            }
            turn = self.turn(endpoint.id);
            if turn.is_none() {
                Turn::wait(self, endpoint.id, connect_by).await?;
            }
        }
        if self.has_idle(endpoint) {
            return self.send_http1(upstream, endpoint, message, connect_by).await;
        }
        let opening = self.open_either(upstream, endpoint, connect_by).await;
        let opening = match turn {
            Some(turn) => turn.over(opening),
            None => opening,
        };
        let Some((stream, place)) = opening? else {
            return self.send_http2(upstream, endpoint, message, connect_by).await;
        };
        let informed = message.informed;
        let outgoing = Outgoing::new(message);
        self.exchange_on_new(upstream, endpoint, outgoing, informed, (stream, place)).await
    }

    /// Opens a connection and learns which protocol the endpoint chooses. One of HTTP/2 is kept,
    /// and found there. What all may share says nothing of one client.
    async fn open_either(
        &self,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        connect_by: Instant,
    ) -> Result<Option<(Stream, Place)>, Error> {
        let offer = (Offer::Either, Origin::Sender);
        let (stream, place) = self.open(upstream, endpoint, offer, connect_by).await?;
        let http1 = !stream.chose_http2();
        self.keep(upstream, endpoint, |kept| kept.chose_http1 = http1);
        if http1 {
            return Ok(Some((stream, place)));
        }
        self.shake_http2(upstream, endpoint, stream, place, connect_by).await.map(|_| None)
    }

    fn chose_http1(&self, endpoint: &Endpoint) -> bool {
        self.by_endpoint.borrow().get(&endpoint.id).is_some_and(|kept| kept.chose_http1)
    }

    fn has_idle(&self, endpoint: &Endpoint) -> bool {
        self.by_endpoint.borrow().get(&endpoint.id).is_some_and(|kept| !kept.idle.is_empty())
    }
}
