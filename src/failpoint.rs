//! Places at which a build for tests can be made to die, so that a test sees what a crash right
//! there leaves behind. A release has none of it.

/// Right after a claim is durable, before a byte is sent.
pub const AFTER_CLAIM: &str = "after_claim";
/// When the upstream has answered, before its result is committed.
pub const BEFORE_COMMIT: &str = "before_commit";
/// When the result is committed, before the client has a byte of it.
pub const AFTER_COMMIT: &str = "after_commit";

/// Dies here, without a last word, if `OUTRIGGER_FAILPOINT` names this place.
#[cfg(debug_assertions)]
pub fn reach(place: &str) {
    use std::process::Command;
    use std::sync::OnceLock;

    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var("OUTRIGGER_FAILPOINT").ok());
    if wanted.as_deref() == Some(place) {
        // SIGKILL, which runs no destructor and flushes nothing; abort() would write a core.
        let _ = Command::new("kill").arg("-KILL").arg(std::process::id().to_string()).status();
        loop {
            std::thread::park();
        }
    }
}

/// Nothing, in a release.
#[cfg(not(debug_assertions))]
pub const fn reach(_place: &str) {}
