//! Is the proxy itself about to fail? Its own shortness of memory, descriptors, places in the
//! accept queue or processor time, as one number each, and which tiers are refused for it.
//!
//! **Pressure** is 0 up to a resource's `start`, 1 from `full` on, and a line between. It rises at
//! once and falls slowly: not for [`HOLD`] after it was last confirmed, and then by [`FALL`] a
//! second, so that what has been let in shows its cost before more is let in. A load within
//! [`BAND`] below the pressure confirms it, so that one that hovers does not make it flap.
//!
//! **The tiers** are refused from the lowest up, each after a further equal part of the pressure,
//! the highest at 1 alone: [`refused`]. The form, a pressure for each resource that is mapped to
//! actions, is that of Envoy's overload manager.
//!
//! **Memory** has two rules of its own. The share of it is that of the room which others leave
//! ([`share`]): beside a service that fills its container to the brim, a proxy that holds a
//! hundredth of it saves nobody by refusing. And allocators keep what was once used: memory that
//! refusing has not freed is no reason to refuse on, see [`Memory`].
//!
//! State: a few numbers for each resource. Nothing here is a setting but the size of memory.
//! Not here: how the loads are measured, and what becomes of a refused request.

use std::time::{Duration, Instant};

/// What the proxy can run short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Memory, as a share of the room for it.
    Memory,
    /// File descriptors, as a share of the most that may be open.
    Descriptors,
    /// Connections that wait to be accepted, as a share of those that may.
    AcceptQueue,
    /// How late a worker's timers fire, in seconds.
    EventLoop,
}

/// When a load begins to count, and when nothing more can be taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// The load up to which there is no pressure.
    pub start: f64,
    /// The load from which on all is refused.
    pub full: f64,
    /// So many samples in a row must show a load; 1 to [`SUSTAINED_MAX`].
    pub sustained: usize,
}

/// The most samples in a row that a resource may ask for.
pub const SUSTAINED_MAX: usize = 3;

impl Resource {
    /// Every resource, in the order of declaration.
    pub const ALL: [Self; 4] =
        [Self::Memory, Self::Descriptors, Self::AcceptQueue, Self::EventLoop];

    /// The spelling in labels, logs and on the operator's page.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Descriptors => "descriptors",
            Self::AcceptQueue => "accept_queue",
            Self::EventLoop => "event_loop",
        }
    }

    /// The place in [`Resource::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether closing connections that nobody uses gives some of it back.
    #[must_use]
    pub const fn freed_by_closing(self) -> bool {
        !matches!(self, Self::EventLoop)
    }

    /// When its load begins to count, and when all is refused.
    #[must_use]
    pub const fn thresholds(self) -> Thresholds {
        match self {
            // The room ends where refusing is to be complete; buffers of requests in flight grow
            // on for a moment after that, and have the rest of the container for it.
            Self::Memory => Thresholds { start: 0.85, full: 1.0, sustained: 1 },
            // The last twentieth is for the operator, names, health checks and the file: of the
            // common limit of 1024 that is 51.
            Self::Descriptors => Thresholds { start: 0.85, full: 0.95, sustained: 1 },
            // Bursts of connections fill half of it for a moment and are gone with the next turn.
            Self::AcceptQueue => Thresholds { start: 0.5, full: 1.0, sustained: SUSTAINED_MAX },
            // A container that is held to its share of a processor stands still for up to 100 ms
            // at a time without being overloaded. One that answers nobody for a second has
            // thousands of requests before it that wait.
            Self::EventLoop => Thresholds { start: 0.15, full: 1.0, sustained: SUSTAINED_MAX },
        }
    }
}

/// The pressure stays for so long after the load last confirmed it: ten samples.
pub const HOLD: Duration = Duration::from_secs(2);

/// By so much the pressure falls in a second: from all to nothing takes five.
pub const FALL: f64 = 0.2;

/// A load so little below the pressure confirms it.
pub const BAND: f64 = 0.1;

/// The pressure of one resource.
#[derive(Clone, Debug, Default)]
pub struct Pressure {
    recent: [f64; SUSTAINED_MAX],
    value: f64,
    /// When it was last confirmed, and when it last fell.
    confirmed: Option<Instant>,
    fell: Option<Instant>,
}

impl Pressure {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The pressure, 0 to 1.
    #[must_use]
    pub const fn value(&self) -> f64 {
        self.value
    }

    /// Takes in a load and says the pressure, 0 to 1. A load that is no number changes nothing.
    pub fn observe(&mut self, thresholds: &Thresholds, load: f64, now: Instant) -> f64 {
        if load.is_nan() {
            return self.value;
        }
        self.recent.rotate_right(1);
        if let Some(latest) = self.recent.first_mut() {
            *latest = load;
        }
        let sustained = self.recent.iter().take(thresholds.sustained.max(1));
        let load = sustained.copied().fold(f64::INFINITY, f64::min);
        let span = (thresholds.full - thresholds.start).max(f64::EPSILON);
        let raw = ((load - thresholds.start) / span).clamp(0.0, 1.0);
        if raw >= self.value || (raw > 0.0 && raw >= self.value - BAND) {
            self.value = self.value.max(raw);
            self.confirmed = Some(now);
            self.fell = None;
        } else if let Some(confirmed) = self.confirmed {
            let since = self.fell.unwrap_or(confirmed + HOLD);
            if now > since {
                let fallen = FALL * now.duration_since(since).as_secs_f64();
                self.value = (self.value - fallen).max(raw);
                self.fell = Some(now);
            }
        }
        self.value
    }
}

