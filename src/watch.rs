//! Watches one file and hands over its content whenever that is another one.
//!
//! What is watched is the folder, because a file is rarely changed in place: editors rename a new
//! file over it, and Kubernetes swaps the `..data` link that it is reached through. Events only say
//! that it is time to look; what decides is the content. A slow poll looks as well, for changes
//! that no event tells of: behind links to other folders, on network file systems, after the folder
//! itself was replaced, or where the system has no watch left to give.

mod folders;

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::clock;

pub use self::folders::Folders;

/// From the first event to the look at the file: a change is often several events, and a file that
/// is written in place is often whole after this.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// The time between two looks without an event.
const POLL: Duration = Duration::from_secs(5);

/// The largest file that is read. Larger ones are not configuration, and their content is kept in
/// memory while they are handed over.
pub const MAX_FILE: u64 = 16 << 20;

/// What tells one content from another without keeping it: its length and its 64-bit SipHash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    length: usize,
    hash: u64,
}

impl Fingerprint {
    /// The fingerprint of a content. It means nothing to another process.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(content);
        Self { length: content.len(), hash: hasher.finish() }
    }
}

/// Watches a file for as long as the future lives and calls `on_change` with each content that
/// differs from the one before; `loaded` is the fingerprint of the content that is in use already,
/// `None` if there is none. A file that is away or cannot be read changes nothing. A file that is
/// written in place may be seen half written, and then again.
///
/// `on_change` runs on the task of the caller and keeps the watch from looking while it runs. Files
/// are read on the runtime's blocking threads.
pub async fn watch(path: PathBuf, loaded: Option<Fingerprint>, mut on_change: impl FnMut(Vec<u8>)) {
    look_again_and_again(path, loaded, POLL, |changed| {
        if let Some(content) = changed {
            on_change(content);
        }
    })
    .await;
}

/// The watch, which tells of every look: `Some` with another content, `None` without.
async fn look_again_and_again(
    path: PathBuf,
    mut known: Option<Fingerprint>,
    poll: Duration,
    mut on_look: impl FnMut(Option<Vec<u8>>),
) {
    let path = Arc::new(path);
    let event = Arc::new(Notify::new());
    let mut eye = Eye::default();
    let mut blind = false;
    loop {
        let (file, wake) = (Arc::clone(&path), Arc::clone(&event));
        let look = tokio::task::spawn_blocking(move || {
            // The watch comes first, so that a change after the look is an event.
            eye.watch_folder_of(&file, &wake);
            let content = read(&file);
            (eye, content)
        });
        // The only ways to fail are a panic in there and the end of the runtime.
        let content = match look.await {
            Ok((kept, content)) => {
                eye = kept;
                content
            }
            Err(error) => {
                eye = Eye::default();
                Err(error.to_string())
            }
        };
        let changed = match content {
            Ok(content) => {
                if std::mem::take(&mut blind) {
                    tracing::info!(file = %path.display(), "the watched file can be read again");
                }
                let seen = Some(Fingerprint::of(&content));
                (seen != std::mem::replace(&mut known, seen)).then_some(content)
            }
            Err(error) => {
                if !std::mem::replace(&mut blind, true) {
                    tracing::warn!(
                        file = %path.display(), error,
                        "the watched file cannot be read; what was read last stays in use"
                    );
                }
                None
            }
        };
        on_look(changed);
        tokio::select! {
            // Events during the debounce cause one look more, which is cheaper than a missed one.
            () = event.notified() => clock::sleep(DEBOUNCE).await,
            () = clock::sleep(poll) => {}
        }
    }
}

/// What tells a folder from another one of the same name. The time of birth is there because a new
/// folder may get the inode of the one that it replaces; not every file system knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Folder {
    device: u64,
    inode: u64,
    born: Option<SystemTime>,
}

/// The watch on the folder.
#[derive(Default)]
struct Eye {
    /// The watch and the folder that it is on; `None` while there is none.
    watcher: Option<(RecommendedWatcher, Folder)>,
    /// Whether the operator has been told that there is none.
    told: bool,
}

impl Eye {
    /// Sees to it that the watch is on the folder that has the path's parent as its name now.
    fn watch_folder_of(&mut self, path: &Path, wake: &Arc<Notify>) {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let result = match identity(folder) {
            Ok(identity) if self.watcher.as_ref().is_some_and(|(_, on)| *on == identity) => return,
            Ok(identity) => watcher(folder, wake).map(|watcher| (watcher, identity)),
            Err(error) => Err(error.to_string()),
        };
        match result {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                self.told = false;
            }
            Err(error) => {
                self.watcher = None;
                if !std::mem::replace(&mut self.told, true) {
                    tracing::warn!(
                        folder = %folder.display(), error,
                        "the folder cannot be watched; the file is polled instead"
                    );
                }
            }
        }
    }
}

fn identity(folder: &Path) -> std::io::Result<Folder> {
    let meta = fs::metadata(folder)?;
    Ok(Folder { device: meta.dev(), inode: meta.ino(), born: meta.created().ok() })
}

fn watcher(folder: &Path, wake: &Arc<Notify>) -> Result<RecommendedWatcher, String> {
    let mut watcher = notify::recommended_watcher(waking(wake)).map_err(|e| e.to_string())?;
    watcher.watch(folder, RecursiveMode::NonRecursive).map_err(|error| error.to_string())?;
    Ok(watcher)
}

/// What is done at an event.
fn waking(wake: &Arc<Notify>) -> impl Fn(notify::Result<notify::Event>) + Send + use<> + 'static {
    let wake = Arc::clone(wake);
    move |event| {
        // Reading the file is an event too, and must not lead to the next reading. An error may
        // stand for lost events.
        let is_reading = matches!(
            event,
            Ok(notify::Event { kind: EventKind::Access(kind), .. })
                if kind != AccessKind::Close(AccessMode::Write)
        );
        if !is_reading {
            wake.notify_one();
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let meta = fs::metadata(path).map_err(|error| error.to_string())?;
    // Opening a pipe would wait for its writer.
    if !meta.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut content))
        .map_err(|error| error.to_string())?;
    if content.len() as u64 > MAX_FILE {
        return Err(format!("it is larger than {} MiB", MAX_FILE >> 20));
    }
    Ok(content)
}

#[cfg(test)]
mod tests;
