//! Where a route's copies go, and how many are under way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crate::policy::mirror::Settings;
use crate::upstream::Upstream;

/// The mirror of a route.
pub struct Mirror {
    /// Its settings.
    pub settings: Settings,
    /// The upstream that the copies go to.
    pub upstream: Arc<Upstream>,
    /// Copies under way, of all workers; they are counted on over a reload.
    pub under_way: Arc<AtomicU32>,
}

impl Mirror {
    /// A mirror; the copies under way are those of the one before.
    #[must_use]
    pub fn new(
        settings: &Settings,
        known: Option<&Self>,
        upstreams: &BTreeMap<String, Arc<Upstream>>,
    ) -> Option<Self> {
        Some(Self {
            settings: settings.clone(),
            upstream: Arc::clone(upstreams.get(&settings.upstream)?),
            under_way: known.map(|known| Arc::clone(&known.under_way)).unwrap_or_default(),
        })
    }
}