/// What memory is left after so long of refusing, with few requests in flight, is not held by them.
pub const PROOF: Duration = Duration::from_secs(10);

/// Memory that moves by no more than this share of the room has not moved.
const STILL: f64 = 0.02;

/// The least distance from the first pressure to refusing all, where much is written off. A
/// container that is full to its room has a quarter of it until the kernel kills.
const SPAN_MIN: f64 = 0.05;

/// The pressure of memory.
///
/// Allocators keep much of what was once used, and give it to the next request instead of the
/// system. A proxy that waited for it to be given back would, after one burst, refuse for ever. So
/// what was not freed by refusing, although the requests in flight have become half as many or
/// fewer, is written off: the thresholds move up to it, closer together, and down again when it is
/// given back after all. As long as the requests are there that memory may be held by, nothing is
/// written off.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pressure: Pressure,
    written_off: f64,
    watched: Option<Watched>,
}

/// What memory did while few requests were in flight.
#[derive(Clone, Copy, Debug)]
struct Watched {
    all_refused: bool,
    since: Instant,
    least: f64,
    most: f64,
    /// The most requests in flight since there is pressure.
    busiest: u64,
}

impl Memory {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the share of the room that is used and the requests in flight, and says the
    /// pressure, 0 to 1.
    pub fn observe(&mut self, share: f64, in_flight: u64, now: Instant) -> f64 {
        if share.is_nan() {
            return self.pressure.value();
        }
        let usual = Resource::Memory.thresholds();
        self.written_off = self.written_off.min((share - usual.start).max(0.0));
        let start = usual.start + self.written_off;
        let full = usual.full.max(start + SPAN_MIN);
        let value = self.pressure.observe(&Thresholds { start, full, ..usual }, share, now);
        self.watch(share, in_flight, value, now);
        value
    }

    /// The share of the room that is written off.
    #[must_use]
    pub const fn written_off(&self) -> f64 {
        self.written_off
    }

    fn watch(&mut self, share: f64, in_flight: u64, value: f64, now: Instant) {
        if value <= 0.0 {
            self.watched = None;
            return;
        }
        let all_refused = value >= 1.0;
        let fresh =
            Watched { all_refused, since: now, least: share, most: share, busiest: in_flight };
        let watched = self.watched.get_or_insert(fresh);
        watched.busiest = watched.busiest.max(in_flight);
        let (least, most) = (watched.least.min(share), watched.most.max(share));
        let moved = !all_refused && most - least > STILL;
        let busy = in_flight > watched.busiest / 2;
        if busy || moved || watched.all_refused != all_refused {
            *watched = Watched { busiest: watched.busiest, ..fresh };
            return;
        }
        (watched.least, watched.most) = (least, most);
        if now.saturating_duration_since(watched.since) >= PROOF {
            self.written_off = (least - Resource::Memory.thresholds().start).max(0.0);
            *watched = fresh;
        }
    }
}

/// Memory that the process shares with others: a container, or the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Bytes in use by all, what can be dropped without loss not counted.
    pub used: u64,
    /// Bytes at which somebody is killed.
    pub limit: u64,
}

/// The share of a level that may be used: the rest is for what grows on while refusing begins.
pub const USABLE: f64 = 0.8;

/// However full others make a level, this share of what may be used is room for the process: below
/// it, refusing would free too little to save anybody.
const ROOM_MIN: f64 = 0.1;

/// The share that a process of this many resident bytes uses of the room that others leave to it.
#[must_use]
pub fn share(own: u64, level: Level) -> f64 {
    let usable = level.limit as f64 * USABLE;
    let others = level.used.saturating_sub(own) as f64;
    let room = (usable - others).max(usable * ROOM_MIN);
    if room > 0.0 { own as f64 / room } else { 1.0 }
}

/// How many of so many tiers are refused at a pressure, from the lowest up.
#[must_use]
pub fn refused(pressure: f64, tiers: usize) -> usize {
    ((pressure.clamp(0.0, 1.0) * tiers as f64) as usize).min(tiers)
}

/// Whether a request of a tier, 0 being the highest of so many, is refused at a pressure.
#[must_use]
pub fn refuses(pressure: f64, tier: usize, tiers: usize) -> bool {
    let refused = refused(pressure, tiers);
    refused > 0 && tier >= tiers - refused
}

/// The part of its usual time for which a connection may be idle under a pressure of what closing
/// it would free: all at 0, a quarter at half, nothing at 1.
#[must_use]
pub fn patience(pressure: f64) -> f64 {
    let left = 1.0 - pressure.clamp(0.0, 1.0);
    left * left
}

#[cfg(test)]
mod tests;
