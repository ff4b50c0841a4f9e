//! One server: its connection, opened in the background and again after each loss, and what is
//! known of the server.
//!
//! Before the first question goes over a new connection, the server has said that it is the primary
//! and that it never evicts; it says so again every [`LOOK`]. While there is no such connection,
//! every question is refused at once and was not sent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::cmd;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::address::{Address, Layout};
use super::check::Facts;
use super::connect::{self, Driver};
use super::guard::GUARD;
use super::pool::Pool;
use super::shared::Shared;
use crate::clock;
use crate::records::{Cause, Kind};

/// How often a server says again what it is.
pub(super) const LOOK: Duration = Duration::from_secs(5);
/// The least time between two looks, however many ask for one.
const LOOK_LEAST: Duration = Duration::from_millis(50);
/// The wait after a failed attempt to connect: at first, and at most. A server that comes back is
/// noticed well within a second.
const WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// The wait while a server says that it is unfit, unless somebody asks for another look.
const WAIT_UNFIT: Duration = Duration::from_secs(2);

/// An open connection.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) connection: MultiplexedConnection,
    /// Where it goes to, for connections beside it.
    pub(super) address: Address,
    pub(super) facts: Facts,
    /// Counts the connections of this link.
    pub(super) number: u64,
    /// Until then new claims are refused: others are putting back what the server forgot.
    pub(super) guarded: Option<Instant>,
}

/// One server.
#[derive(Debug)]
pub(super) struct Link {
    /// Its address; nothing where sentinels know it.
    pub(super) fixed: Option<Address>,
    /// Whether it was there when the store was opened, so that nothing can have been lost.
    original: bool,
    standing: Mutex<Result<Open, Cause>>,
    /// Names the history that the server had when it was seen last.
    history: Mutex<Option<Box<str>>>,
    /// Whether it has evicted keys since the look before.
    evicts: Mutex<bool>,
    look: Notify,
    pub(super) pool: Pool,
}

/// A task that ends with its holder.
#[derive(Debug)]
pub(super) struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Task {
    pub(super) const fn new(handle: JoinHandle<()>) -> Self {
        Self(handle)
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_finished()
    }
}

impl Link {
    pub(super) fn new(fixed: Option<Address>, original: bool) -> Arc<Self> {
        let before = Cause::new(Kind::Unreachable, "the first connection is being opened");
        Arc::new(Self {
            fixed,
            original,
            standing: Mutex::new(Err(before)),
            history: Mutex::default(),
            evicts: Mutex::default(),
            look: Notify::new(),
            pool: Pool::default(),
        })
    }

    /// The connection.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn open(&self) -> Result<Open, Cause> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is wrong with it, if anything.
    pub(super) fn problem(&self) -> Option<Cause> {
        if let Err(cause) = &*self.standing.lock().unwrap_or_else(PoisonError::into_inner) {
            return Some(cause.clone());
        }
        let evicts = *self.evicts.lock().unwrap_or_else(PoisonError::into_inner);
        evicts.then(|| {
            let what = "the server evicts keys, and may forget that an operation was executed; \
                        set maxmemory-policy to noeviction, for good";
            Cause::new(Kind::Unfit, what)
        })
    }

    /// Asks for a look at the server now: something that it said, or did not say, is suspicious.
    pub(super) fn suspect(&self) {
        self.look.notify_one();
    }

