//! How sending a request to an endpoint can fail.

use std::fmt;

use crate::policy::outcome::End;

/// A failed send: how it ended, whether anything can have been executed, and the request itself
/// when not one byte of it was written.
#[derive(Debug)]
pub struct Error<B> {
    /// How it ended.
    pub end: End,
    /// True when it is proved that the endpoint executed nothing.
    pub unsent: bool,
    /// The upstream's own connection limit was the cause: the endpoint is not at fault.
    pub local_limit: bool,
    /// The request, whole, when nothing of it was written.
    pub request: Option<Box<http::Request<B>>>,
    /// What the operating system or the protocol said.
    pub cause: Cause,
}

/// What the operating system or the protocol said.
#[derive(Debug)]
pub enum Cause {
    /// The operating system refused.
    Io(std::io::Error),
    /// The HTTP conversation broke.
    Http(hyper::Error),
    /// Time ran out.
    Timeout,
    /// The upstream's connection limit is reached.
    Limit,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Http(error) => error.fmt(f),
            Self::Timeout => f.write_str("timed out"),
            Self::Limit => f.write_str("the upstream's connection limit is reached"),
        }
    }
}
