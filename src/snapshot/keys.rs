//! What a route needs to recognise requests by their keys.

use std::sync::Arc;

use http::{HeaderName, Method};

use crate::policy::idempotency::identity::NAME_VERSION;
use crate::policy::idempotency::settings::{Peer, Role, Settings};
use crate::records::codec::{Digests, digest_of};
use crate::records::ledger::Ledger;
use crate::records::registry::Registry;
use crate::shared::Shared;
use crate::telemetry::metrics::KeyedMetrics;

/// A route's keys.
pub struct Keys {
    /// The settings.
    pub settings: Settings,
    /// The records; none on the side of the caller.
    pub ledger: Option<Arc<Ledger>>,
    /// What makes fingerprints of requests.
    pub digests: Digests,
    /// The field that carries the key.
    pub key_header: HeaderName,
    /// The field of answers that says what was done with it.
    pub status_header: HeaderName,
    /// The field that tells the upstream the fence, if it is told.
    pub fence_header: Option<HeaderName>,
    /// Counts what became of requests.
    pub metrics: Arc<KeyedMetrics>,
    /// When an answer last said that the peer recognises keys; carried over a reload.
    pub enforcing: Arc<Shared<Option<std::time::Instant>>>,
    methods: Vec<Method>,
}

/// For how long it is believed that a peer recognises keys after it has said so.
const BELIEVED: std::time::Duration = std::time::Duration::from_secs(300);

/// The names of fields and methods that a route's settings speak of, compiled: all of them that can
/// be wrong.
#[derive(Clone)]
pub struct Names {
    key: HeaderName,
    status: HeaderName,
    fence: Option<HeaderName>,
    methods: Vec<Method>,
}

impl Names {
    /// Compiles the names.
    ///
    /// # Errors
    /// The key and what is wrong with it.
    pub fn compile(settings: &Settings) -> Result<Self, (&'static str, String)> {
        for text in &settings.fingerprint_headers {
            name("idempotency.fingerprint_headers", text)?;
        }
        let method = |text: &String| {
            let wrong = || format!("`{text}` is not the name of a method");
            text.parse().map_err(|_| ("idempotency.methods", wrong()))
        };
        let fence = settings.fence_header.as_ref();
        Ok(Self {
            key: name("idempotency.key_header", &settings.key_header)?,
            status: name("idempotency.status_header", &settings.status_header)?,
            fence: fence.map(|text| name("idempotency.fence_header", text)).transpose()?,
            methods: settings.methods.iter().map(method).collect::<Result<_, _>>()?,
        })
    }
}

impl Keys {
    /// The keys of a route; what was learned of its peer is taken over.
    #[must_use]
    pub fn new(
        settings: &Settings,
        names: Names,
        stores: &Registry,
        metrics: Arc<KeyedMetrics>,
        known: Option<&Arc<Self>>,
    ) -> Self {
        let Names { key, status, fence, methods } = names;
        let store = settings.store.as_deref();
        Self {
            key_header: key,
            status_header: status,
            fence_header: fence,
            methods,
            enforcing: known.map_or_else(Arc::default, |known| Arc::clone(&known.enforcing)),
            ledger: store.and_then(|store| stores.get(store)),
            digests: store.map_or_else(Digests::default, |store| stores.digests(store)),
            settings: settings.clone(),
            metrics,
        }
    }

    /// Whether requests of this method are recognised by their keys here, or get one.
    #[must_use]
    pub fn covers(&self, method: &Method) -> bool {
        self.methods.contains(method)
    }

    /// Whether it is known that the peer recognises keys.
    #[must_use]
    pub fn peer_enforces(&self, now: std::time::Instant) -> bool {
        if self.settings.role != Role::Originate {
            return self.settings.upstream_idempotent;
        }
        match self.settings.peer {
            Peer::Enforcing => true,
            Peer::Learned => {
                let at = *self.enforcing.lock();
                at.is_some_and(|at| now.saturating_duration_since(at) < BELIEVED)
            }
        }
    }

    /// The name of a record.
    #[must_use]
    pub fn rid(&self, scope: &[u8], key: &[u8]) -> [u8; 32] {
        let namespace = self.settings.namespace.as_deref().unwrap_or_default();
        digest_of(NAME_VERSION, &[namespace.as_bytes(), scope, key])
    }

    /// How much of a request's body is read before it is sent.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.settings.fingerprint_body.as_usize()
    }
}

fn name(key: &'static str, text: &str) -> Result<HeaderName, (&'static str, String)> {
    HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| (key, format!("`{text}` is not the name of a header field")))
}
