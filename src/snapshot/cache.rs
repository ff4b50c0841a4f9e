//! The good answers of one route, shared by the workers and kept over reloads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Version};

use super::flights::Flights;
use crate::policy::cache::Settings;
use crate::policy::cache::freshness::Times;
use crate::policy::cache::store::{Selecting, Store, ValueOf};
use crate::shared::Shared;
use crate::telemetry::metrics::{CacheEvent, RouteMetrics};

/// What a header field costs in a map beside its bytes: the bucket, the index and the allocation.
const FIELD_OVERHEAD: usize = 96;

/// A kept answer: always a whole 200 to a GET.
#[derive(Debug)]
pub struct Kept {
    /// The end-to-end fields of its head, as the upstream sent them.
    pub headers: HeaderMap,
    /// The version that the upstream spoke.
    pub version: Version,
    /// Its body.
    pub body: Bytes,
    /// What is known of its age.
    pub times: Times,
}

impl Kept {
    /// What it takes of the bound.
    fn bytes(&self) -> usize {
        let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            name.as_str().len() + value.len() + FIELD_OVERHEAD
        };
        self.headers.iter().map(field).sum::<usize>() + self.body.len()
    }
}

/// The answers of one route.
pub struct RouteCache {
    store: Shared<Store<Arc<Kept>>>,
    /// Bytes of bodies that are being copied.
    copying: AtomicUsize,
    metrics: Arc<RouteMetrics>,
    /// The GETs that share an exchange.
    pub flights: Arc<Flights>,
}

impl RouteCache {
    /// Nothing is kept yet.
    #[must_use]
    pub fn new(metrics: Arc<RouteMetrics>) -> Self {
        Self {
            store: Shared::default(),
            copying: AtomicUsize::new(0),
            metrics,
            flights: Arc::default(),
        }
    }

    /// Keeps an answer.
    pub fn keep(&self, settings: &Settings, key: &str, selecting: Selecting, kept: Arc<Kept>) {
        self.put(settings, key, selecting, kept, CacheEvent::Kept);
    }

    /// Keeps what a 304 has made of a kept answer, in its place.
    pub fn confirm(&self, settings: &Settings, key: &str, selecting: Selecting, kept: Arc<Kept>) {
        self.put(settings, key, selecting, kept, CacheEvent::Confirmed);
    }

    fn put(
        &self,
        settings: &Settings,
        key: &str,
        selecting: Selecting,
        kept: Arc<Kept>,
        as_what: CacheEvent,
    ) {
        let bytes = kept.bytes();
        let mut store = self.store.lock();
        let change = store.keep(settings.max_bytes.as_usize(), key, selecting, (kept, bytes));
        self.show(&store);
        drop(store);
        let event = if change.kept { as_what } else { CacheEvent::TooLarge };
        self.metrics.fallback.cache(event, 1);
        self.metrics.fallback.cache(CacheEvent::Evicted, change.evicted);
    }

    /// The answer that a request selects.
    #[must_use]
    pub fn find(&self, key: &str, value_of: ValueOf<'_>) -> Option<Arc<Kept>> {
        self.store.lock().find(key, value_of).cloned()
    }

    /// Forgets the answers of a URI.
    pub fn invalidate(&self, key: &str) {
        let mut store = self.store.lock();
        let gone = store.invalidate(key);
        self.show(&store);
        drop(store);
        self.metrics.fallback.cache(CacheEvent::Invalidated, gone);
    }

    /// Forgets the answers whose time is over.
    pub fn expire(&self, settings: &Settings, now: Instant) {
        let mut store = self.store.lock();
        let gone = store.retain(|kept| !kept.times.is_over(settings, now));
        self.show(&store);
        drop(store);
        self.metrics.fallback.cache(CacheEvent::Expired, gone);
    }

    /// Fits what is kept into the bound of new settings.
    pub fn refit(&self, settings: &Settings) {
        let mut store = self.store.lock();
        let evicted = store.shrink(settings.max_bytes.as_usize());
        self.show(&store);
        drop(store);
        self.metrics.fallback.cache(CacheEvent::Evicted, evicted);
    }

    /// Counts an answer that is too large to be kept.
    pub fn too_large(&self) {
        self.metrics.fallback.cache(CacheEvent::TooLarge, 1);
    }

    /// Takes room for a part of a body that is being copied; what is copied at one time has the
    /// same bound as what is kept.
    #[must_use]
    pub fn reserve(&self, settings: &Settings, bytes: usize) -> bool {
        let before = self.copying.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= settings.max_bytes.as_usize();
        if !fits {
            self.release(bytes);
        }
        fits
    }

    /// Gives such room back.
    pub fn release(&self, bytes: usize) {
        self.copying.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Under the lock, so that the gauges end at what is kept.
    fn show(&self, store: &Store<Arc<Kept>>) {
        self.metrics.fallback.cache_bytes.set(store.bytes());
        self.metrics.fallback.cache_answers.set(store.answers());
    }
}
