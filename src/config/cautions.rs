//! What a file may say and an operator should know: settings that give up a part of a promise.

use super::Config;
use crate::policy::idempotency::Settings;
use crate::policy::idempotency::settings::{On5xx, OnStoreError, Role, Source};

/// A sentence for each setting that is allowed and gives something up, with the setting in front;
/// for the log of a start or reload, and for `check`.
#[must_use]
pub fn cautions(config: &Config) -> Vec<String> {
    let mut all = Vec::new();
    for route in &config.routes {
        let Some(s) = route.idempotency.as_ref().filter(|s| s.role == Role::Enforce) else {
            continue;
        };
        let told = of(config, s).into_iter();
        let name = &route.name;
        all.extend(told.map(|(key, what)| format!("route `{name}`: idempotency.{key} {what}")));
    }
    all
}

fn of(config: &Config, s: &Settings) -> Vec<(&'static str, &'static str)> {
    let store = s.store.as_ref().and_then(|name| config.stores.get(name));
    let in_memory = store.is_some_and(|store| store.memory.is_some());
    let cases = [
        (
            s.scope.contains(&Source::Nobody),
            "scope",
            "is `none`: who knows another caller's key gets that caller's answer",
        ),
        (
            s.scope.contains(&Source::Authorization),
            "scope",
            "has `authorization`: a token that is renewed between two attempts lets the operation \
             run twice",
        ),
        (
            s.on_5xx == On5xx::Release,
            "on_5xx",
            "is `release`: an operation that ends in a 5xx after it took effect runs again",
        ),
        (
            !s.release_statuses.is_empty(),
            "release_statuses",
            "lets an operation run again that ends so after it took effect",
        ),
        (
            s.on_store_error == OnStoreError::Open,
            "on_store_error",
            "is `open`: while the store is away, operations can run twice",
        ),
        (
            in_memory,
            "store",
            "is in memory: a restart forgets every key, and a second process knows none of them",
        ),
    ];
    cases.into_iter().filter(|(holds, ..)| *holds).map(|(_, key, what)| (key, what)).collect()
}

#[cfg(test)]
mod tests;
