//! What one data-path thread has for itself.

use std::rc::Rc;
use std::sync::Arc;

use super::Proxy;
use super::body::RequestBody;
use crate::telemetry::metrics::WorkerMetrics;
use crate::upstream::pool::Pools;

/// One data-path thread.
pub struct Worker {
    /// What all workers share.
    pub proxy: Arc<Proxy>,
    /// The connections of this thread.
    pub pools: Rc<Pools<RequestBody>>,
    /// Its metrics.
    pub metrics: Arc<WorkerMetrics>,
}

impl Worker {
    /// A worker without connections.
    #[must_use]
    pub fn new(proxy: Arc<Proxy>, metrics: Arc<WorkerMetrics>) -> Self {
        Self { proxy, pools: Rc::default(), metrics }
    }
}
