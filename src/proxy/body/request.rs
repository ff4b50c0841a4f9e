//! The request's body: streamed through, and kept, up to a bound, for another attempt.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::ClientBody;
use super::kept::{KeptBytes, Part};
use crate::clock::{self, Timer};

/// Why a request's body could not be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is larger than the listener allows.
    TooLarge,
    /// No piece of it came for the listener's body timeout.
    TimedOut,
    /// The client went away, or its bytes were not valid.
    ClientGone,
    /// A newer attempt has taken the body over.
    Superseded,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the request's body is larger than the listener allows",
            Self::TimedOut => "the request's body stalled",
            Self::ClientGone => "the client broke off its body",
            Self::Superseded => "a newer attempt reads this body",
        })
    }
}

impl std::error::Error for Failure {}

/// The one body that the client sends, read by one attempt after another.
pub struct RequestSource(Rc<Source>);

struct Source {
    /// Empty for most requests, which then cost nothing here.
    state: RefCell<State>,
    /// The attempt that may read; an older one that still lives reads an error.
    turn: Cell<u32>,
    failure: Cell<Option<Failure>>,
}

struct State {
    client: ClientBody,
    /// What the client announced, for the framing of each attempt.
    length: Option<u64>,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    /// What the pieces take of the process's bound.
    part: Part,
    keep_bytes: usize,
    replay_bytes: usize,
    /// A part of it has been sent and is not kept: it cannot be sent again.
    lost: bool,
    trailers: Option<HeaderMap>,
    ended: bool,
    read_bytes: u64,
    max_bytes: u64,
    /// None where pauses are the client's right.
    timeout: Option<Duration>,
    timer: Option<Timer>,
    waiting: bool,
}

/// Bounds on the reading of a request's body.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most that is kept, for another attempt or for a copy; 0 when there will be neither.
    pub keep_bytes: usize,
    /// The most of which another attempt is made; 0 when there will be none.
    pub replay_bytes: usize,
    /// The largest body.
    pub max_bytes: u64,
    /// The longest pause between two pieces.
    pub timeout: Duration,
}

/// A piece of the body, its trailers, or its end.
type Next = Option<Frame<Bytes>>;

/// The body of one attempt, or of a copy.
pub struct RequestBody(Kind);

enum Kind {
    Empty,
    Attempt(Attempt),
    Whole(Box<Whole>),
}

/// A body that is all there.
struct Whole {
    pieces: VecDeque<Bytes>,
    left: u64,
    trailers: Option<HeaderMap>,
}

impl Whole {
    fn next(&mut self) -> Next {
        match self.pieces.pop_front() {
            Some(piece) => {
                self.left = self.left.saturating_sub(piece.len() as u64);
                Some(Frame::data(piece))
            }
            None => self.trailers.take().map(Frame::trailers),
        }
    }
}

/// How much of a body may be kept: one that is known not to fit is not kept at all.
const fn fitting(length: Option<u64>, most: usize) -> usize {
    match length {
        Some(length) if length > most as u64 => 0,
        _ => most,
    }
}

struct Attempt {
    source: Rc<Source>,
    turn: u32,
    /// The next of the kept pieces.
    next: usize,
    sent: u64,
    trailers_sent: bool,
}

impl RequestSource {
    /// Takes the client's body; `None` when there is none.
    pub fn new(client: ClientBody, bounds: Bounds, kept: &Arc<KeptBytes>) -> Option<Self> {
        if client.is_end_stream() {
            return None;
        }
        let length = client.size_hint().exact();
        let state = State {
            client,
            length,
            kept: Vec::new(),
            kept_bytes: 0,
            part: kept.part(),
            keep_bytes: fitting(length, bounds.keep_bytes),
            replay_bytes: fitting(length, bounds.replay_bytes),
            lost: false,
            trailers: None,
            ended: false,
            read_bytes: 0,
            max_bytes: bounds.max_bytes,
            timeout: Some(bounds.timeout),
            timer: None,
            waiting: false,
        };
        Some(Self(Rc::new(Source {
            state: RefCell::new(state),
            turn: Cell::new(0),
            failure: Cell::new(None),
        })))
    }

    /// The body for the next attempt; attempts before it can no longer read.
    pub fn attempt(&self) -> RequestBody {
        let turn = self.0.turn.get() + 1;
        self.0.turn.set(turn);
        RequestBody(Kind::Attempt(Attempt {
            source: Rc::clone(&self.0),
            turn,
            next: 0,
            sent: 0,
            trailers_sent: false,
        }))
    }

    /// Whether it is still whole, so that another attempt can send it.
    pub fn replayable(&self) -> bool {
        let state = self.0.state.borrow();
        !state.lost && state.kept_bytes <= state.replay_bytes
    }