    /// A question has met the end of this connection: no other is sent to it, although its keeper
    /// has not seen it yet.
    pub(super) fn lose(&self, number: u64, cause: &Cause) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.as_ref().is_ok_and(|open| open.number == number) {
            *standing = Err(Cause::new(Kind::Unreachable, &cause.detail));
        }
    }

    /// Refuses new claims until then.
    pub(super) fn guard(&self, until: Instant) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(open) = &mut *standing {
            open.guarded = Some(until);
        }
    }

    /// Keeps a connection open for as long as it is polled.
    pub(super) async fn keep(self: Arc<Self>, shared: Arc<Shared>) {
        let mut wait = WAIT.0;
        let mut number = 0;
        loop {
            number += 1;
            let cause = match self.establish(&shared, number).await {
                Ok((open, driver)) => {
                    wait = WAIT.0;
                    let driver = Task::new(tokio::task::spawn(driver));
                    tracing::info!(store = %shared.common.name, server = %open.address,
                        "connected to the record store");
                    self.hold(&shared, open, driver).await
                }
                Err(cause) => cause,
            };
            let unfit = cause.kind == Kind::Unfit;
            self.down(&shared, cause);
            shared.refresh.notify_one();
            let sleep = clock::sleep(if unfit { WAIT_UNFIT } else { wait });
            tokio::select! {
                () = sleep => {}
                // Whoever suspects something while there is no connection knows nothing new,
                // unless the server was unfit.
                () = self.look.notified(), if unfit => {}
            }
            wait = (wait * 2).min(WAIT.1);
        }
    }

    fn down(&self, shared: &Shared, cause: Cause) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let new = standing.as_ref().map_or_else(|before| before.kind != cause.kind, |_| true);
        if new {
            tracing::warn!(store = %shared.common.name, kind = cause.kind.name(),
                cause = %cause.detail, "the record store cannot be used");
        }
        *standing = Err(cause);
        drop(standing);
        self.pool.clear();
    }

    async fn establish(&self, shared: &Arc<Shared>, number: u64) -> Result<(Open, Driver), Cause> {
        let target = shared.target()?;
        let address = match &self.fixed {
            Some(address) => address.clone(),
            None => connect::primary(&target, &shared.sentinel).await?,
        };
        let (mut connection, driver) = connect::open(&address, &target, &target.login).await?;
        let looking = self.ask(shared, &mut connection, target.layout);
        let mut driver = driver;
        let facts = tokio::select! {
            facts = looking => facts?,
            () = &mut driver => {
                let what = format!("{address} ended a new connection");
                return Err(Cause::new(Kind::Unreachable, what));
            }
        };
        Ok((Open { connection, address, facts, number, guarded: None }, driver))
    }

    /// Asks the server what it is, and the store's own memory where this server has it.
    async fn ask(
        &self,
        shared: &Arc<Shared>,
        connection: &mut MultiplexedConnection,
        layout: Layout,
    ) -> Result<Facts, Cause> {
        let told = connect::ask(connection, &cmd("INFO")).await?;
        let facts = Facts::of(&told)
            .ok_or_else(|| Cause::new(Kind::Protocol, "the answer to INFO makes no sense"))?;
        facts.judge(layout)?;
        if shared.remembers(self) {
            shared.remember(connection).await?;
        }
        Ok(facts)
    }

    /// Holds an open connection until it is lost or the server is not fit any more; says which.
    async fn hold(&self, shared: &Arc<Shared>, open: Open, driver: Task) -> Cause {
        let layout = match shared.target() {
            Ok(target) => target.layout,
            Err(cause) => return cause,
        };
        let (mut open, mut driver) = (open, driver);
        let mut connection = open.connection.clone();
        let mut evicted = open.facts.evicted;
        let forgot = self.has_new_history(&open.facts);
        if forgot {
            // Before anybody can see it, so that no claim slips through.
            open.guarded = Some(clock::now() + GUARD);
        }
        *self.evicts.lock().unwrap_or_else(PoisonError::into_inner) = false;
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = Ok(open);
        shared.bound_quotas();
        if forgot {
            shared.guard(Some(self), "the server has another history than before");
        }
        shared.refresh.notify_one();
        let mut looked = clock::now();
        loop {
            tokio::select! {
                _ = &mut driver.0 => {
                    return Cause::new(Kind::Unreachable, "the server ended the connection");
                }
                () = self.another_look(looked) => {}
            }
            looked = clock::now();
            let facts = match self.ask(shared, &mut connection, layout).await {
                Ok(facts) => facts,
                Err(cause) => return cause,
            };
            *self.evicts.lock().unwrap_or_else(PoisonError::into_inner) = facts.evicted > evicted;
            evicted = facts.evicted;
            let forgot = self.has_new_history(&facts);
            if let Ok(open) = &mut *self.standing.lock().unwrap_or_else(PoisonError::into_inner) {
                open.facts = facts;
            }
            shared.bound_quotas();
            if forgot {
                shared.guard(Some(self), "the server has another history than before");
            }
        }
    }

    /// Waits until it is time for another look, or somebody asks for one.
    async fn another_look(&self, last: Instant) {
        tokio::select! {
            () = clock::sleep_until(last + LOOK) => {}
            () = self.look.notified() => clock::sleep_until(last + LOOK_LEAST).await,
        }
    }

    /// Whether the server may have forgotten something since it was seen last.
    fn has_new_history(&self, facts: &Facts) -> bool {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let new = match &*history {
            Some(before) => **before != *facts.replication,
            None => !self.original,
        };
        *history = Some(facts.replication.clone());
        new
    }
}
