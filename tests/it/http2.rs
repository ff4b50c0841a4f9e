//! HTTP/2 frame by frame: what libraries would never send, and what they would hide of an answer.

mod floods;
mod heads;
mod lifetime;
mod peer;
mod refusals;
mod sharing;
mod translation;
