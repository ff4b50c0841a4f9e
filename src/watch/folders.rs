//! Watches folders and says when something has happened in them; what, its owner finds out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::{DEBOUNCE, Folder, POLL, identity, waking};
use crate::clock;

/// Folders under one watch of the system, of which each process has few.
#[derive(Default)]
pub struct Folders {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, Folder>,
    event: Arc<Notify>,
    /// The folders of which the operator knows that they cannot be watched.
    told: BTreeSet<PathBuf>,
}

impl Folders {
    /// Watches these and no others. A folder that has been replaced by another of the same name is
    /// watched anew; one that cannot be watched is said so once. What the caller wants to know of
    /// them it looks at after this, so that no change falls between.
    pub fn watch(&mut self, folders: &BTreeSet<PathBuf>) {
        if self.watcher.is_none() && !folders.is_empty() {
            self.watcher = notify::recommended_watcher(waking(&self.event)).ok();
        }
        let Some(watcher) = &mut self.watcher else { return };
        self.watched.retain(|folder, known| {
            let stays = folders.contains(folder) && identity(folder).ok() == Some(*known);
            if !stays {
                // A folder that is gone is not watched any more.
                let _ = watcher.unwatch(folder);
            }
            stays
        });
        for folder in folders {
            if self.watched.contains_key(folder) {
                continue;
            }
            match begin(watcher, folder) {
                Ok(identity) => {
                    self.told.remove(folder);
                    self.watched.insert(folder.clone(), identity);
                }
                Err(error) => {
                    if self.told.insert(folder.clone()) {
                        tracing::warn!(
                            folder = %folder.display(), error,
                            "the folder cannot be watched; its files are polled instead"
                        );
                    }
                }
            }
        }
        self.told.retain(|folder| folders.contains(folder));
    }

    /// Waits until it is time to look: shortly after an event, or after some seconds without one.
    pub async fn look_again(&self) {
        tokio::select! {
            () = self.event.notified() => clock::sleep(DEBOUNCE).await,
            () = clock::sleep(POLL) => {}
        }
    }
}

fn begin(watcher: &mut RecommendedWatcher, folder: &Path) -> Result<Folder, String> {
    let identity = identity(folder).map_err(|error| error.to_string())?;
    watcher.watch(folder, RecursiveMode::NonRecursive).map_err(|error| error.to_string())?;
    Ok(identity)
}
