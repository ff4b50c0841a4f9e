//! Hints that a record may have changed: one stream of watches for all who wait.
//!
//! A watch begins at the newest revision that this proxy has seen when it is asked for: who asks,
//! and then looks, misses nothing in between. The end of a lease is no write of the record, so
//! whoever waits is also told after a while, and looks again.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use prost::Message;
use tokio::sync::{mpsc, oneshot};

use super::cluster::Cluster;
use super::grpc::{framed, take_message};
use super::wire::{
    WATCH, WatchCancelRequest, WatchCreateRequest, WatchRequest, WatchResponse, Watching,
};
use crate::clock;
use crate::policy::idempotency::record::Rid;

/// The most records that are watched at a time; who waits for another one looks now and then.
const WATCHED_MAX: usize = 1_024;
/// Requests on their way to the task that watches.
const QUEUE: usize = 256;
/// Messages on their way to the server: all watches, and as many ends of watches.
const MESSAGES: usize = 2 * WATCHED_MAX;
/// Who waits is told after so long in any case.
const LOOK: Duration = Duration::from_secs(1);
/// The same where there is no watch; some wait up to half as long again, so that they do not all
/// look at once.
const POLL: Duration = Duration::from_millis(200);
/// The wait before another stream is opened.
const REOPEN: Duration = Duration::from_millis(250);
/// A message larger than this comes from no watch of ours: records are small without their bodies.
const MESSAGE_MAX: usize = 16 << 20;

/// Asks for hints.
#[derive(Clone)]
pub(crate) struct Watches(mpsc::Sender<Wanted>);

/// A record that somebody waits for.
struct Wanted {
    key: Vec<u8>,
    from: i64,
    tell: oneshot::Sender<()>,
}

impl Watches {
    /// The asking side, and the task that watches.
    pub(crate) fn new(cluster: Arc<Cluster>) -> (Self, impl Future<Output = ()>) {
        let (ask, wanted) = mpsc::channel(QUEUE);
        (Self(ask), Watcher { cluster, wanted, watched: HashMap::new(), next: 1 }.run())
    }

    /// Ready when the record under this key may have changed since this revision.
    pub(crate) fn changed(
        &self,
        rid: &Rid,
        key: Vec<u8>,
        seen: i64,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (tell, told) = oneshot::channel();
        let spread = Duration::from_millis(u64::from(rid.0[0]) * 100 / 256);
        let poll = POLL + spread;
        if self.0.try_send(Wanted { key, from: seen.saturating_add(1), tell }).is_err() {
            return Box::pin(clock::sleep(poll));
        }
        Box::pin(async move {
            let timer = clock::sleep(LOOK + spread);
            tokio::pin!(timer);
            tokio::select! {
                told = told => if told.is_err() {
                    // There is no watch for it.
                    clock::sleep(poll).await;
                },
                () = &mut timer => {}
            }
        })
    }
}

/// One watch, and who waits for it.
struct Watched {
    key: Vec<u8>,
    from: i64,
    waiting: Vec<oneshot::Sender<()>>,
}

struct Watcher {
    cluster: Arc<Cluster>,
    wanted: mpsc::Receiver<Wanted>,
    watched: HashMap<i64, Watched>,
    next: i64,
}

/// Why a stream is left.
enum Left {
    /// It has ended.
    Stream,
    /// The store is gone.
    Store,
}

impl Watcher {
    async fn run(mut self) {
        loop {
            // A stream is opened for somebody only.
            if self.watched.is_empty() {
                let Some(wanted) = self.wanted.recv().await else { return };
                self.add(wanted);
            }
            if let Some(mut channel) = self.cluster.channel() {
                let (send, receive) = mpsc::channel(MESSAGES);
                // The server answers once it is asked for something.
                for create in self.watched.keys().filter_map(|id| self.create(*id)) {
                    let _ = send.try_send(create);
                }
                let body = Feed(receive).boxed();
                if let Ok(Ok(stream)) =
                    clock::until(clock::now() + LOOK, channel.open(WATCH, body)).await
                    && matches!(self.serve(stream, send).await, Left::Store)
                {
                    return;
                }
            }
            self.sweep();
            clock::sleep(REOPEN).await;
        }
    }

