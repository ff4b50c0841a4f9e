//! A pure machine that several threads share.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A mutex that a panic elsewhere does not poison: the machines behind it hold plain counts and
/// instants, which are valid after every single assignment.
#[derive(Debug, Default)]
pub struct Shared<T>(Mutex<T>);

impl<T> Shared<T> {
    /// Wraps a machine.
    pub const fn new(machine: T) -> Self {
        Self(Mutex::new(machine))
    }

    /// Takes the machine for one short critical section; never held over an await.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
