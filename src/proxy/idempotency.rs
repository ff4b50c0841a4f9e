//! Requests under an Idempotency-Key: from the key to the record, and from the record to the
//! answer.
//!
//! [`forward`] is the way of such a request, straight down. What comes before anything is taken or
//! sent: the key, its principal, the body and its fingerprint ([`asked`]), and what the store knows
//! of them. A request that was made before is answered here, holding no place, whatever state the
//! upstream is in. Then come its places, then the claim, durable before the first byte is sent, and
//! only then the attempts ([`dispatch`]), which go on when the client has gone. Its place under the
//! upstream's limit is given up for the time of the claim: it stands for work of the upstream, and
//! a store that is slow must not look like an upstream that is full.
//!
//! Not here: what becomes of a record ([`crate::policy::idempotency::machine`]), and what the end
//! of an exchange proves ([`crate::policy::idempotency::outcome`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Response;

use self::asked::Asked;
use super::admission::{self, Held, Look};
use super::attempt::Tried;
use super::body::Body;
use super::context::Context;
use super::error::Refusal;
use super::pipeline::{self, Journey};
use crate::clock;
use crate::failpoint;
use crate::policy::idempotency::horizon::{self, Standing};
use crate::policy::idempotency::machine::{Claim, Claimed, Found, Unknowns};
use crate::policy::idempotency::outcome::{self, Action, Again, End};
use crate::policy::idempotency::problem::Code;
use crate::policy::idempotency::record::{Doubt, Nonce};
use crate::policy::idempotency::response::{Bypassed, Status};
use crate::policy::idempotency::settings::{OnConcurrent, OnStoreError, Role, Settings, Unknown};
use crate::records::ledger::{Lease, Ledger, Work, WorkTerms};
use crate::records::{Fault, Kind};
use crate::snapshot::keys::Keys;
use crate::snapshot::route::Route;
use crate::telemetry::reason::Reason;

mod asked;
mod dispatch;
mod evidence;
mod originate;
pub mod probe;
mod refuse;
mod replay;

pub use originate::mark;
pub use refuse::Problem;

/// What the key of a request that is sent makes of it.
pub struct Keyed {
    /// Until when an attempt is waited for, where that is longer than the client waits.
    pub patience: Option<Instant>,
    keys: Arc<Keys>,
    /// The lease that it is sent under, if it is.
    lease: Option<Arc<Lease>>,
    /// Why it may have been executed by an attempt before the last one.
    in_doubt: Option<Doubt>,
    /// How the last attempt ended; nothing when none was made since the last wait.
    end: Option<End>,
}

impl Keyed {
    /// Nothing was sent yet by this claim.
    #[must_use]
    pub const fn new(keys: Arc<Keys>, patience: Option<Instant>, in_doubt: Option<Doubt>) -> Self {
        Self { patience, keys, lease: None, in_doubt, end: None }
    }

    /// Sent under a lease, which is asked right before each sending.
    #[must_use]
    pub fn under(mut self, lease: Option<Arc<Lease>>) -> Self {
        self.lease = lease;
        self
    }

    /// Whether bytes may be sent now.
    #[must_use]
    pub fn may_send(&self, now: Instant) -> bool {
        self.lease.as_ref().is_none_or(|lease| lease.holds(now))
    }

    /// Learns how an attempt ended, and says whether it may be sent again in spite of its method.
    pub fn judge(&mut self, ctx: &Context, tried: &Tried) -> bool {
        if self.keys.settings.role == Role::Originate {
            return originate::judge(&self.keys, tried);
        }
        let end = evidence::of_attempt(&self.keys, ctx.grpc, tried);
        let verdict = outcome::decide(&self.keys.settings, &end, self.in_doubt);
        self.end = Some(end);
        verdict.again != Again::No
    }

    /// It will be sent again: what was open stays open.
    pub fn goes_again(&mut self) {
        self.in_doubt = self.in_doubt.or_else(|| self.doubt());
        self.end = None;
    }

    fn doubt(&self) -> Option<Doubt> {
        match outcome::decide(&self.keys.settings, self.end.as_ref()?, None).action {
            Action::Doubt(doubt) | Action::Retryable(doubt) => Some(doubt),
            _ => None,
        }
    }

    /// How it ended that no answer came, and why it may have been executed before.
    fn failed(&self) -> (End, Option<Doubt>) {
        (self.end.unwrap_or(End::NotSent), self.in_doubt)
    }

    /// Why it may have been executed by another attempt than the one whose answer is delivered:
    /// that is the last one's, or an earlier one's if the last one brought none.
    fn earlier(&self) -> Option<Doubt> {
        match self.end {
            Some(End::Answered(_)) | None => self.in_doubt,
            Some(_) => self.in_doubt.or_else(|| self.doubt()),
        }
    }
}

