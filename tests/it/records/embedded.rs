//! The contract of the store in a file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use outrigger::clock;
use outrigger::config::store::Embedded as Settings;
use outrigger::policy::idempotency::record::Rid;
use outrigger::records::embedded::Embedded;
use outrigger::records::{Common, Store, codec};
use outrigger::units::ByteSize;
use redb::ReadableTable;
use tempfile::TempDir;

use super::contract::{Fixture, Scene, contract, l4_a_fence_that_was_put_back_is_not_given_again};
use crate::support::{eventually, within};

/// Records by name, as the store's file has them.
const RECORDS: redb::TableDefinition<'_, &[u8; 32], &[u8]> = redb::TableDefinition::new("records");

struct InFile {
    paranoid: bool,
}

struct Stage {
    folder: TempDir,
    store: Arc<Embedded>,
}

pub(super) fn common() -> Common {
    Common {
        name: "test".into(),
        seal: codec::Seal::new(Some(&[5; 32])),
        config: [1; 32],
        instance: [2; 16],
    }
}

pub(super) fn settings(folder: &Path) -> Settings {
    let path = folder.join("records.redb");
    Settings { path, max_bytes: ByteSize::kib(64 << 10), paranoid: false }
}

/// The store in this folder, once it is open.
pub(super) async fn opened(settings: &Settings) -> Arc<Embedded> {
    let store = Arc::new(Embedded::open(settings, common()).unwrap());
    eventually("the file is open", || store.health().ready).await;
    store
}

impl InFile {
    async fn open(&self, folder: TempDir) -> Scene<Stage> {
        let settings = Settings { paranoid: self.paranoid, ..settings(folder.path()) };
        let store = opened(&settings).await;
        let second: Arc<dyn Store> = Arc::clone(&store) as _;
        Scene {
            second: Some(second),
            store: Arc::clone(&store) as _,
            stage: Stage { folder, store },
        }
    }

    async fn close(scene: Scene<Stage>) -> TempDir {
        within("the file is closed", scene.stage.store.close()).await;
        scene.stage.folder
    }
}

impl Fixture for InFile {
    type Stage = Stage;

    async fn scene(&self) -> Scene<Stage> {
        self.open(tempfile::tempdir().unwrap()).await
    }

    async fn reopened(&self, scene: Scene<Stage>) -> Option<Scene<Stage>> {
        Some(self.open(Self::close(scene).await).await)
    }

    async fn damaged(&self, scene: Scene<Stage>, rid: Rid) -> Option<Scene<Stage>> {
        let folder = Self::close(scene).await;
        let file = redb::Database::open(settings(folder.path()).path).unwrap();
        let transaction = file.begin_write().unwrap();
        let mut records = transaction.open_table(RECORDS).unwrap();
        let mut bytes = records.get(&rid.0).unwrap().unwrap().value().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        records.insert(&rid.0, bytes.as_slice()).unwrap();
        drop(records);
        transaction.commit().unwrap();
        drop(file);
        Some(self.open(folder).await)
    }

    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn sequences(&self) -> u32 {
        32
    }
}

contract!(InFile { paranoid: false });

#[tokio::test]
async fn a_fence_that_was_put_back_is_not_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&settings(folder.path())).await;
    l4_a_fence_that_was_put_back_is_not_given_again(&*store).await;
}

mod paranoid {
    use super::*;

    contract! { InFile { paranoid: true } =>
        l1_one_of_many_claims_wins
        l7_done_is_durable
    }
}

#[tokio::test]
async fn a_second_process_waits_until_the_first_has_closed() {
    let folder = tempfile::tempdir().unwrap();
    let first = opened(&settings(folder.path())).await;
    let second = Embedded::open(&settings(folder.path()), common()).unwrap();
    let waits = || second.health().problem.is_some_and(|problem| problem.contains("in use"));
    eventually("the second one waits", waits).await;
    let deadline = clock::now() + Duration::from_secs(60);
    let refused = second.birth(deadline).await.unwrap_err();
    assert_eq!(refused.cause().kind, outrigger::records::Kind::Unreachable);
    within("the first one closes", first.close()).await;
    eventually("the second one is open", || second.health().ready).await;
    assert_eq!(second.epoch(), first.epoch() + 1);
    assert!(!first.health().ready);
}
