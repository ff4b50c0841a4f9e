//! The sending of a claimed request: a task of its own, which goes on when the client has gone.
//!
//! The client's side waits no longer than the client may. The task waits for the upstream as long
//! as a late result is worth having, decides what its end proves, and has that committed before the
//! client hears of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, Version, header};
use http_body_util::BodyExt;
use tokio::sync::oneshot;

use super::asked::Asked;
use super::refuse::Problem;
use super::{Keyed, evidence, replay};
use crate::clock;
use crate::failpoint;
use crate::gate::{Fixed, Place};
use crate::policy::idempotency::machine::Settled;
use crate::policy::idempotency::outcome::{self, Action, Body as Kept, End};
use crate::policy::idempotency::problem::Code;
use crate::policy::idempotency::record::{Doubt, Stored};
use crate::policy::idempotency::response::{Bypassed, Status, Unstored};
use crate::proxy::admission::{self, Held};
use crate::proxy::attempt::{Answer, Way};
use crate::proxy::body::{self, Body};
use crate::proxy::context::Context;
use crate::proxy::error::Refusal;
use crate::proxy::headers::seen::Seen;
use crate::proxy::headers::{hint, hop};
use crate::proxy::mirror;
use crate::proxy::pipeline::{self, Journey};
use crate::records::Fault;
use crate::records::ledger::Work;
use crate::snapshot::keys::Keys;
use crate::snapshot::route::Route;
use crate::telemetry::reason::Reason;

/// A request under a key is sent on connections that were in use within this time: of one that the
/// upstream closed meanwhile it would not be known whether the request was read.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// How long a piece of an answer is waited for on a route that is not there any more.
const IDLE_DEFAULT: Duration = Duration::from_secs(300);

/// What a claimed request is sent under.
pub(super) struct Under {
    /// Its route's keys.
    pub keys: Arc<Keys>,
    /// Who it is.
    pub asked: Asked,
    /// Its claim.
    pub work: Work,
    /// Its places.
    pub held: Held,
}

/// What the task has made of a request.
enum Done {
    /// An answer that is all there.
    Whole(Whole, Became),
    /// An answer that is passed on as it comes.
    Streams(Box<Answer>, VecDeque<Bytes>, Option<Place<Fixed>>, Became),
    /// No answer that could be passed on.
    Failed(Box<Refusal>, Code),
}

impl Done {
    /// Whether it may have been executed or not.
    const fn is_in_doubt(&self) -> bool {
        matches!(
            self,
            Self::Failed(_, Code::OutcomeUnknown)
                | Self::Whole(_, Became::Not(Unstored::OutcomeUnknown))
                | Self::Streams(_, _, _, Became::Not(Unstored::OutcomeUnknown))
        )
    }
}

/// An upstream's answer that is all there.
struct Whole {
    head: http::response::Parts,
    pieces: Vec<Bytes>,
    trailers: Option<HeaderMap>,
}

/// Sends a claimed request, and answers its client when the result is committed.
pub(super) async fn run(
    mut ctx: Box<Context>,
    mut journey: Box<Journey>,
    under: Under,
    now: Instant,
) -> Response<Body> {
    let (keys, asked) = (Arc::clone(&under.keys), under.asked.clone());
    let mut aside = ctx.aside();
    aside.keyed = Some(Box::new(keyed(&ctx, &keys, &under.work)));
    prepare(&mut journey, &keys, &under.work);
    let (answer, answered) = oneshot::channel();
    let goes_on = ctx.worker.aside.enter();
    let sure = under.work.is_sure();
    let attempt = under.work.attempt();
    tokio::task::spawn_local(async move {
        let done = carry_out(&mut aside, &mut journey, under, now, &answer).await;
        // The client has gone, perhaps; the result is committed.
        drop(answer.send((done, aside, journey)));
        drop(goes_on);
    });
    let received = match ctx.deadline {
        Some(deadline) => clock::until(deadline, answered).await,
        None => Ok(answered.await),
    };
    let Ok(received) = received else {
        let problem = Problem::new(Code::ResponseTimeout).with(Reason::Deadline);
        return problem.answer(ctx, &keys, Some(&asked)).await;
    };
    // The task ends early only when the process does.
    let Ok((done, aside, journey)) = received else {
        let problem = Problem::new(Code::OutcomeUnknown).with(Reason::UpstreamReset);
        return problem.answer(ctx, &keys, Some(&asked)).await;
    };
    ctx.learn_of(*aside);
    match done {
        Done::Whole(whole, became) => {
            became.say(&mut ctx, &keys, sure.then_some(attempt));
            deliver(ctx, &journey.route, whole)
        }
        Done::Streams(answer, before, bulkhead, became) => {
            became.say(&mut ctx, &keys, sure.then_some(attempt));
            let response = pipeline::reply(ctx, journey, *answer, bulkhead);
            response.map(|body| body.preceded_by(before))
        }
        Done::Failed(refusal, code) => {
            let problem = Problem::new(code).with(refusal.reason);
            problem.answer(ctx, &keys, Some(&asked)).await
        }
    }
}

