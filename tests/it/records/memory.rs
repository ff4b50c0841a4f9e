//! The contract of the store in memory.

use std::sync::Arc;
use std::time::Duration;

use outrigger::config::store::Memory as Settings;
use outrigger::policy::idempotency::record::Rid;
use outrigger::records::memory::Memory;

use super::contract::{Fixture, Scene, contract, l4_a_fence_that_was_put_back_is_not_given_again};

struct InMemory;

impl Fixture for InMemory {
    type Stage = ();

    async fn scene(&self) -> Scene<()> {
        let store = Arc::new(Memory::open(&Settings::default(), [0; 32]).unwrap());
        Scene { second: Some(Arc::clone(&store) as _), store, stage: () }
    }

    async fn reopened(&self, _: Scene<()>) -> Option<Scene<()>> {
        None
    }

    async fn damaged(&self, _: Scene<()>, _: Rid) -> Option<Scene<()>> {
        None
    }

    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn sequences(&self) -> u32 {
        256
    }
}

contract!(InMemory);

#[tokio::test]
async fn a_fence_that_was_put_back_is_not_given_again() {
    let store = Memory::open(&Settings::default(), [0; 32]).unwrap();
    l4_a_fence_that_was_put_back_is_not_given_again(&store).await;
}
