//! Connections on which one question is asked at a time: `WAIT` blocks its connection, and waits
//! for the writes of that connection alone.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use redis::aio::MultiplexedConnection;
use redis::cmd;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::address::Target;
use super::check::Facts;
use super::connect;
use super::link::{Link, Open, Task};
use crate::clock;
use crate::records::{Cause, Kind};

/// How many there are for each server. A replica's acknowledgement takes about as long as a round
/// trip, so this is some thousand claims a second.
const SIZE: usize = 8;

/// A connection, and what sends and receives on it.
#[derive(Debug)]
struct Pooled {
    connection: MultiplexedConnection,
    /// The link's connection beside which it was opened.
    number: u64,
    /// Ends with it.
    driver: Task,
}

/// The connections of one server.
#[derive(Debug)]
pub(super) struct Pool {
    free: Semaphore,
    idle: Mutex<Vec<Pooled>>,
}

/// A connection in use; closed, unless it is given back.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    pool: &'a Pool,
    pooled: Pooled,
    _permit: SemaphorePermit<'a>,
}

impl Default for Pool {
    fn default() -> Self {
        Self { free: Semaphore::new(SIZE), idle: Mutex::default() }
    }
}

impl Pool {
    /// Closes what is idle.
    pub(super) fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// One to the same server as the link's.
    ///
    /// # Errors
    /// When there is none in time, or when the server behind the address is another one by now.
    pub(super) async fn lend(
        &self,
        link: &Link,
        open: &Open,
        target: &Target,
        deadline: Instant,
    ) -> Result<Lent<'_>, Cause> {
        let late = || Cause::new(Kind::Busy, "all connections that wait for replicas are in use");
        let permit = clock::until(deadline, self.free.acquire()).await.map_err(|_| late())?;
        let permit = permit.map_err(|_| late())?;
        let found = self.take(open.number);
        let pooled = match found {
            Some(pooled) => pooled,
            None => {
                let opened = clock::until(deadline, another(link, open, target)).await;
                opened.map_err(|_| {
                    Cause::new(Kind::Timeout, "no connection could be opened in time")
                })??
            }
        };
        Ok(Lent { pool: self, pooled, _permit: permit })
    }

    fn take(&self, number: u64) -> Option<Pooled> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|pooled| pooled.number == number && !pooled.driver.is_over());
        idle.pop()
    }
}

/// Opens one, and makes sure that the same server answers as on the link.
async fn another(link: &Link, open: &Open, target: &Target) -> Result<Pooled, Cause> {
    let (mut connection, driver) = connect::open(&open.address, target, &target.login).await?;
    let driver = Task::new(tokio::task::spawn(driver));
    let told = connect::ask(&mut connection, &cmd("INFO")).await?;
    let facts = Facts::of(&told).unwrap_or_default();
    facts.judge(target.layout)?;
    if facts.replication != open.facts.replication {
        link.suspect();
        let what = "the server has another history than the connection before";
        return Err(Cause::new(Kind::Unavailable, what));
    }
    Ok(Pooled { connection, number: open.number, driver })
}

impl Lent<'_> {
    pub(super) const fn connection(&mut self) -> &mut MultiplexedConnection {
        &mut self.pooled.connection
    }

    /// It can be used again: every question on it was answered.
    pub(super) fn give_back(self) {
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.pooled);
    }
}