/// What became of an answer: whether it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Became {
    /// It is.
    Stored,
    /// It is not.
    Not(Unstored),
}

impl Became {
    /// Lets the client's answer say so, and counts it. Without the number of the claim it is not
    /// known that there was one, and so that the request was protected.
    fn say(self, ctx: &mut Context, keys: &Keys, attempt: Option<u32>) {
        let status = match (self, attempt) {
            (_, None) => Status::Bypassed(Bypassed::StoreUnavailable),
            (Self::Stored, Some(attempt)) => Status::Executed { attempt },
            (Self::Not(why), Some(_)) => Status::Unstored(why),
        };
        keys.metrics.ended(&status);
        ctx.say(keys, &status);
    }
}

/// The upstream's answer as it goes to the client that sent the request.
fn deliver(mut ctx: Box<Context>, route: &Route, whole: Whole) -> Response<Body> {
    let Whole { head, pieces, trailers } = whole;
    let mut response = Response::from_parts(head, ());
    let version = std::mem::replace(response.version_mut(), Version::HTTP_11);
    ctx.status = Some(response.status().as_u16());
    let code = hint::grpc_status(response.headers());
    let code = code.or_else(|| trailers.as_ref().and_then(hint::grpc_status));
    ctx.grpc_status = code.filter(|_| ctx.grpc);
    let fields = Seen::of(response.headers()).fields;
    let headers = response.headers_mut();
    hop::strip_hop_by_hop(headers, fields);
    let length = pieces.iter().map(Bytes::len).sum::<usize>();
    if !replay::has_no_body(response.status()) && trailers.is_none() {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    pipeline::dress(&ctx, route, response.headers_mut(), version);
    let body = body::Whole { pieces: pieces.into(), trailers };
    response.map(|()| Body::Whole(Box::new(body), ctx))
}

/// What is known of the key when the sending begins.
fn keyed(ctx: &Context, keys: &Arc<Keys>, work: &Work) -> Keyed {
    let total = ctx.route.as_ref().and_then(|route| route.settings.timeouts.total);
    let window = keys.settings.late_result_window(total.map(|total| *total));
    let from = ctx.deadline.unwrap_or_else(clock::now);
    // A claim that is not the key's first one follows a sending of unknown outcome.
    let in_doubt = (work.attempt() > 1).then_some(Doubt::OwnerLost);
    Keyed::new(Arc::clone(keys), Some(from + window), in_doubt).under(work.lease())
}

/// The request as it goes to the upstream.
fn prepare(journey: &mut Journey, keys: &Keys, work: &Work) {
    let outbound = &mut journey.outbound;
    outbound.prefer_fresh(IDLE_MAX);
    let headers = outbound.headers_mut();
    // What is stored is given to clients that take other codings.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if keys.settings.strip_key {
        headers.remove(&keys.key_header);
    }
    if let (Some(name), Some(fence)) = (&keys.fence_header, work.fence()) {
        headers.insert(name, HeaderValue::from(fence));
    }
}

/// Makes the attempts, reads the answer, and settles the record.
async fn carry_out(
    ctx: &mut Context,
    journey: &mut Journey,
    under: Under,
    now: Instant,
    client: &oneshot::Sender<Handed>,
) -> Done {
    let Under { keys, asked, mut work, held } = under;
    let Held { bulkhead, mut limit } = held;
    let Journey { route, target, outbound, .. } = journey;
    let Some(target) = route.targets.get(*target) else {
        work.release().await;
        return Done::Failed(Reason::NoEndpoint.into(), Code::NotExecuted);
    };
    work.sending();
    let way = Way { route, target, outbound };
    let made = pipeline::attempts(ctx, &way, &mut limit, now).await;
    mirror::copy(ctx, route, outbound);
    admission::used(ctx, target, now);
    let settling = Settling { keys: &keys, ctx, work };
    let done = match made {
        Ok(answer) => settling.answered(answer, bulkhead).await,
        Err(refusal) => settling.failed(refusal).await,
    };
    failpoint::reach(failpoint::AFTER_COMMIT);
    if done.is_in_doubt() {
        // When its client comes back, that may be known.
        ctx.worker.proxy.probes.begin(route, &keys, &asked);
    }
    if client.is_closed() && matches!(done, Done::Whole(..)) {
        keys.metrics.late.inc();
    }
    done
}

