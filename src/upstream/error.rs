//! How sending a request to an endpoint can fail.

use std::fmt;
use std::rc::Rc;

use super::http1::Fault;
use crate::policy::outcome::End;
use crate::tls::client::Failure;

/// A failed send: how it ended, and whether anything can have been executed.
#[derive(Debug)]
pub struct Error {
    /// How it ended.
    pub end: End,
    /// True when it is proved that the endpoint executed nothing.
    pub unsent: bool,
    /// The upstream's own connection limit was the cause: the endpoint is not at fault.
    pub local_limit: bool,
    /// What the operating system or the protocol said.
    pub cause: Cause,
}

impl Error {
    /// An answer broke off right behind its head, so that there is none.
    #[must_use]
    pub const fn broken_off(cause: Cause) -> Self {
        Self { end: End::Reset, unsent: false, local_limit: false, cause }
    }
}

/// What the operating system or the protocol said.
#[derive(Debug)]
pub enum Cause {
    /// The operating system refused.
    Io(std::io::Error),
    /// The exchange over HTTP/1 broke.
    Exchange(Fault),
    /// The conversation over HTTP/2 broke.
    Http(hyper::Error),
    /// The TLS handshake came to nothing.
    Tls(Box<Failure>),
    /// Time ran out.
    Timeout,
    /// The upstream's connection limit is reached.
    Limit,
    /// What another request met that opened the connection for several.
    Shared(Rc<Self>),
}

impl Cause {
    /// The cause itself, whoever met it.
    #[must_use]
    pub fn root(&self) -> &Self {
        match self {
            Self::Shared(cause) => cause.root(),
            cause => cause,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Exchange(fault) => fault.fmt(f),
            Self::Http(error) => error.fmt(f),
            Self::Tls(failure) => failure.fmt(f),
            Self::Timeout => f.write_str("timed out"),
            Self::Shared(cause) => cause.fmt(f),
            Self::Limit => f.write_str("the upstream's connection limit is reached"),
        }
    }
}

impl std::error::Error for Cause {}

impl Cause {
    /// The code with which the peer reset its stream (RFC 9113, 7), if that is what broke it.
    #[must_use]
    pub fn reset(&self) -> Option<u32> {
        let Self::Http(error) = self else { return None };
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            if let Some(error) = inner.downcast_ref::<h2::Error>() {
                let by_peer = error.is_reset() && error.is_remote();
                return error.reason().filter(|_| by_peer).map(u32::from);
            }
            source = inner.source();
        }
        None
    }
}
