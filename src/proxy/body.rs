//! The two bodies: the request's on its way up, kept so that it can be sent again, and the answer's
//! on its way down, which holds what the exchange holds until its last byte.

use crate::upstream::answer;

mod client;
mod kept;
mod request;
mod response;

pub use self::client::ClientBody;
pub use self::kept::{KEPT_MAX, KeptBytes};
pub use self::request::{Bounds, Failure, RequestBody, RequestSource};
pub use self::response::{Body, Exchange, Whole};

/// The body of an upstream's answer.
pub type AnswerBody = answer::Body<RequestBody>;
