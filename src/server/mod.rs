//! The sockets that clients come to: accepting, serving, watching over timeouts, and draining.
//!
//! Knows protocols and limits of connections; knows no policy.

pub mod accept;
pub mod connection;
pub mod drain;
pub mod handshake;
mod http1;
mod http2;
mod origin;
pub mod socket_file;
mod stream;
pub mod thread;
mod tunnel;
