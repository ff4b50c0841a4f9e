//! How short the proxy itself is of what it lives on.

use super::cell::Measure;
use super::children::Emit;
use super::family::Family;
use super::samples::Samples;
use crate::policy::protection::Resource;

/// One number for each resource, in the order of [`Resource::ALL`].
type Each<T> = [T; Resource::ALL.len()];

/// The pressure and the use of each resource.
#[derive(Debug, Default)]
pub struct ProtectionMetrics {
    pressures: Each<Measure>,
    usage: Each<Measure>,
}

impl ProtectionMetrics {
    /// Replaces the numbers: pressures from 0 to 1, and what is in use, in the units of the
    /// resource's thresholds, where it is known.
    pub fn set(&self, pressures: &Each<f64>, usage: &Each<Option<f64>>) {
        for (measure, pressure) in self.pressures.iter().zip(pressures) {
            measure.set(*pressure);
        }
        for (measure, usage) in self.usage.iter().zip(usage) {
            measure.set(usage.unwrap_or(f64::NAN));
        }
    }

    /// Each resource with its pressure and, where it is known, how much of it is in use.
    pub fn read(&self) -> impl Iterator<Item = (Resource, f64, Option<f64>)> {
        let both = self.pressures.iter().zip(&self.usage);
        let known = |usage: f64| Some(usage).filter(|usage| !usage.is_nan());
        Resource::ALL.into_iter().zip(both).map(move |(resource, (pressure, usage))| {
            (resource, pressure.get(), known(usage.get()))
        })
    }
}

impl Emit for ProtectionMetrics {
    fn emit(&self, owner: &[&str], samples: &mut Samples) {
        for (resource, pressure, usage) in self.read() {
            let label = Some(resource.as_str());
            match samples.family() {
                Family::ProtectionPressure => samples.gauge(owner, label, pressure),
                // Each worker has its lateness in a metric of its own, in seconds.
                Family::ProtectionUsage if resource != Resource::EventLoop => {
                    if let Some(usage) = usage {
                        samples.gauge(owner, label, usage);
                    }
                }
                _ => {}
            }
        }
    }
}