/// What a client is told whose route wants keys that tell when they were made.
const NOT_TIME_BASED: &str = "The key has to be a UUID of version 7 or a ULID.";

/// Whether a request is one that its route recognises by its key.
#[must_use]
pub fn covers<'a>(ctx: &Context, route: &'a Route) -> Option<&'a Arc<Keys>> {
    let keys = route.keys.as_ref()?;
    (keys.ledger.is_some() && keys.covers(&ctx.method)).then_some(keys)
}

/// What is to be done with a request after its record was looked at.
enum Go {
    /// Its work begins.
    Work(Box<Work>, Held, Instant),
    /// There is a record that answers it.
    Found(Found, Option<Duration>),
    /// It is sent without protection, and says so.
    Bypass(Bypassed),
}

/// Takes an admitted request of a covered method to its answer.
pub(super) async fn forward(mut ctx: Box<Context>, journey: Box<Journey>) -> Response<Body> {
    let route = Arc::clone(&journey.route);
    let Some(keys) = route.keys.as_ref() else { return bypassed(ctx, journey, None).await };
    let asked = match asked::ask(&ctx, &journey, keys).await {
        Ok(Some(asked)) => asked,
        Ok(None) => return bypassed(ctx, journey, Some(Bypassed::NoKey)).await,
        Err(problem) => return problem.answer(ctx, keys, None).await,
    };
    match go(&mut ctx, &journey, keys, &asked).await {
        Ok(Go::Work(work, held, now)) => {
            let under = dispatch::Under { keys: Arc::clone(keys), asked, work: *work, held };
            dispatch::run(ctx, journey, under, now).await
        }
        Ok(Go::Found(found, waited)) => {
            replay::answer(ctx, &route, keys, &asked, found, waited).await
        }
        Ok(Go::Bypass(why)) => bypassed(ctx, journey, Some(why)).await,
        Err(problem) => problem.answer(ctx, keys, Some(&asked)).await,
    }
}

/// Sends a request without protection.
async fn bypassed(
    mut ctx: Box<Context>,
    mut journey: Box<Journey>,
    why: Option<Bypassed>,
) -> Response<Body> {
    let route = Arc::clone(&journey.route);
    if let (Some(keys), Some(why)) = (&route.keys, why) {
        let status = Status::Bypassed(why);
        keys.metrics.ended(&status);
        ctx.say(keys, &status);
    }
    let made = pipeline::exchange(&mut ctx, &mut journey).await;
    pipeline::conclude(ctx, journey, made).await
}

/// Looks at the record, takes the request's places, and claims.
async fn go(
    ctx: &mut Context,
    journey: &Journey,
    keys: &Keys,
    asked: &Asked,
) -> Result<Go, Problem> {
    let Some(ledger) = &keys.ledger else { return Ok(Go::Bypass(Bypassed::Route)) };
    let came = clock::now();
    let mut waited = None;
    loop {
        let by = clock::now() + *keys.settings.claim_deadline;
        match ledger.peek(asked.rid, asked.fingerprint, by).await {
            Err(fault) => return failed(&keys.settings, ledger, &fault),
            Ok(None) => {}
            Ok(Some(Found::Unknown { doubt, .. }))
                if doubt != Doubt::Unreadable && keys.settings.unknown == Unknown::Redispatch => {}
            Ok(Some(found)) => match turn(ctx, keys, ledger, asked, &found, came).await {
                Turn::Again => {
                    waited = Some(clock::now().saturating_duration_since(came));
                    continue;
                }
                Turn::Over => return Ok(Go::Found(found, waited)),
            },
        }
        let mut now = clock::now();
        let mut held = places(ctx, journey, &mut now).await?;
        held.limit = None;
        let claim = claim(ctx, keys, ledger, asked).await?;
        let terms = terms(ctx, &keys.settings);
        let by = clock::now() + *keys.settings.claim_deadline;
        let unsure = keys.settings.on_store_error == OnStoreError::Open;
        match ledger.claim(asked.rid, claim, terms, (by, unsure)).await {
            Ok(Ok(work)) => {
                failpoint::reach(failpoint::AFTER_CLAIM);
                return begin(ctx, journey, work, held).await;
            }
            Ok(Err(Claimed::Found(found))) => {
                // Somebody was quicker. The places are given back first.
                drop(held);
                match turn(ctx, keys, ledger, asked, &found, came).await {
                    Turn::Again => waited = Some(clock::now().saturating_duration_since(came)),
                    Turn::Over => return Ok(Go::Found(found, waited)),
                }
            }
            Ok(Err(Claimed::Full)) => return full(&keys.settings),
            Ok(Err(Claimed::Quota)) => return Err(Code::Quota.into()),
            Ok(Err(Claimed::TooOld)) => return Err(Code::KeyExpired.into()),
            // Not an answer to a claim that was not acquired.
            Ok(Err(Claimed::Acquired { .. })) => return Err(Code::StoreUnavailable.into()),
            Err(fault) => return failed(&keys.settings, ledger, &fault),
        }
    }
}

