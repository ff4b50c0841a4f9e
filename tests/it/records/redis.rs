//! The store in Redis: the contract, and what happens when servers and connections fail. Every
//! server here is a real one.

mod failover;
mod faults;
mod fitness;
mod servers;

use std::sync::Arc;
use std::time::Duration;

use outrigger::config::store::Redis as Settings;
use outrigger::policy::idempotency::record::Rid;
use outrigger::records::codec::Seal;
use outrigger::records::redis::Redis;
use outrigger::records::{Common, Store};
use tokio::runtime::Handle;

use super::contract::{Fixture, Scene, contract};
use crate::support::eventually;
pub(crate) use servers::Server;

/// Settings for this address, and more of them as JSON.
fn settings(url: &str, more: &str) -> Settings {
    let mut all: serde_json::Value = serde_json::from_str(more).unwrap();
    all["url"] = url.into();
    if all.get("op_timeout").is_none() {
        // A busy machine is no fault.
        all["op_timeout"] = "20s".into();
    }
    serde_json::from_value(all).unwrap()
}

fn common() -> Common {
    let seal = Seal::new(Some(&[3; 32]));
    Common { name: "records".into(), seal, config: [1; 32], instance: [2; 16] }
}

/// A store that may not be ready yet.
fn opened(url: &str, more: &str) -> Arc<Redis> {
    Redis::start(&settings(url, more), common(), &Handle::current())
}

/// A store that is ready.
async fn ready(url: &str, more: &str) -> Arc<Redis> {
    let store = opened(url, more);
    is_ready(&store).await;
    store
}

#[track_caller]
fn is_ready(store: &Arc<Redis>) -> impl Future<Output = ()> {
    let store = Arc::clone(store);
    eventually("the store is ready", move || store.health().ready)
}

struct OneServer;

impl Fixture for OneServer {
    type Stage = Server;

    async fn scene(&self) -> Scene<Server> {
        let stage = Server::start(&[]).await;
        let store = ready(&stage.url(), "{}").await;
        let second = ready(&stage.url(), "{}").await;
        Scene { store, second: Some(second), stage }
    }

    async fn reopened(&self, scene: Scene<Server>) -> Option<Scene<Server>> {
        let Scene { store, second, stage } = scene;
        drop((store, second));
        let store = ready(&stage.url(), "{}").await;
        Some(Scene { store, second: None, stage })
    }

    async fn damaged(&self, scene: Scene<Server>, rid: Rid) -> Option<Scene<Server>> {
        let _: () = scene.stage.run(&format!("HSET outrigger:r:{rid} r soon"));
        Some(scene)
    }

    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn sequences(&self) -> u32 {
        48
    }
}

contract!(OneServer);
