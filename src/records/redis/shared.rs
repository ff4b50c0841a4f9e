//! What the parts of the store share, and how one question goes to the server that has the record.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{Value, cmd};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use super::address::{Address, Target};
use super::connect;
use super::fault::{self, Answer, unsent};
use super::link::{Link, Open};
use super::live::Live;
use super::quota::Quotas;
use super::reply;
use super::script::{Args, BIRTH, Script, key_of, to_hex};
use super::slots::{SLOTS, slot};
use crate::clock;
use crate::policy::idempotency::record::Rid;
use crate::records::{Birth, Cause, Common, Fault, Kind};

/// How many questions may be under way: a few milliseconds of what one server answers. Beyond it
/// the server is not keeping up, and more would only wait.
const QUESTIONS_MAX: usize = 1_024;
/// The most nodes that one question is sent on to, when a record has moved.
const HOPS_MAX: usize = 2;

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) weak: AtomicU64,
    pub(super) contested: AtomicU64,
}

/// Which server has which slots.
pub(super) type Routes = Vec<(u16, u16, Arc<Link>)>;

/// The parts in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) common: Common,
    pub(super) handle: Handle,
    pub(super) prefix: Box<str>,
    pub(super) sentinel: Box<str>,
    pub(super) op_timeout: Duration,
    pub(super) copies: u32,
    pub(super) guards: bool,
    pub(super) live: Live,
    pub(super) quotas: Quotas,
    pub(super) counts: Counts,
    /// Somebody thinks that the servers divide the records in another way by now.
    pub(super) refresh: Notify,
    target: Mutex<Result<Arc<Target>, Cause>>,
    routes: Mutex<Arc<Routes>>,
    birth: Mutex<Option<Birth>>,
    questions: Semaphore,
}

/// One question about one record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) rid: &'a Rid,
    pub(super) script: &'static Script,
    pub(super) args: &'a Args,
    /// Whether it is a new claim, which waits while a failover is mended.
    pub(super) claims: bool,
    /// Whether replicas must have what it writes.
    pub(super) copied: bool,
    pub(super) deadline: Instant,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) value: Value,
    /// Replicas that have it; nothing where it was not asked.
    pub(super) copies: Option<u32>,
}

/// Why a question has no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// The server takes no new records.
    Full(Cause),
    /// Anything else.
    Fault(Fault),
}

impl From<Failed> for Fault {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Full(cause) => Self::NotApplied(cause),
            Failed::Fault(fault) => fault,
        }
    }
}

fn not_applied(cause: Cause) -> Failed {
    Failed::Fault(Fault::NotApplied(cause))
}

fn ambiguous(cause: Cause) -> Failed {
    Failed::Fault(Fault::Ambiguous(cause))
}

impl Shared {
    pub(super) fn new(
        config: &crate::config::store::Redis,
        common: Common,
        handle: &Handle,
    ) -> Arc<Self> {
        let before = Cause::new(Kind::Unreachable, "the store is being opened");
        Arc::new(Self {
            common,
            handle: handle.clone(),
            prefix: config.prefix.as_str().into(),
            sentinel: config.sentinel.as_deref().unwrap_or_default().into(),
            op_timeout: config.op_timeout.get(),
            copies: config.wait_replicas,
            guards: config.failover_guard,
            live: Live::default(),
            quotas: Quotas::default(),
            counts: Counts::default(),
            refresh: Notify::new(),
            target: Mutex::new(Err(before)),
            routes: Mutex::default(),
            birth: Mutex::default(),
            questions: Semaphore::new(QUESTIONS_MAX),
        })
    }

    pub(super) fn target(&self) -> Result<Arc<Target>, Cause> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_target(&self, target: Result<Arc<Target>, Cause>) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    pub(super) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_routes(&self, routes: Routes) {
        *self.routes.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(routes);
    }

