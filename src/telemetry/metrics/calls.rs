//! The calls of gRPC of a route, by method.
//!
//! The method is the client's word, so it becomes a label only when the upstream has answered a
//! call of it with anything but UNIMPLEMENTED, and only [`METHODS_MAX`] of them do: a client that
//! makes names up cannot fill the exposition. All others are counted together.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::cell::Counter;
use super::children::{Emit, count};
use super::family::Family;
use super::latency::{Latency, WIDE};
use super::samples::Samples;
use crate::policy::retry::GRPC_NAMES;

/// The most methods of one route that are told apart: more than a service has, and each costs some
/// twenty lines of exposition.
pub const METHODS_MAX: usize = 64;

/// The longest path of a method that is told apart, in bytes.
const PATH_MAX: usize = 256;

/// What stands for all methods that are not told apart.
const OTHER: &str = "other";

/// The place of UNKNOWN, which a client makes of every code that is none.
const UNKNOWN: usize = 2;
/// The code that says that there is no such method.
const UNIMPLEMENTED: u16 = 12;

/// How a call ended.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Its path, `/service/method`.
    pub path: &'a str,
    /// Its status.
    pub code: u16,
    /// Whether the status is the upstream's own word.
    pub answered: bool,
    /// From its head to its status.
    pub duration: Duration,
}

/// The calls of one route.
#[derive(Debug, Default)]
pub struct CallMetrics {
    methods: RwLock<Methods>,
    other: Method,
}

/// Methods by their paths.
type Methods = BTreeMap<Box<str>, Arc<Method>>;

#[derive(Debug)]
struct Method {
    codes: [Counter; GRPC_NAMES.len()],
    duration: Latency<15>,
}

impl Default for Method {
    fn default() -> Self {
        Self { codes: Default::default(), duration: Latency::new(&WIDE) }
    }
}

impl Method {
    fn ended(&self, call: &Call<'_>) {
        let place = usize::from(call.code);
        count(&self.codes, if place < GRPC_NAMES.len() { place } else { UNKNOWN });
        self.duration.observe(call.duration);
    }

    fn emit(&self, owner: &[&str], samples: &mut Samples) {
        match samples.family() {
            Family::RouteCalls => {
                for (counter, code) in self.codes.iter().zip(GRPC_NAMES) {
                    samples.occurred(owner, code, counter.get());
                }
            }
            Family::RouteCallDuration => samples.histogram(owner, &self.duration.read()),
            _ => {}
        }
    }
}

impl CallMetrics {
    /// Counts a call that ended.
    pub fn ended(&self, call: &Call<'_>) {
        match self.method(call) {
            Some(method) => method.ended(call),
            None => self.other.ended(call),
        }
    }

    fn method(&self, call: &Call<'_>) -> Option<Arc<Method>> {
        let known = {
            let methods = self.methods.read().unwrap_or_else(PoisonError::into_inner);
            methods.get(call.path).cloned()
        };
        if known.is_some() || !call.answered || call.code == UNIMPLEMENTED {
            return known;
        }
        names(call.path)?;
        let mut methods = self.methods.write().unwrap_or_else(PoisonError::into_inner);
        if methods.len() >= METHODS_MAX && !methods.contains_key(call.path) {
            return None;
        }
        Some(Arc::clone(methods.entry(call.path.into()).or_default()))
    }
}

/// The service and the method of a path, if they can be labels.
fn names(path: &str) -> Option<(&str, &str)> {
    let (service, method) = path.strip_prefix('/')?.rsplit_once('/')?;
    let fits = path.len() <= PATH_MAX && path.bytes().all(|byte| byte.is_ascii_graphic());
    (fits && !service.is_empty() && !method.is_empty()).then_some((service, method))
}

impl Emit for CallMetrics {
    fn emit(&self, owner: &[&str], samples: &mut Samples) {
        if !matches!(samples.family(), Family::RouteCalls | Family::RouteCallDuration) {
            return;
        }
        let Some(route) = owner.first().copied() else { return };
        let methods = self.methods.read().unwrap_or_else(PoisonError::into_inner);
        for (path, counted) in &*methods {
            let Some((service, method)) = names(path) else { continue };
            counted.emit(&[route, service, method], samples);
        }
        self.other.emit(&[route, OTHER, OTHER], samples);
    }
}

#[cfg(test)]
mod tests;