/// The request's places: as for every other, and the circuit, so that what is refused leaves no
/// record.
async fn places(
    ctx: &mut Context,
    journey: &Journey,
    now: &mut Instant,
) -> Result<Held, Box<Refusal>> {
    let route = &journey.route;
    let target = route.targets.get(journey.target).ok_or(Reason::NoEndpoint)?;
    if let Some(wait) = target.circuit.refuses(&route.settings.circuit_breaker, *now) {
        return Err(Box::new(Refusal::circuit_open(wait)));
    }
    admission::enter(ctx, route, target, now).await
}

/// Takes the place for the sending of what is claimed; the claim is given back if there is none.
async fn begin(
    ctx: &mut Context,
    journey: &Journey,
    work: Work,
    mut held: Held,
) -> Result<Go, Problem> {
    let Journey { route, target, .. } = journey;
    let mut now = clock::now();
    let place = match route.targets.get(*target) {
        Some(target) => admission::limit(ctx, (route, target), Look::Again, &mut now).await,
        None => Err(Box::new(Reason::NoEndpoint.into())),
    };
    match place {
        Ok(place) => held.limit = place,
        Err(refusal) => {
            work.release().await;
            return Err(refusal.into());
        }
    }
    Ok(Go::Work(Box::new(work), held, now))
}

/// What a request does that somebody else is at work on.
enum Turn {
    /// Looks again.
    Again,
    /// Is answered with what was found.
    Over,
}

async fn turn(
    ctx: &Context,
    keys: &Keys,
    ledger: &Ledger,
    asked: &Asked,
    found: &Found,
    came: Instant,
) -> Turn {
    let settings = &keys.settings;
    if !matches!(found, Found::InFlight { .. }) || settings.on_concurrent != OnConcurrent::Wait {
        return Turn::Over;
    }
    let until = came + *settings.max_wait;
    let until = ctx.deadline.map_or(until, |deadline| deadline.min(until));
    if clock::now() >= until {
        return Turn::Over;
    }
    match ledger.wait(asked.rid, until, settings.max_waiters).await {
        Some(()) => Turn::Again,
        None => Turn::Over,
    }
}

async fn claim(
    ctx: &Context,
    keys: &Keys,
    ledger: &Ledger,
    asked: &Asked,
) -> Result<Claim, Problem> {
    let settings = &keys.settings;
    let terms = terms(ctx, settings);
    let by = clock::now() + *settings.claim_deadline;
    // A store that cannot say what it remembers cannot say that it has nothing.
    let birth = ledger.birth(by).await.map_err(|_| Code::StoreUnavailable)?;
    let key_ttl = millis(*settings.key_ttl);
    let key = asked.key.as_bytes();
    let standing = horizon::standing(key, settings.stale_keys, birth.at, birth.now, key_ttl);
    if standing == Standing::NotTimeBased {
        return Err(Problem::new(Code::KeyInvalid).because(NOT_TIME_BASED));
    }
    Ok(Claim {
        fingerprint: asked.fingerprint,
        owner: ledger.owner(),
        nonce: Nonce(fastrand::u128(..).to_be_bytes()),
        principal: asked.principal,
        lease: u64::try_from(terms.lease.as_millis()).unwrap_or(u64::MAX),
        retention: terms.retention,
        unknowns: match settings.unknown {
            Unknown::Hold => Unknowns::Hold,
            Unknown::Redispatch => Unknowns::Redispatch { grace: millis(*settings.takeover_grace) },
        },
        too_old: standing == Standing::TooOld,
    })
}

fn terms(ctx: &Context, settings: &Settings) -> WorkTerms {
    let total = ctx.route.as_ref().and_then(|route| route.settings.timeouts.total);
    WorkTerms {
        lease: settings.lease(total.map(|total| *total)),
        commit: *settings.commit_deadline,
        retention: settings.retention(),
    }
}

/// The store did not answer: refused, or sent without protection, as the route says.
fn failed(settings: &Settings, ledger: &Ledger, fault: &Fault) -> Result<Go, Problem> {
    ledger.report("the store of records failed", fault);
    if fault.cause().kind == Kind::Full {
        return full(settings);
    }
    match settings.on_store_error {
        OnStoreError::Closed => Err(Code::StoreUnavailable.into()),
        OnStoreError::Open => Ok(Go::Bypass(Bypassed::StoreUnavailable)),
    }
}

fn full(settings: &Settings) -> Result<Go, Problem> {
    match settings.on_store_error {
        OnStoreError::Closed => Err(Code::StoreFull.into()),
        OnStoreError::Open => Ok(Go::Bypass(Bypassed::StoreFull)),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
