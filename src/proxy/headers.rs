//! Header fields on their way through: which end here, which are refused, which are written.
//!
//! Each file is one subject and every function is pure: maps, times and random numbers come in as
//! arguments. The order on the way in is [`seen::Seen::of`], [`framing::ambiguous_framing`] and
//! [`framing::settle_host`], then [`hop::strip_hop_by_hop`], then [`trust::strip_untrusted`] on
//! sides that are not believed; only then may anything read or write a field, so that no field
//! named by a client's `Connection` can take away what we wrote.

pub mod attempt;
pub mod crumbs;
pub mod deadline;
pub mod forward;
pub mod framing;
pub mod hint;
pub mod hop;
pub mod names;
pub mod path;
pub mod quota;
pub mod seen;
pub mod trust;
pub mod upgrade;

use http::HeaderMap;

use crate::snapshot::grpc::Wire;

/// True when a message's `content-type` says that it is gRPC: `application/grpc`, alone or with a
/// message format (`+proto`) or parameter. gRPC-Web is not gRPC: its status travels in the body.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    Wire::of_message(headers) == Some(Wire::Own)
}

#[cfg(test)]
mod tests;
