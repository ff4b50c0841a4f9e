//! Which of the connections without work carries the next request.

use std::time::Duration;

use bytes::Bytes;
use http_body::Body;

use super::{Idle, Pools};
use crate::clock;
use crate::proxy_protocol::Origin;
use crate::upstream::Upstream;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::http1::Connection;

/// What a connection must be to carry a request.
pub(super) struct Wanted {
    /// For how long it may have been idle; any, if not given.
    pub(super) idle_max: Option<Duration>,
    /// Whom the endpoint was told that it is for; nobody, where it is not told.
    pub(super) told: Option<Origin>,
}

/// Whom the endpoints of an upstream are told that a connection is for: nobody, unless they want to
/// be.
pub(super) fn told(upstream: &Upstream, origin: Origin) -> Option<Origin> {
    upstream.settings.proxy_protocol.map(|_| origin)
}

impl<B> Pools<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// The last connection given back that still lives and is for whom it is wanted; older ones
    /// stay for the sweep.
    pub(super) fn checkout(
        &self,
        upstream: &Upstream,
        endpoint: &Endpoint,
        wanted: &Wanted,
    ) -> Option<Box<Connection<B>>> {
        let settings = &upstream.settings.pool;
        let mut kept = self.by_endpoint.borrow_mut();
        let idle = &mut kept.get_mut(&endpoint.id)?.idle;
        loop {
            let at = match &wanted.told {
                None => idle.len().checked_sub(1)?,
                Some(origin) => {
                    idle.iter().rposition(|idle| idle.connection.is_told() == Some(origin))?
                }
            };
            let since = idle.get(at)?.since;
            if let Some(most) = wanted.idle_max
                && clock::now().saturating_duration_since(since) > most
            {
                // The others were idle for longer still.
                return None;
            }
            let Idle { mut connection, .. } = idle.remove(at);
            let aged = settings.max_age.is_some_and(|max_age| {
                clock::now().saturating_duration_since(connection.opened()) >= *max_age
            });
            let same = connection.opened_by() == upstream.opens_by()
                && connection.is_told() == wanted.told.as_ref();
            if same && !aged && connection.is_silent() {
                return Some(connection);
            }
        }
    }
}
