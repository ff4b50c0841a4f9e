//! HTTP/2 frame by frame: what libraries would never send, and what they would hide of an answer.

mod floods;
mod heads;
mod lifetime;
mod peer;
mod refusals;
mod sharing;
mod translation;

use tokio::sync::watch;

use crate::support::upstream::Builder;
use crate::support::{reply, upstream};

/// An upstream that answers nothing before it is told to, which is by sending `true`.
fn waiting() -> (watch::Sender<bool>, Builder) {
    let (open, gate) = watch::channel(false);
    let upstream = upstream().serve(move |_| {
        let mut gate = gate.clone();
        async move {
            let _ = gate.wait_for(|open| *open).await;
            reply(200)
        }
    });
    (open, upstream)
}
