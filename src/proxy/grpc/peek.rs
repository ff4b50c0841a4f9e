//! A look at what follows the head of an answer.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::Response;

use crate::clock;
use crate::policy::Mode;
use crate::policy::retry::{Condition, UnsafeMethods};
use crate::proxy::attempt::Way;
use crate::proxy::body::AnswerBody;
use crate::proxy::context::Context;
use crate::proxy::outbound::Outbound;
use crate::upstream::error::Cause;

/// How long the head of an answer waits for the first message or the trailers, where the trailers
/// could lead to another attempt. Servers send the two in two writes that follow each other; more
/// than this would be felt by a client that waits for the head of a stream without messages.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// How to look at what follows the head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Not at all: it is no call.
    Never,
    /// At what has come with the head already.
    AtOnce,
    /// And wait for it, for a moment, once the request was sent whole: its trailers could lead to
    /// another attempt. A client that has more to send may be waiting for the head to do so.
    Wait,
}

impl Look {
    /// How to look at the answers of a request.
    #[must_use]
    pub fn of(ctx: &Context, way: &Way<'_>) -> Self {
        if !ctx.grpc {
            return Self::Never;
        }
        let retry = &way.route.settings.retry;
        let again = retry.mode == Mode::Enforce
            && ctx.attempts < retry.max_attempts
            && (retry.unsafe_methods == UnsafeMethods::Always || ctx.keyed.is_some())
            && retry.on.iter().any(|condition| matches!(condition, Condition::Grpc(_)));
        if again { Self::Wait } else { Self::AtOnce }
    }
}

/// Looks at what follows the head of a call's answer, and keeps it as the next frame of its body.
/// `by` is the end of the attempt's time. Gives what broke the answer, if nothing else followed:
/// the attempt then has none. A call that the server cancelled is not broken, but answered.
pub async fn peek(
    response: &mut Response<AnswerBody>,
    look: Look,
    outbound: &Outbound,
    by: Instant,
) -> Option<Cause> {
    if look == Look::Never || !super::is_open(response) {
        return None;
    }
    let body = response.body_mut();
    let waits = look == Look::Wait && outbound.is_sent() && outbound.replayable();
    if waits {
        let by = by.min(clock::now() + WAIT_MAX);
        // That nothing came is an answer, too.
        let _ = clock::until(by, poll_fn(|cx| body.poll_peek(cx))).await;
    } else {
        poll_fn(|cx| {
            let _ = body.poll_peek(cx);
            Poll::Ready(())
        })
        .await;
    }
    let is_broken = |cause: &Cause| cause.reset().map(super::of_reset) != Some(super::CANCELLED);
    response.body_mut().take_broken(is_broken)
}
