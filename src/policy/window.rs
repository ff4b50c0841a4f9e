//! Counts over the last seconds: a ring of time buckets.