/// The end of an exchange that becomes the end of its claim.
struct Settling<'a> {
    keys: &'a Keys,
    ctx: &'a Context,
    work: Work,
}

impl Settling<'_> {
    /// No answer came.
    async fn failed(self, refusal: Box<Refusal>) -> Done {
        let (end, earlier) = self.ctx.keyed.as_ref().map_or((End::Lost, None), |k| k.failed());
        let verdict = outcome::decide(&self.keys.settings, &end, earlier);
        match self.settle(verdict.action, None, Stored::bare(0)).await {
            Became::Not(Unstored::Released) => Done::Failed(refusal, Code::NotExecuted),
            _ => Done::Failed(refusal, Code::OutcomeUnknown),
        }
    }

    /// An answer came: it is read as far as it is stored, and judged.
    async fn answered(self, answer: Answer, bulkhead: Option<Place<Fixed>>) -> Done {
        let most = self.keys.settings.stored_body.as_usize();
        if is_stream(answer.response.headers()) {
            return self.passed_on(answer, VecDeque::new(), bulkhead, Kept::Streaming).await;
        }
        if announces_more(&answer, most) {
            return self.passed_on(answer, VecDeque::new(), bulkhead, Kept::TooLarge).await;
        }
        let Answer { response, lease, in_flight, mut late } = answer;
        let (head, mut body) = response.into_parts();
        let mut read = Read::default();
        loop {
            match clock::until(self.patience(), body.frame()).await {
                Ok(Some(Ok(frame))) => read.take(frame),
                Ok(None) => break,
                Ok(Some(Err(_))) | Err(_) => {
                    match late.take() {
                        Some(late) => late.broke_off(None),
                        None => lease.broke_off(clock::now()),
                    }
                    return self.cut(&head).await;
                }
            }
            if read.bytes > most {
                let response = Response::from_parts(head, body);
                let answer = Answer { response, lease, in_flight, late };
                return self.passed_on(answer, read.pieces.into(), bulkhead, Kept::TooLarge).await;
            }
        }
        lease.finish(body);
        drop((in_flight, bulkhead));
        let Read { pieces, trailers, .. } = read;
        if let Some(late) = late {
            late.end(trailers.as_ref());
        }
        let whole = Whole { head, pieces, trailers };
        let became = self.whole(&whole).await;
        Done::Whole(whole, became)
    }

    /// How long the next piece of the answer is waited for.
    fn patience(&self) -> Instant {
        let idle =
            self.ctx.route.as_ref().map_or(IDLE_DEFAULT, |route| *route.settings.timeouts.idle);
        let by = clock::now() + idle;
        let patience = self.ctx.keyed.as_ref().and_then(|keyed| keyed.patience);
        patience.map_or(by, |patience| patience.min(by))
    }

    /// The answer broke off before it was whole.
    async fn cut(self, head: &http::response::Parts) -> Done {
        let end =
            End::Cut(evidence::of_answer(self.keys, self.ctx.grpc, head.into(), None, Kept::Whole));
        let verdict = outcome::decide(&self.keys.settings, &end, self.earlier());
        self.settle(verdict.action, Some(head.status.as_u16()), Stored::bare(0)).await;
        Done::Failed(Reason::UpstreamCut.into(), Code::OutcomeUnknown)
    }

    /// The answer is all there.
    async fn whole(self, whole: &Whole) -> Became {
        let Whole { head, pieces, trailers } = whole;
        let stored = evidence::stored(self.keys, head, pieces, trailers.as_ref());
        let kept = if stored.is_some() { Kept::Whole } else { Kept::TooLarge };
        let end = End::Answered(evidence::of_answer(
            self.keys,
            self.ctx.grpc,
            head.into(),
            trailers.as_ref(),
            kept,
        ));
        let verdict = outcome::decide(&self.keys.settings, &end, self.earlier());
        let status = head.status.as_u16();
        let stored = stored.unwrap_or_else(|| Stored::bare(status));
        let became = self.settle(verdict.action, Some(status), stored).await;
        match became {
            Became::Stored if kept == Kept::TooLarge => Became::Not(Unstored::TooLarge),
            became => became,
        }
    }

    /// An answer that is too large to be stored, or has no end: that there was one is stored before
    /// its first byte goes on.
    async fn passed_on(
        self,
        answer: Answer,
        before: VecDeque<Bytes>,
        bulkhead: Option<Place<Fixed>>,
        kept: Kept,
    ) -> Done {
        let why = if kept == Kept::Streaming { Unstored::Streaming } else { Unstored::TooLarge };
        let (head, body) = answer.response.into_parts();
        let end = End::Answered(evidence::of_answer(
            self.keys,
            self.ctx.grpc,
            (&head).into(),
            None,
            kept,
        ));
        let verdict = outcome::decide(&self.keys.settings, &end, self.earlier());
        let status = head.status.as_u16();
        let became = match self.settle(verdict.action, Some(status), Stored::bare(status)).await {
            Became::Stored => Became::Not(why),
            became => became,
        };
        let answer = Answer { response: Response::from_parts(head, body), ..answer };
        Done::Streams(Box::new(answer), before, bulkhead, became)
    }

    /// Why it may have been executed by an attempt before the one whose answer is delivered.
    fn earlier(&self) -> Option<Doubt> {
        self.ctx.keyed.as_ref().and_then(|keyed| keyed.earlier())
    }

    /// Makes the record what the verdict says.
    async fn settle(self, action: Action, observed: Option<u16>, answer: Stored) -> Became {
        let Self { keys, work, .. } = self;
        failpoint::reach(failpoint::BEFORE_COMMIT);
        let noted = match action {
            Action::Release | Action::Bypass => {
                work.release().await;
                return Became::Not(Unstored::Released);
            }
            Action::Store { indeterminate } => {
                let committed = work.complete(Stored { indeterminate, ..answer }).await;
                return stored_or(keys, committed);
            }
            Action::StoreBare { indeterminate } => {
                let bare = Stored { indeterminate, ..Stored::bare(answer.status) };
                return stored_or(keys, work.complete(bare).await);
            }
            // Stays only where a result is still waited for, and here none is.
            Action::Stay => work.doubt(Doubt::Timeout, observed).await,
            Action::Doubt(doubt) => {
                keys.metrics.doubted(doubt);
                work.doubt(doubt, observed).await
            }
            Action::Retryable(doubt) => {
                keys.metrics.doubted(doubt);
                work.retryable().await
            }
        };
        if let Err(fault) = noted {
            report(keys, "a doubt could not be noted in time; its lease will end", &fault);
        }
        Became::Not(Unstored::OutcomeUnknown)
    }
}

