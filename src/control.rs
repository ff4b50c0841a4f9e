//! The control runtime: the operator's listener, names, health checks and the file watch. It has a
//! thread of its own, so that nothing here can delay a request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::admin;
use crate::clock;
use crate::protect::{self, Queue};
use crate::proxy::idempotency::probe;
use crate::proxy::{Live, Proxy};
use crate::server::accept::Socketed;
use crate::upstream::resolve::Resolver;
use crate::upstream::{Upstream, keeper};
use crate::watch::{self, Fingerprint, Folders};

/// How long an answer may be kept beyond its time. A look at the 30,000 answers that fit in 16 MiB
/// takes about a millisecond.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// What the control runtime works on.
pub struct Parts {
    /// The data path's shared part.
    pub proxy: Arc<Proxy>,
    /// The name server.
    pub resolver: Arc<Resolver>,
    /// The operator's socket.
    pub admin: Socketed,
    /// The listeners' accept queues.
    pub queues: Vec<Queue>,
    /// What of the configuration's file was read at the start.
    pub known: Option<Fingerprint>,
}

/// Runs until told to end. Tells `answered` when every upstream's names have been asked for once.
pub fn run(parts: Parts, answered: Sender<()>, ended: oneshot::Receiver<()>) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "no event queue for the control runtime"),
    };
    runtime.block_on(async {
        let Parts { proxy, resolver, admin, queues, known } = parts;
        tokio::spawn(keep_upstreams(Arc::clone(&proxy), resolver));
        tokio::spawn(first_answers(proxy.follow().borrow().clone(), answered));
        tokio::spawn(protect::watch(Arc::clone(&proxy), queues));
        tokio::spawn(probe::run(Arc::clone(&proxy)));
        tokio::spawn(admin::serve(admin, Arc::clone(&proxy)));
        tokio::spawn(expire_answers(Arc::clone(&proxy)));
        if proxy.live().snapshot.config.reload.watch {
            tokio::spawn(watch_file(Arc::clone(&proxy), known));
            tokio::spawn(watch_tls(Arc::clone(&proxy)));
        }
        // Either way it is over: the sender is dropped, not used.
        let _ = ended.await;
    });
}

async fn first_answers(live: Arc<Live>, answered: Sender<()>) {
    for upstream in live.snapshot.upstreams.values() {
        upstream.answered().await;
    }
    // Nobody listens any more when this took too long.
    let _ = answered.send(());
}

/// An upstream that is kept for as long as this lives.
struct Kept {
    upstream: Arc<Upstream>,
    task: JoinHandle<()>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Keeps every upstream of the configuration in force, and starts anew those that changed.
async fn keep_upstreams(proxy: Arc<Proxy>, resolver: Arc<Resolver>) {
    let mut follow = proxy.follow();
    let mut kept: BTreeMap<String, Kept> = BTreeMap::new();
    loop {
        let live = follow.borrow_and_update().clone();
        let upstreams = &live.snapshot.upstreams;
        kept.retain(|name, kept| {
            upstreams.get(name).is_some_and(|new| Arc::ptr_eq(new, &kept.upstream))
        });
        for (name, upstream) in upstreams {
            kept.entry(name.clone()).or_insert_with(|| {
                let keep = keeper::keep(
                    Arc::clone(upstream),
                    Arc::clone(&resolver),
                    Arc::clone(&proxy.metrics),
                );
                Kept { upstream: Arc::clone(upstream), task: tokio::spawn(keep) }
            });
        }
        drop(live);
        if follow.changed().await.is_err() {
            return;
        }
    }
}

/// Keeps the files of TLS of the configuration in force.
async fn watch_tls(proxy: Arc<Proxy>) {
    let mut follow = proxy.follow();
    let mut folders = Folders::default();
    loop {
        let live = follow.borrow_and_update().clone();
        let proxy = Arc::clone(&proxy);
        let look = tokio::task::spawn_blocking(move || {
            folders.watch(&live.snapshot.tls_folders());
            live.snapshot.refresh_tls(&proxy.metrics);
            folders
        });
        // The only ways to fail are a panic in there and the end of the runtime.
        folders = look.await.unwrap_or_default();
        tokio::select! {
            () = folders.look_again() => {}
            changed = follow.changed() => if changed.is_err() { return },
        }
    }
}

/// Forgets kept answers whose time is over, so that a route that is asked for nothing any more does
/// not hold on to their memory.
async fn expire_answers(proxy: Arc<Proxy>) {
    loop {
        clock::sleep(EXPIRE_EVERY).await;
        let live = proxy.live();
        let now = clock::now();
        for route in &live.snapshot.routes {
            if let (Some(cache), Some(settings)) = (&route.cache, &route.settings.cache) {
                cache.expire(settings, now);
            }
        }
    }
}

async fn watch_file(proxy: Arc<Proxy>, known: Option<Fingerprint>) {
    let Some(file) = proxy.file.clone() else { return };
    let on_change = move |_| {
        // What is wrong with the file has been logged and counted by the reload itself.
        let _ = proxy.reload_from_file();
    };
    watch::watch(file, known, on_change).await;
}
