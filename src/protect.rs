//! Measures, a few times a second, what the process is running short of, and tells the data path.
//!
//! Runs on the control runtime. A look costs some dozen small reads of files that stay open, in all
//! about 0.2 ms, and no file is opened after the start, so that it goes on seeing when there is no
//! descriptor left. Where the kernel does not tell (no procfs, no limit), a resource is not watched
//! and never short. How late the workers are they measure themselves; here they are only asked.
//!
//! Decides nothing: [`crate::policy::protection`] does.

mod descriptors;
mod file;
mod memory;
mod queue;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::descriptors::Descriptors;
use self::memory::MemoryUse;
pub use self::queue::Queue;
use self::queue::Queues;
use crate::clock;
use crate::config::admin::MaxMemory;
use crate::policy::protection::{Memory, Pressure, Resource, refused};
use crate::proxy::Proxy;

/// The time between two looks. Memory that grows by 1 GB/s grows by 200 MB meanwhile.
const PERIOD: Duration = Duration::from_millis(200);

/// The least time between two lines of the log.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// How much of each resource is in use, in the units of its thresholds; nothing where it is not
/// known.
type Usage = [Option<f64>; Resource::ALL.len()];

/// Measures for as long as it lives; `queues` are the listeners' accept queues.
pub async fn watch(proxy: Arc<Proxy>, queues: Vec<Queue>) {
    let mut sampler = Sampler::open(Path::new("/proc"), queues);
    let mut protection = Protection::default();
    let mut log = Log::default();
    loop {
        let (max_memory, tiers) = {
            let live = proxy.live();
            (live.snapshot.config.runtime.max_memory, live.snapshot.importance.tiers())
        };
        let (delay, late) = proxy.metrics.event_loop();
        let mut usage = sampler.look(max_memory);
        usage[Resource::EventLoop.index()] = Some(delay);
        proxy.protection.tell_descriptors(sampler.descriptors.limit.unwrap_or(u64::MAX));
        let now = clock::now();
        let mut pressures = protection.observe(&usage, proxy.metrics.in_flight(), now);
        proxy.protection.tell(&pressures);
        pressures[Resource::EventLoop.index()] = late;
        proxy.metrics.protection().set(&pressures, &usage);
        log.note(&pressures, &usage, tiers, now);
        clock::sleep(PERIOD).await;
    }
}

/// Where the numbers come from.
struct Sampler {
    memory: MemoryUse,
    descriptors: Descriptors,
    queues: Queues,
}

impl Sampler {
    fn open(proc: &Path, queues: Vec<Queue>) -> Self {
        Self {
            memory: MemoryUse::open(proc),
            descriptors: Descriptors::open(proc),
            queues: Queues::open(proc, queues),
        }
    }

    fn look(&mut self, max_memory: Option<MaxMemory>) -> Usage {
        let mut usage = Usage::default();
        usage[Resource::Memory.index()] = max_memory.and_then(|max| self.memory.share(max));
        usage[Resource::Descriptors.index()] = self.descriptors.share();
        usage[Resource::AcceptQueue.index()] = self.queues.share();
        usage
    }
}

/// The pressures of what belongs to the process; those of the event loop are the workers' own.
#[derive(Default)]
struct Protection {
    memory: Memory,
    descriptors: Pressure,
    accept_queue: Pressure,
}

impl Protection {
    fn observe(
        &mut self,
        usage: &Usage,
        in_flight: u64,
        now: Instant,
    ) -> [f64; Resource::ALL.len()] {
        let load = |resource: Resource| usage[resource.index()].unwrap_or(0.0);
        let simple = |pressure: &mut Pressure, resource: Resource| {
            pressure.observe(&resource.thresholds(), load(resource), now)
        };
        [
            self.memory.observe(load(Resource::Memory), in_flight, now),
            simple(&mut self.descriptors, Resource::Descriptors),
            simple(&mut self.accept_queue, Resource::AcceptQueue),
            0.0,
        ]
    }
}

/// One line for each change of what is refused.
#[derive(Default)]
struct Log {
    refused: usize,
    written: Option<Instant>,
}

impl Log {
    fn note(&mut self, pressures: &[f64], usage: &Usage, tiers: usize, now: Instant) {
        let worst = Resource::ALL.into_iter().zip(pressures).zip(usage);
        let worst = worst.max_by(|((_, a), _), ((_, b), _)| a.total_cmp(b));
        let Some(((resource, pressure), usage)) = worst else { return };
        let refused = refused(*pressure, tiers);
        let soon = self.written.is_some_and(|at| now.saturating_duration_since(at) < LINE_EVERY);
        if refused == self.refused || soon {
            return;
        }
        (self.refused, self.written) = (refused, Some(now));
        tracing::warn!(
            resource = resource.as_str(),
            usage = usage.unwrap_or(0.0),
            pressure,
            refused_tiers = refused,
            tiers,
            "self-protection changed what is refused"
        );
    }
}

#[cfg(test)]
mod tests;
