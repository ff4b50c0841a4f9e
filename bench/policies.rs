//! What the policies, the matcher and the compilation cost. `bench/METHOD.md` says how to read it.
#![expect(clippy::expect_used, reason = "a benchmark that cannot begin ends by panicking")]

#[path = "policies/choice.rs"]
mod choice;
#[path = "policies/machines.rs"]
mod machines;
#[path = "policies/request.rs"]
mod request;
#[path = "policies/routes.rs"]
mod routes;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};

/// A time that moves on a little with each reading, without a call of the system.
pub(crate) struct Moving {
    now: Instant,
    step: Duration,
}

impl Moving {
    /// Moves on by `step` at each reading.
    #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
    pub(crate) fn by(step: Duration) -> Self {
        Self { now: Instant::now(), step }
    }

    pub(crate) fn read(&mut self) -> Instant {
        self.now += self.step;
        black_box(self.now)
    }
}

/// As many requests a second as one busy core can take: the step of time between two of them.
pub(crate) const BUSY: Duration = Duration::from_micros(20);

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
        .without_plots()
}

criterion_group! {
    name = all;
    config = quick();
    targets = machines::benches, choice::benches, request::benches, routes::benches
}
criterion_main!(all);
