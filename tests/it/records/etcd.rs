//! The store in etcd, against real members of it.

mod connections;
mod failover;
pub(crate) mod gateway;
mod limits;
pub(crate) mod members;
mod partition;
pub(crate) mod relay;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use outrigger::clock;
use outrigger::config::store::Etcd as Settings;
use outrigger::policy::idempotency::record::Rid;
use outrigger::records::codec::Seal;
use outrigger::records::etcd::Etcd;
use outrigger::records::{Common, Store};
use outrigger::units::Period;

use self::members::Members;
use super::contract::{self, Fixture, Scene};
use crate::support::within;

/// One cluster for all tests that do it no harm; each has a prefix of its own.
static SHARED: LazyLock<Members> = LazyLock::new(Members::start);
static PREFIXES: AtomicU64 = AtomicU64::new(1);

/// A prefix that no other test has.
pub(crate) fn prefix() -> String {
    format!("t{}:", PREFIXES.fetch_add(1, Ordering::Relaxed))
}

/// What a store of these members is opened with; patient, as the machine may be busy.
pub(crate) fn settings(members: &[std::net::SocketAddr], prefix: &str) -> Settings {
    Settings {
        endpoints: members.iter().map(|member| format!("http://{member}")).collect(),
        ca: None,
        op_timeout: Period::from_secs(20),
        prefix: prefix.to_owned(),
        spool: None,
    }
}

pub(crate) fn common() -> Common {
    Common {
        name: "claims".into(),
        seal: Seal::new(Some(&[5; 32])),
        config: [1; 32],
        instance: [9; 16],
    }
}

/// A store that is open.
pub(crate) async fn open(settings: &Settings) -> Arc<Etcd> {
    let store = Etcd::start(settings, common(), &tokio::runtime::Handle::current());
    ready(&*store).await;
    store
}

pub(crate) async fn ready(store: &dyn Store) {
    within("the store", async {
        while !store.health().ready {
            clock::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

struct InEtcd;

impl Fixture for InEtcd {
    type Stage = Settings;

    async fn scene(&self) -> Scene<Settings> {
        let settings = settings(&SHARED.clients(), &prefix());
        let (store, second) = (open(&settings).await, open(&settings).await);
        Scene { store, second: Some(second), stage: settings }
    }

    async fn reopened(&self, scene: Scene<Settings>) -> Option<Scene<Settings>> {
        let Scene { store, second, stage: settings } = scene;
        drop((store, second));
        let (store, second) = (open(&settings).await, open(&settings).await);
        Some(Scene { store, second: Some(second), stage: settings })
    }

    async fn damaged(&self, scene: Scene<Settings>, rid: Rid) -> Option<Scene<Settings>> {
        let key = format!("{}r/{rid}", scene.stage.prefix);
        let member = SHARED.clients()[0];
        let mut value = gateway::get(member, &key).await.unwrap();
        let middle = value.len() / 2;
        value[middle] ^= 1;
        gateway::put(member, &key, &value).await;
        Some(scene)
    }

    fn resolution(&self) -> Duration {
        Duration::from_millis(20)
    }

    /// A lease has whole seconds, two at least, a slot besides, and ends when its time is looked
    /// at; and the machine may be busy.
    fn slack(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn sequences(&self) -> u32 {
        24
    }
}

contract::contract! { InEtcd }