    /// The whole body once more, beside the attempt that reads it; nothing as long as it is not all
    /// there, or when it is larger than this or than what is kept.
    pub fn whole(&self, max_bytes: usize) -> Option<RequestBody> {
        let state = self.0.state.borrow();
        if state.lost || !state.ended || state.kept_bytes > max_bytes {
            return None;
        }
        Some(RequestBody(Kind::Whole(Box::new(Whole {
            pieces: state.kept.clone().into(),
            left: state.kept_bytes as u64,
            trailers: state.trailers.clone(),
        }))))
    }

    /// Why it could not be read, if so.
    pub fn failure(&self) -> Option<Failure> {
        self.0.failure.get()
    }

    /// Whether it was read to its end.
    pub fn ended(&self) -> bool {
        self.0.state.borrow().ended
    }

    /// Lets its pieces come when they like: it is the client's side of a conversation, and how long
    /// that may rest is looked to where both sides are heard.
    pub fn allow_pauses(&self) {
        self.0.state.borrow_mut().timeout = None;
    }

    /// Bytes read from the client.
    pub fn read_bytes(&self) -> u64 {
        self.0.state.borrow().read_bytes
    }
}

impl RequestBody {
    /// No body.
    pub const EMPTY: Self = Self(Kind::Empty);
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let attempt = match &mut self.get_mut().0 {
            Kind::Empty => return Poll::Ready(None),
            Kind::Whole(whole) => return Poll::Ready(whole.next().map(Ok)),
            Kind::Attempt(attempt) => attempt,
        };
        if attempt.source.turn.get() != attempt.turn {
            return Poll::Ready(Some(Err(Failure::Superseded)));
        }
        let mut state = attempt.source.state.borrow_mut();
        if let Some(piece) = state.kept.get(attempt.next) {
            attempt.next += 1;
            attempt.sent += piece.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        if state.ended {
            let trailers = state.trailers.clone().filter(|_| !attempt.trailers_sent);
            attempt.trailers_sent = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        match state.poll_client(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(None)) => Poll::Ready(None),
            Poll::Ready(Ok(Some(frame))) => {
                if let Some(piece) = frame.data_ref() {
                    attempt.next = state.kept.len();
                    attempt.sent += piece.len() as u64;
                } else {
                    attempt.trailers_sent = true;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Err(failure)) => {
                attempt.source.failure.set(Some(failure));
                Poll::Ready(Some(Err(failure)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let attempt = match &self.0 {
            Kind::Empty => return true,
            Kind::Whole(whole) => return whole.pieces.is_empty() && whole.trailers.is_none(),
            Kind::Attempt(attempt) => attempt,
        };
        let state = attempt.source.state.borrow();
        state.ended
            && attempt.next >= state.kept.len()
            && (attempt.trailers_sent || state.trailers.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        let attempt = match &self.0 {
            Kind::Empty => return SizeHint::with_exact(0),
            Kind::Whole(whole) => return SizeHint::with_exact(whole.left),
            Kind::Attempt(attempt) => attempt,
        };
        match attempt.source.state.borrow().length {
            Some(length) => SizeHint::with_exact(length.saturating_sub(attempt.sent)),
            None => SizeHint::default(),
        }
    }
}

impl State {
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, Failure>> {
        match Pin::new(&mut self.client).poll_frame(cx) {
            Poll::Pending => self.poll_timeout(cx),
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(Ok(None))
            }
            Poll::Ready(Some(Err(failure))) => Poll::Ready(Err(failure)),
            Poll::Ready(Some(Ok(frame))) => {
                self.waiting = false;
                if let Some(piece) = frame.data_ref() {
                    self.read_bytes += piece.len() as u64;
                    if self.read_bytes > self.max_bytes {
                        return Poll::Ready(Err(Failure::TooLarge));
                    }
                    self.keep(piece);
                    self.ended = self.client.is_end_stream();
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.trailers = Some(trailers.clone());
                    self.ended = true;
                }
                Poll::Ready(Ok(Some(frame)))
            }
        }
    }

    fn keep(&mut self, piece: &Bytes) {
        self.kept_bytes = self.kept_bytes.saturating_add(piece.len());
        let fits = !self.lost && self.kept_bytes <= self.keep_bytes;
        if !fits || !self.part.grow(piece.len()) {
            self.lost = true;
            self.kept = Vec::new();
            self.part.clear();
        } else {
            self.kept.push(piece.clone());
        }
    }

    fn poll_timeout<T>(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Failure>> {
        let Some(timeout) = self.timeout else { return Poll::Pending };
        if !self.waiting {
            self.waiting = true;
            let at = clock::now() + timeout;
            match &mut self.timer {
                Some(timer) => timer.set(at),
                None => self.timer = Some(Timer::at(at)),
            }
        }
        match self.timer.as_mut().map(|timer| timer.poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(Err(Failure::TimedOut)),
            _ => Poll::Pending,
        }
    }
}
