//! HTTP/1.1 to an endpoint: one connection that carries one exchange after another.
//!
//! Written for a proxy: an exchange is polled by the task of the request that it serves, without a
//! task or a channel between them, so that nothing is read that nobody has room for, and dropping
//! it closes the connection. The parser of heads is the `httparse` crate; what the bytes around a
//! body mean is decided here, strictly. It pipelines nothing, and leaves a connection that goes on
//! with another protocol to whoever asked for it.

mod connection;
mod head;
mod outgoing;

use std::fmt;

use crate::http1::Broken;

pub use self::connection::{Connection, Switched};
pub use self::outgoing::Outgoing;

/// Why an exchange broke.
#[derive(Debug)]
pub enum Fault {
    /// The endpoint closed the connection before the answer's end.
    Closed,
    /// The operating system reported an error.
    Io(std::io::Error),
    /// The answer is not one that can be passed on; what is wrong with it.
    Answer(&'static str),
    /// The request's body could not be read to the end that was announced.
    Request,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the endpoint closed the connection in the middle"),
            Self::Io(error) => error.fmt(f),
            Self::Answer(what) => write!(f, "the answer is broken: {what}"),
            Self::Request => f.write_str("the request's body broke off"),
        }
    }
}

impl std::error::Error for Fault {}

impl From<Broken> for Fault {
    fn from(broken: Broken) -> Self {
        Self::Answer(broken.0)
    }
}

#[cfg(test)]
mod tests;
