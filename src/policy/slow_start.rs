//! How much may an endpoint that has just come back take? Its share grows over a time.
//!
//! An endpoint comes back when it is new, no longer ejected, healthy again or found again by DNS.
//! Its caches are cold and its connections are not made, so it is given less than its share at
//! first. In the choice of the better of two, the cost of an endpoint is multiplied by `1 /
//! factor`, so that one in its first tenth looks ten times as loaded as it is; a weighted choice
//! multiplies the weight by the factor instead.
//!
//! The curve is Envoy's slow start with aggression 1 and a least weight of 10 %: a straight line.

use std::time::Duration;

/// The least factor. With less, an endpoint could get no request at all and stay cold for ever.
pub const LEAST: f64 = 0.1;

/// The share of its usual load that an endpoint may take this long after its return, from
/// [`LEAST`] to 1: the time passed over the window, and 1 when the window has no length.
#[must_use]
pub fn factor(window: Duration, since_return: Duration) -> f64 {
    if since_return >= window {
        return 1.0;
    }
    (since_return.as_secs_f64() / window.as_secs_f64()).max(LEAST)
}

#[cfg(test)]
mod tests;