    /// The number of the watch, if it is a new one.
    fn add(&mut self, wanted: Wanted) -> Option<i64> {
        let same = self.watched.values_mut().find(|watched| watched.key == wanted.key);
        if let Some(watched) = same {
            if watched.from <= wanted.from {
                watched.waiting.push(wanted.tell);
            }
            // A watch that began later may have missed what this one asks for: then look.
            return None;
        }
        if self.watched.len() >= WATCHED_MAX {
            return None;
        }
        let id = self.next;
        self.next += 1;
        let Wanted { key, from, tell } = wanted;
        self.watched.insert(id, Watched { key, from, waiting: vec![tell] });
        Some(id)
    }

    fn create(&self, id: i64) -> Option<Bytes> {
        let watched = self.watched.get(&id)?;
        let create = WatchCreateRequest {
            key: watched.key.clone(),
            start_revision: watched.from,
            watch_id: id,
        };
        Some(framed(&WatchRequest { request: Some(Watching::Create(create)) }))
    }

    async fn serve(&mut self, mut stream: Incoming, send: mpsc::Sender<Bytes>) -> Left {
        let mut bytes = BytesMut::new();
        loop {
            tokio::select! {
                wanted = self.wanted.recv() => {
                    let Some(wanted) = wanted else { return Left::Store };
                    let create = self.add(wanted).and_then(|id| self.create(id));
                    if create.is_some_and(|create| send.try_send(create).is_err()) {
                        return Left::Stream;
                    }
                }
                frame = stream.frame() => {
                    let Some(Ok(frame)) = frame else { return Left::Stream };
                    let Ok(data) = frame.into_data() else { return Left::Stream };
                    bytes.extend_from_slice(&data);
                    if bytes.len() > MESSAGE_MAX || !self.take(&mut bytes, &send) {
                        return Left::Stream;
                    }
                }
                () = clock::sleep(LOOK) => {}
            }
            for id in self.sweep() {
                let cancel = Watching::Cancel(WatchCancelRequest { watch_id: id });
                // A watch that is not cancelled tells nobody.
                let _ = send.try_send(framed(&WatchRequest { request: Some(cancel) }));
            }
        }
    }

    /// Tells whom the whole messages concern; false when one is none.
    fn take(&mut self, bytes: &mut BytesMut, send: &mpsc::Sender<Bytes>) -> bool {
        while let Some(message) = take_message(bytes) {
            let Ok(message) = WatchResponse::decode(message) else { return false };
            if message.created && !message.canceled {
                continue;
            }
            // Something has changed, or the watch cannot go on (its beginning is compacted): look.
            let Some(watched) = self.watched.remove(&message.watch_id) else { continue };
            for waiting in watched.waiting {
                // It may have gone.
                let _ = waiting.send(());
            }
            if !message.canceled {
                let cancel = WatchCancelRequest { watch_id: message.watch_id };
                let cancel = WatchRequest { request: Some(Watching::Cancel(cancel)) };
                let _ = send.try_send(framed(&cancel));
            }
        }
        true
    }

    /// Forgets those who wait no more, and says which watches are over by that.
    fn sweep(&mut self) -> Vec<i64> {
        let mut over = Vec::new();
        self.watched.retain(|id, watched| {
            watched.waiting.retain(|waiting| !waiting.is_closed());
            if watched.waiting.is_empty() {
                over.push(*id);
            }
            !watched.waiting.is_empty()
        });
        over
    }
}

/// The messages that go to the server.
struct Feed(mpsc::Receiver<Bytes>);

impl Body for Feed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
