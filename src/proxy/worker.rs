//! What one data-path thread has for itself.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

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
    /// Exchanges that go on whether their clients are there or not.
    pub aside: Rc<Aside>,
    /// What its connections share.
    pub stock: Rc<Stock>,
    /// The timers of its attempts.
    pub timers: Timers,
    lateness: RefCell<Pressure>,
}

/// Counts the exchanges of a worker that go on without their clients.
#[derive(Default)]
pub struct Aside {
    count: Cell<usize>,
    emptied: Notify,
}

/// One of them; counted until it is dropped.
pub struct GoesOn(Rc<Aside>);

impl Aside {
    /// One more.
    #[must_use]
    pub fn enter(self: &Rc<Self>) -> GoesOn {
        self.count.set(self.count.get() + 1);
        GoesOn(Rc::clone(self))
    }

    /// Waits until there is none.
    pub async fn emptied(&self) {
        while self.count.get() > 0 {
            self.emptied.notified().await;
        }
    }
}

impl Drop for GoesOn {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        self.0.emptied.notify_one();
    }
}

impl Worker {
    /// A worker without connections.
    #[must_use]
    pub fn new(proxy: Arc<Proxy>, metrics: Arc<WorkerMetrics>) -> Self {
        let worker = Self {
            proxy,
            pools: Rc::default(),
            metrics,
            aside: Rc::default(),
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
