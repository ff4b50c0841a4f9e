//! What one data-path thread has for itself.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Proxy;
use super::body::RequestBody;
use crate::clock::{self, Timers};
use crate::http1::Stock;
use crate::policy::protection::{Pressure, Resource};
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
    /// What its connections share.
    pub stock: Rc<Stock>,
    /// The timers of its attempts.
    pub timers: Timers,
    lateness: RefCell<Pressure>,
}

impl Worker {
    /// A worker without connections.
    #[must_use]
    pub fn new(proxy: Arc<Proxy>, metrics: Arc<WorkerMetrics>) -> Self {
        let worker = Self {
            proxy,
            pools: Rc::default(),
            metrics,
            stock: Rc::default(),
            timers: Timers::default(),
            lateness: RefCell::default(),
        };
        worker.tell_date();
        worker
    }

    /// Tells the connections the date.
    pub fn tell_date(&self) {
        self.stock.set_date(&httpdate::fmt_http_date(clock::wall_now()));
    }

    /// Learns how late the thread's last timer fired.
    pub fn late(&self, delay: Duration, now: Instant) {
        let delay = delay.as_secs_f64();
        let thresholds = Resource::EventLoop.thresholds();
        let pressure = self.lateness.borrow_mut().observe(&thresholds, delay, now);
        self.metrics.delay.set(delay);
        self.metrics.pressure.set(pressure);
    }

    /// The highest of the process's pressures and of the thread's own, 0 to 1.
    #[must_use]
    pub fn pressure(&self) -> f64 {
        self.proxy.protection.highest().max(self.metrics.pressure.get())
    }
}