    /// Every server once.
    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        let mut links: Vec<Arc<Link>> = Vec::new();
        for (_, _, link) in self.routes().iter() {
            if !links.iter().any(|other| Arc::ptr_eq(other, link)) {
                links.push(Arc::clone(link));
            }
        }
        links
    }

    /// The server that has a slot.
    pub(super) fn link_of(&self, slot: u16) -> Option<Arc<Link>> {
        let routes = self.routes();
        let found = routes.iter().find(|(from, to, _)| (*from..=*to).contains(&slot));
        found.map(|(_, _, link)| Arc::clone(link))
    }

    fn birth_key(&self) -> Vec<u8> {
        format!("{}birth", self.prefix).into_bytes()
    }

    /// Whether this server has the store's own memory.
    pub(super) fn remembers(&self, link: &Link) -> bool {
        let there = self.link_of(slot(&self.birth_key()));
        there.is_some_and(|there| std::ptr::eq(&*there, link))
    }

    /// What is known of the store, once it was asked.
    pub(super) fn birth(&self) -> Option<Birth> {
        *self.birth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the server what the store remembers of itself, and writes it into a new store.
    ///
    /// # Errors
    /// When there is no answer, or the store is for proxies that are set up in another way.
    pub(super) async fn remember(
        self: &Arc<Self>,
        connection: &mut MultiplexedConnection,
    ) -> Result<Birth, Cause> {
        let mut secret = [0; 32];
        SystemRandom::new()
            .fill(&mut secret)
            .map_err(|_| Cause::new(Kind::Io, "the system has no randomness to give"))?;
        let args = vec![to_hex(&secret).into_bytes(), to_hex(&self.common.config).into_bytes()];
        // Its text every time: it is asked rarely, and so a server that forgot it is no matter.
        let command = BIRTH.command(false, &self.birth_key(), &args);
        let value = connect::ask(connection, &command).await?;
        let Some(birth) = reply::birth(&value) else {
            let what = format!("{}birth is not what a store remembers of itself", self.prefix);
            return Err(Cause::new(Kind::Unfit, what));
        };
        if birth.config != self.common.config {
            let what = "other proxies use the same store with other keys or another namespace; \
                        give all the same `fingerprint_key`, or this one another `prefix`";
            return Err(Cause::new(Kind::Unfit, what));
        }
        let before = self.birth.lock().unwrap_or_else(PoisonError::into_inner).replace(birth);
        if before.is_some_and(|before| before.secret != birth.secret) {
            self.guard(None, "the store has lost what it remembered of itself");
        }
        Ok(birth)
    }

    /// Asks, and sends the question on when the record has moved.
    pub(super) async fn ask(self: &Arc<Self>, question: Question<'_>) -> Result<Came, Failed> {
        let deadline = question.deadline.min(clock::now() + self.op_timeout);
        let question = Question { deadline, ..question };
        let Ok(_permit) = self.questions.try_acquire() else {
            let what = "more questions are under way than the server answers";
            return Err(Failed::Fault(unsent(Kind::Busy, what)));
        };
        if deadline <= clock::now() {
            return Err(Failed::Fault(unsent(Kind::Timeout, "the time was over before")));
        }
        let key = key_of(&self.prefix, question.rid);
        let Some(mut link) = self.link_of(slot(&key)) else {
            let cause = self.target().err().unwrap_or_else(|| {
                Cause::new(Kind::Unreachable, "no server is known that has the record")
            });
            return Err(not_applied(cause));
        };
        let mut asking = false;
        for _ in 0..=HOPS_MAX {
            let open = self.open_for(&link, &question)?;
            let came = self.ask_there(&link, &open, &question, &key, asking).await;
            match came {
                Err(Hop::Failed(failed)) => return Err(failed),
                Ok(came) => return Ok(came),
                Err(Hop::Elsewhere { address, ask }) => {
                    self.refresh.notify_one();
                    asking = ask;
                    link = self.node(&address).ok_or_else(|| {
                        let what = format!("the record has moved to {address}, a new node");
                        not_applied(Cause::new(Kind::Unavailable, what))
                    })?;
                }
            }
        }
        Err(Failed::Fault(unsent(Kind::Unavailable, "the record is moving between nodes")))
    }

    /// Asks for the store's own memory, and the server's time with it.
    pub(super) async fn ask_birth(self: Arc<Self>, deadline: Instant) -> Result<Birth, Fault> {
        let Some(link) = self.link_of(slot(&self.birth_key())) else {
            let cause = self
                .target()
                .err()
                .unwrap_or_else(|| Cause::new(Kind::Unreachable, "no server is known yet"));
            return Err(Fault::NotApplied(cause));
        };
        let mut open = link.open().map_err(Fault::NotApplied)?;
        let asked = self.remember(&mut open.connection);
        match clock::until(deadline, asked).await {
            Ok(answer) => answer.map_err(Fault::NotApplied),
            Err(_) => Err(unsent(Kind::Timeout, "no answer came in time")),
        }
    }

    /// A look at the server that has this record: it may have forgotten.
    pub(super) fn suspect(&self, rid: &Rid) {
        if let Some(link) = self.link_of(slot(&key_of(&self.prefix, rid))) {
            link.suspect();
        }
    }

    /// What keeps the store from being ready, if anything.
    pub(super) fn problem(&self) -> Option<Cause> {
        if let Err(cause) = self.target() {
            return Some(cause);
        }
        let routes = self.routes();
        let covered: u32 =
            routes.iter().map(|(from, to, _)| u32::from(to.saturating_sub(*from)) + 1).sum();
        if let Some(cause) = routes.iter().find_map(|(_, _, link)| link.problem()) {
            return Some(cause);
        }
        if covered < u32::from(SLOTS) {
            return Some(Cause::new(Kind::Unavailable, "not all slots of the cluster are served"));
        }
        let opening = || Cause::new(Kind::Unreachable, "the store is being opened");
        self.birth().is_none().then(opening)
    }

    fn node(&self, address: &str) -> Option<Arc<Link>> {
        let address = Address::of_node(address)?;
        self.links().into_iter().find(|link| link.fixed.as_ref() == Some(&address))
    }

    /// The server's connection, where this may be asked now.
    fn open_for(&self, link: &Link, question: &Question<'_>) -> Result<Open, Failed> {
        let open = link.open().map_err(not_applied)?;
        if !question.claims {
            return Ok(open);
        }
        if self.birth().is_none() {
            return Err(Failed::Fault(unsent(Kind::Unreachable, "the store is being opened")));
        }
        if self.guards && open.guarded.is_some_and(|until| clock::now() < until) {
            let what = "the server may have forgotten claims; the proxies put theirs back";
            return Err(Failed::Fault(unsent(Kind::Unavailable, what)));
        }
        Ok(open)
    }

    async fn ask_there(
        self: &Arc<Self>,
        link: &Arc<Link>,
        open: &Open,
        question: &Question<'_>,
        key: &[u8],
        asking: bool,
    ) -> Result<Came, Hop> {
        if question.copied && self.copies > 0 {
            let target = self.target().map_err(|cause| Hop::Failed(not_applied(cause)))?;
            let lent = link.pool.lend(link, open, &target, question.deadline).await;
            let mut lent = lent.map_err(|cause| Hop::Failed(not_applied(cause)))?;
            let came = self.send(link, lent.connection(), question, key, asking).await;
            if !matches!(came, Err(Hop::Failed(Failed::Fault(Fault::Ambiguous(_))))) {
                lent.give_back();
            }
            return came;
        }
        let question = Question { copied: false, ..*question };
        let came = self.send(link, &mut open.connection.clone(), &question, key, asking).await;
        if let Err(Hop::Failed(Failed::Fault(Fault::Ambiguous(cause)))) = &came
            && cause.kind == Kind::ConnectionLost
        {
            link.lose(open.number, cause);
        }
        came
    }

    async fn send(
        &self,
        link: &Link,
        connection: &mut MultiplexedConnection,
        question: &Question<'_>,
        key: &[u8],
        asking: bool,
    ) -> Result<Came, Hop> {
        for known in [true, false] {
            let sent = self.pipeline(connection, question, key, known, asking);
            let Ok((came, copies)) = clock::until(question.deadline, sent).await else {
                link.suspect();
                let cause = Cause::new(Kind::Timeout, "no answer came in time");
                return Err(Hop::Failed(ambiguous(cause)));
            };
            match fault::answer(came) {
                Answer::Is(value) => return Ok(Came { value, copies }),
                // It is told with its text.
                Answer::NoScript => {}
                Answer::Elsewhere { address, ask } => {
                    return Err(Hop::Elsewhere { address, ask });
                }
                Answer::Full(cause) => return Err(Hop::Failed(Failed::Full(cause))),
                Answer::Refused(cause) => {
                    link.suspect();
                    self.refresh.notify_one();
                    return Err(Hop::Failed(not_applied(cause)));
                }
                Answer::Silent(cause) => return Err(Hop::Failed(ambiguous(cause))),
            }
        }
        let cause = Cause::new(Kind::Protocol, "the server does not take scripts");
        Err(Hop::Failed(not_applied(cause)))
    }

    /// The script, with what has to go before and after it on the same connection.
    async fn pipeline(
        &self,
        connection: &mut MultiplexedConnection,
        question: &Question<'_>,
        key: &[u8],
        known: bool,
        asking: bool,
    ) -> (Result<Value, redis::RedisError>, Option<u32>) {
        let command = question.script.command(known, key, question.args);
        if !asking && !question.copied {
            return (connection.send_packed_command(&command).await, None);
        }
        let mut all = redis::pipe();
        if asking {
            all.add_command(cmd("ASKING"));
        }
        all.add_command(command);
        if question.copied {
            let mut wait = cmd("WAIT");
            wait.arg(self.copies).arg(wait_for(question.deadline));
            all.add_command(wait);
        }
        let place = usize::from(asking);
        let count = place + 1 + usize::from(question.copied);
        match connection.send_packed_commands(&all, 0, count).await {
            Err(error) => (Err(error), None),
            Ok(mut values) => {
                let copies = match values.get(place + 1) {
                    Some(Value::Int(copies)) => Some(u32::try_from(*copies).unwrap_or(0)),
                    _ => question.copied.then_some(0),
                };
                let value =
                    if place < values.len() { values.swap_remove(place) } else { Value::Nil };
                (Ok(value), copies)
            }
        }
    }
}

/// Why one server has not answered a question.
enum Hop {
    Failed(Failed),
    Elsewhere { address: Box<str>, ask: bool },
}

/// How long replicas are waited for, in milliseconds: what leaves time to take a claim back.
fn wait_for(deadline: Instant) -> u64 {
    let left = deadline.saturating_duration_since(clock::now()) * 3 / 4;
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// All slots at one server.
pub(super) fn everything(link: &Arc<Link>) -> Routes {
    vec![(0, SLOTS - 1, Arc::clone(link))]
}

/// Adds one to a count.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
