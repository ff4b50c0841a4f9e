//! The configuration compiled into what a request is served from.

pub mod matcher;
