//! How short the process is of what it lives on, as every worker reads it.
//!
//! Two numbers that the control runtime writes and requests read, without a lock. A worker that is
//! late adds its own lateness, so that one with too much before it refuses while the others serve.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::policy::protection::Resource;
use crate::telemetry::metrics::Measure;

/// The descriptors that clients do not get: a fiftieth of the limit, at least 4 and at most 64.
const RESERVE: (u64, u64, u64) = (50, 4, 64);

/// The pressures that all workers share.
#[derive(Debug)]
pub struct Protection {
    highest: Measure,
    of_connections: Measure,
    last_descriptor: AtomicU64,
}

impl Default for Protection {
    fn default() -> Self {
        Self {
            highest: Measure::default(),
            of_connections: Measure::default(),
            last_descriptor: AtomicU64::new(u64::MAX),
        }
    }
}

impl Protection {
    /// Tells of the pressures, 0 to 1, in the order of [`Resource::ALL`]. Those of the event loop
    /// are each worker's own.
    pub fn tell(&self, pressures: &[f64; Resource::ALL.len()]) {
        let all = || Resource::ALL.into_iter().zip(pressures);
        let of = |wanted: fn(Resource) -> bool| {
            let some = all().filter(|(resource, _)| wanted(*resource));
            some.fold(0.0, |most: f64, (_, pressure)| most.max(*pressure))
        };
        self.highest.set(of(|resource| resource != Resource::EventLoop));
        self.of_connections.set(of(Resource::freed_by_closing));
    }

    /// Tells how many descriptors may be open.
    pub fn tell_descriptors(&self, limit: u64) {
        let (part, least, most) = RESERVE;
        let reserve = (limit / part).clamp(least, most);
        self.last_descriptor.store(limit.saturating_sub(reserve), Ordering::Relaxed);
    }

    /// Whether a client may have this descriptor. The kernel gives the lowest that is free, so its
    /// number says at once, and not at the next look, that nearly all are taken; the rest is for
    /// the operator's listener, whose probes must be answered even then.
    #[must_use]
    pub fn for_clients(&self, descriptor: u64) -> bool {
        descriptor < self.last_descriptor.load(Ordering::Relaxed)
    }

    /// The highest pressure of what belongs to the whole process, 0 to 1.
    #[must_use]
    pub fn highest(&self) -> f64 {
        self.highest.get()
    }

    /// The highest pressure of what closing idle connections frees, 0 to 1.
    #[must_use]
    pub fn of_connections(&self) -> f64 {
        self.of_connections.get()
    }
}