/// What became of an answer by what the store said to it. A result that is known is never held back
/// because it could not be written down.
fn stored_or(keys: &Keys, committed: Result<Settled, Fault>) -> Became {
    match committed {
        Ok(Settled::Done | Settled::Already | Settled::Reasserted) => Became::Stored,
        Ok(Settled::Fenced { .. }) => Became::Not(Unstored::Fenced),
        Err(fault) => {
            report(keys, "a result could not be committed in time", &fault);
            Became::Not(Unstored::StoreUnavailable)
        }
    }
}

fn report(keys: &Keys, what: &'static str, fault: &Fault) {
    if let Some(ledger) = &keys.ledger {
        ledger.report(what, fault);
    }
}

/// What the task hands to the client's side.
type Handed = (Done, Box<Context>, Box<Journey>);

/// What was read of an answer.
#[derive(Default)]
struct Read {
    pieces: Vec<Bytes>,
    bytes: usize,
    trailers: Option<HeaderMap>,
}

impl Read {
    fn take(&mut self, frame: http_body::Frame<Bytes>) {
        match frame.into_data() {
            Ok(piece) => {
                self.bytes += piece.len();
                self.pieces.push(piece);
            }
            Err(frame) => self.trailers = frame.into_trailers().ok(),
        }
    }
}

/// An answer that goes on by design.
fn is_stream(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

fn announces_more(answer: &Answer, most: usize) -> bool {
    let body = answer.response.body();
    http_body::Body::size_hint(body).lower() > most as u64
}
