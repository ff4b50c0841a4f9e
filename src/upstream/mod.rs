//! Endpoints: where they are, whether they answer, and how requests reach them.

pub mod address;
pub mod health;
pub mod resolve;
