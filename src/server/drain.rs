//! The end of the process, step by step.

use tokio::sync::watch;

/// How far the process is on its way to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    #[default]
    Serving,
    /// No new connections; those without a request are closed, and the others after their request.
    Closing,
    /// Over: what is left is cut off.
    Over,
}

/// Tells everybody of the phase.
pub type Teller = watch::Sender<Phase>;
/// Hears of the phase.
pub type Listener = watch::Receiver<Phase>;

/// Waits until the phase is at least this one. A teller that is gone means that all is over.
pub async fn reached(listener: &mut Listener, phase: Phase) {
    let _ = listener.wait_for(|now| *now >= phase).await;
}
