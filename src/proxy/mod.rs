//! The data path: from a request's head to the answer that the client gets.

pub mod answer;
pub mod headers;
pub mod rewrite;
