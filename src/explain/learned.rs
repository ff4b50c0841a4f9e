//! What is told of a rate that is learned, in the explanation of a request and in the list of
//! routes alike.

use std::time::Instant;

use serde::Serialize;

use crate::snapshot::route::Route;

/// A route's learned rate. Rates are requests a second.
#[derive(Clone, Debug, Serialize)]
pub struct Learned {
    /// What may be sent now; absent while nothing is limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// What the upstream is thought to allow; absent before its first throttle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<f64>,
    /// What the upstream advertises.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertised: Option<f64>,
    /// How long nothing is sent, because the upstream asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_for_seconds: Option<f64>,
    /// How many requests wait for their turn.
    pub waiting: usize,
}

/// The learned rate of a route as it is now; nothing where none is learned.
#[must_use]
pub fn learned(route: &Route, now: Instant) -> Option<Learned> {
    let view = route.learning.as_ref()?.view(route.settings.rate_limit.as_ref()?, now);
    Some(Learned {
        rate: view.rate,
        ceiling: view.ceiling,
        advertised: view.advertised,
        paused_for_seconds: view.paused.map(|left| left.as_secs_f64()),
        waiting: view.waiting,
    })
}

/// The same in a line for people.
#[must_use]
pub(super) fn in_words(learned: &Learned) -> String {
    let mut text = match learned.rate {
        Some(rate) => format!("{rate:.1}/s now"),
        None => "nothing is limited yet".to_owned(),
    };
    for (what, rate) in [("ceiling", learned.ceiling), ("advertised", learned.advertised)] {
        if let Some(rate) = rate {
            text.push_str(&format!(", {what} {rate:.1}/s"));
        }
    }
    if let Some(left) = learned.paused_for_seconds {
        text.push_str(&format!(", paused for {left:.1}s"));
    }
    if learned.waiting > 0 {
        text.push_str(&format!(", {} waiting", learned.waiting));
    }
    text
}
