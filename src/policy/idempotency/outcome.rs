//! What the way in which an exchange ended says of its operation: D1 to D26, first match wins.
//!
//! Evidence decides, not hope: what the application says of itself comes first, then what the
//! connection proves, then what the status means by convention. Only two things give a key back:
//! proof that nothing was executed, and an answer about the attempt rather than the operation (D11,
//! D14, D24).
//!
//! | | how it ended | what becomes of the record | again at once |
//! |---|---|---|---|
//! | D1 | the application: final, not-executed, unknown | stored, released, unknown | the second |
//! | D2 | refused by the proxy itself | released, if it was claimed | yes |
//! | D3 | no connection | released | yes |
//! | D4 | the peer says that it did not process it | released | elsewhere |
//! | D5 | the head was not written whole | released | yes |
//! | D6 | connection lost without an answer | unknown | if idempotent |
//! | D7 | no answer in time | stays; unknown when the late window is over | no |
//! | D8 | the answer was cut off | unknown | if idempotent |
//! | D9 | 2xx | stored | |
//! | D10 | 3xx; 304 leaves it open | stored; unknown | |
//! | D11 | 401, 403, 407, 408, 421, 423, 425, 429 | released | 408, 421, 425 |
//! | D12 | any other 4xx | stored | |
//! | D13 | 500 and any other 5xx | stored as indeterminate | if idempotent |
//! | D14 | 503 with `Retry-After` | released | after that |
//! | D15 | 503 without, 502, 504, no status of HTTP | unknown | if idempotent |
//! | D16 | the upstream's own layer is at work on the key | unknown | after a wait |
//! | D17 | 101, an event or gRPC stream, CONNECT | not covered; else stored without body | no |
//! | D18 | the answer is larger than what is stored | stored without body | |
//! | D19 | the client is gone | as if it were there: no argument here | |
//! | D20 | the proxy must end | unknown | no |
//! | D21 | the proxy died | unknown, by time alone (T6) | |
//! | D22 | the answer could not be stored | stays: passed on, and storing goes on | |
//! | D23 | gRPC 0, 3, 5, 6, 9, 11, 12 | stored | |
//! | D24 | gRPC 7, 8, 10, 16 | released | 8, 10 after push-back |
//! | D25 | gRPC 2, 13, 15 and codes that are none | stored as indeterminate | if idempotent |
//! | D26 | gRPC 1, 4, 14 | unknown | if idempotent |
//!
//! "Unknown" is retryable where the upstream itself recognises keys, but for what may still be
//! running (D7, D20, D21). A release after an earlier attempt that may have been executed is none:
//! one attempt's proof is not another's.

use super::record::Doubt;
use super::settings::{On5xx, Settings, UpstreamConflict};

/// The field in which an application says what became of the operation. It is not passed on.
pub const APPLICATION_FIELD: &str = "idempotency-outcome";

/// What an application says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Application {
    /// The answer is the operation's result.
    Final,
    /// Nothing was executed.
    NotExecuted,
    /// It does not know.
    Unknown,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// D2: the proxy itself refused to send it.
    NotSent,
    /// D3: no connection: no address, refused, not in time, no TLS, no place in the pool.
    NoConnection,
    /// D4: the peer said that it did not process it (HTTP/2 REFUSED_STREAM, or GOAWAY below it).
    Refused,
    /// D5: the connection broke before the head was written whole.
    HeadUnwritten,
    /// D6: the connection was lost without an answer; it may have been read, also when the
    /// connection had been used before: a reset does not prove that it was not.
    Lost,
    /// D7: no answer came in the caller's time, and the late window goes on.
    Late,
    /// D7: no answer came in the late window either.
    TimedOut,
    /// D8: the answer began and was cut off.
    Cut(Answer),
    /// It was answered; the body is whole, or is not kept.
    Answered(Answer),
    /// D17: an exchange without an answer that could be kept, as is known before it is sent.
    Stream,
    /// D20: the proxy must end.
    Shutdown,
    /// D21: the process that worked on it is no more.
    OwnerLost,
    /// D22: the answer is known and could not be stored in time.
    NotStored,
}

/// An upstream's answer, as far as it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// What gRPC says.
    pub grpc: Grpc,
    /// What the application says.
    pub application: Option<Application>,
    /// Whether it says when to come back.
    pub retry_after: bool,
    /// Whether it is the upstream's own "at work on it" ([`Settings::upstream_conflict`]).
    pub conflict: bool,
    /// Whether its `Cache-Control` forbids to store it.
    pub no_store: bool,
    /// What there is of its body.
    pub body: Body,
}

/// What gRPC says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grpc {
    /// The exchange is not gRPC.
    #[default]
    No,
    /// It is, and there was no status: the answer is not whole.
    Missing,
    /// The status of a call, from the upstream's own trailers or head.
    Status(u16),
}

/// What there is of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// All of it, or it has none.
    #[default]
    Whole,
    /// It, or its fields, are larger than what is stored.
    TooLarge,
    /// It has no end that is waited for.
    Streaming,
}

/// What becomes of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// T3: the answer is stored.
    Store {
        /// Its status leaves open what happened.
        indeterminate: bool,
    },
    /// T3: its status alone is stored.
    StoreBare {
        /// Its status leaves open what happened.
        indeterminate: bool,
    },
    /// T4: the key can be used again.
    Release,
    /// T5: nobody knows.
    Doubt(Doubt),
    /// T7: nobody knows, and the upstream recognises the key when it is sent again.
    Retryable(Doubt),
    /// It stays in flight.
    Stay,
    /// There is no record.
    Bypass,
}

/// Whether the proxy itself may send it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It may not.
    No,
    /// It may.
    Yes,
    /// It may, to another endpoint.
    Elsewhere,
    /// It may, after the time that the answer asks for, or a wait of its own.
    AfterWait,
}

/// The row of the table that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the rows are described in the table above")]
#[rustfmt::skip]
pub enum Row {
    D1, D2, D3, D4, D5, D6, D7, D8, D9, D10, D11, D12, D13, D14, D15, D16, D17, D18, D20, D21, D22,
    D23, D24, D25, D26,
}

/// What an end says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of the record.
    pub action: Action,
    /// Whether the proxy itself may send it again.
    pub again: Again,
    /// The row that decided.
    pub row: Row,
}

impl Application {
    /// Reads [`APPLICATION_FIELD`]; nothing when it says something else, which then counts as not
    /// said.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let said = value.trim_ascii();
        let words: [(&[u8], Self); 3] = [
            (b"final", Self::Final),
            (b"not-executed", Self::NotExecuted),
            (b"unknown", Self::Unknown),
        ];
        words.into_iter().find(|(word, _)| said.eq_ignore_ascii_case(word)).map(|(_, it)| it)
    }
}

impl UpstreamConflict {
    /// Whether this is the answer. `field` gives the value of a field by its name.
    #[must_use]
    pub fn matches<'a>(&self, status: u16, field: impl FnOnce(&str) -> Option<&'a [u8]>) -> bool {
        if status != self.status {
            return false;
        }
        let Some(name) = &self.header else { return true };
        let Some(value) = field(name) else { return false };
        self.contains
            .as_ref()
            .is_none_or(|text| value.windows(text.len().max(1)).any(|part| part == text.as_bytes()))
    }
}

/// Decides what becomes of the record of an exchange that ended so. `earlier` says that it may have
/// been executed by an attempt before, of this claim or of an earlier one, and why that is open.
#[must_use]
pub fn decide(s: &Settings, end: &End, earlier: Option<Doubt>) -> Verdict {
    let mut verdict = decide_alone(s, end);
    if verdict.action == Action::Release
        && let Some(doubt) = earlier
    {
        verdict.action = open(s, doubt);
        if !s.upstream_idempotent {
            verdict.again = Again::No;
        }
    }
    verdict
}

fn decide_alone(s: &Settings, end: &End) -> Verdict {
    use Action::{Bypass, Doubt as Unknown, Release, Stay};
    let verdict = |row, action, again| Verdict { action, again, row };
    match end {
        End::NotSent => verdict(Row::D2, Release, Again::Yes),
        End::NoConnection => verdict(Row::D3, Release, Again::Yes),
        End::Refused => verdict(Row::D4, Release, Again::Elsewhere),
        End::HeadUnwritten => verdict(Row::D5, Release, Again::Yes),
        End::Lost => verdict(Row::D6, open(s, Doubt::ConnectionLost), if_idempotent(s)),
        End::Late => verdict(Row::D7, Stay, Again::No),
        End::TimedOut => verdict(Row::D7, Unknown(Doubt::Timeout), Again::No),
        End::Cut(answer) => cut(s, answer),
        End::Answered(answer) => answered(s, answer),
        End::Stream => verdict(Row::D17, Bypass, Again::No),
        End::Shutdown => verdict(Row::D20, Unknown(Doubt::Shutdown), Again::No),
        End::OwnerLost => verdict(Row::D21, Unknown(Doubt::OwnerLost), Again::No),
        End::NotStored => verdict(Row::D22, Stay, Again::No),
    }
}

/// An answer of which only the head is there: what the application said in it still holds.
fn cut(s: &Settings, answer: &Answer) -> Verdict {
    match answer.application {
        Some(said) => application(s, said, Body::TooLarge, answer.no_store && s.honor_no_store),
        None => {
            Verdict { action: open(s, Doubt::AnswerCut), again: if_idempotent(s), row: Row::D8 }
        }
    }
}

fn answered(s: &Settings, answer: &Answer) -> Verdict {
    let bare = answer.no_store && s.honor_no_store;
    if let Some(said) = answer.application {
        return application(s, said, answer.body, bare);
    }
    let verdict = match answer.grpc {
        // A call's HTTP status is 200 whatever became of it; another one was made on the way.
        Grpc::Status(code) if answer.status == 200 => grpc(s, code),
        Grpc::Missing if answer.status == 200 => return cut(s, answer),
        Grpc::No | Grpc::Missing | Grpc::Status(_) => status(s, answer),
    };
    kept(verdict, answer.body, bare)
}

fn application(s: &Settings, said: Application, body: Body, bare: bool) -> Verdict {
    let (action, again) = match said {
        Application::Final => (Action::Store { indeterminate: false }, Again::No),
        Application::NotExecuted => (Action::Release, Again::Yes),
        Application::Unknown => (open(s, Doubt::Application), if_idempotent(s)),
    };
    let decided = kept(Verdict { action, again, row: Row::D1 }, body, bare);
    Verdict { row: Row::D1, ..decided }
}

/// What is stored of an answer whose body cannot be kept is its status (D17, D18).
const fn kept(verdict: Verdict, body: Body, bare: bool) -> Verdict {
    let Action::Store { indeterminate } = verdict.action else { return verdict };
    let action = Action::StoreBare { indeterminate };
    match body {
        Body::Streaming => Verdict { action, again: Again::No, row: Row::D17 },
        Body::TooLarge => Verdict { action, row: Row::D18, ..verdict },
        Body::Whole if bare => Verdict { action, ..verdict },
        Body::Whole => verdict,
    }
}

fn status(s: &Settings, answer: &Answer) -> Verdict {
    let Answer { status, retry_after, .. } = *answer;
    let verdict = |row, action, again| Verdict { action, again, row };
    let store = Action::Store { indeterminate: false };
    let unknown = || (open(s, Doubt::Answer), if_idempotent(s));
    let natural = row_of(status, retry_after);
    let listed = |list: &[super::super::health_check::StatusRange]| {
        list.iter().any(|range| range.contains(status))
    };
    // The one that can never lead to a second execution comes first.
    if answer.conflict {
        return verdict(Row::D16, open(s, Doubt::Answer), Again::AfterWait);
    }
    if listed(&s.unknown_statuses) {
        let (action, again) = unknown();
        return verdict(natural, action, again);
    }
    if listed(&s.store_statuses) {
        return verdict(natural, store, Again::No);
    }
    if listed(&s.release_statuses) {
        return verdict(natural, Action::Release, Again::AfterWait);
    }
    let (action, again) = match natural {
        Row::D9 | Row::D12 | Row::D17 => (store, Again::No),
        // To a request that changes something, "not modified" says nothing.
        Row::D10 if status == 304 => unknown(),
        Row::D10 => (store, Again::No),
        Row::D11 if matches!(status, 408 | 421 | 425) => (Action::Release, Again::Yes),
        Row::D11 => (Action::Release, Again::No),
        Row::D13 => server_error(s),
        Row::D14 => (Action::Release, Again::AfterWait),
        _ => unknown(),
    };
    let decided = verdict(natural, action, again);
    if natural == Row::D17 { kept(decided, Body::Streaming, false) } else { decided }
}

/// The row that a status belongs to when nothing else is said of it.
const fn row_of(status: u16, retry_after: bool) -> Row {
    match status {
        0..=199 => Row::D17,
        200..=299 => Row::D9,
        300..=399 => Row::D10,
        401 | 403 | 407 | 408 | 421 | 423 | 425 | 429 => Row::D11,
        400..=499 => Row::D12,
        503 if retry_after => Row::D14,
        502..=504 => Row::D15,
        500..=599 => Row::D13,
        _ => Row::D15,
    }
}

fn grpc(s: &Settings, code: u16) -> Verdict {
    let (row, (action, again)) = match code {
        0 | 3 | 5 | 6 | 9 | 11 | 12 => {
            (Row::D23, (Action::Store { indeterminate: false }, Again::No))
        }
        7 | 16 => (Row::D24, (Action::Release, Again::No)),
        8 | 10 => (Row::D24, (Action::Release, Again::AfterWait)),
        1 | 4 | 14 => (Row::D26, (open(s, Doubt::Answer), if_idempotent(s))),
        _ => (Row::D25, server_error(s)),
    };
    Verdict { action, again, row }
}

fn server_error(s: &Settings) -> (Action, Again) {
    match s.on_5xx {
        On5xx::Store => (Action::Store { indeterminate: true }, if_idempotent(s)),
        On5xx::Unknown => (open(s, Doubt::Answer), if_idempotent(s)),
        On5xx::Release => (Action::Release, Again::Yes),
    }
}

/// Nobody knows; where the upstream recognises the key, it can be asked again.
const fn open(s: &Settings, doubt: Doubt) -> Action {
    if s.upstream_idempotent { Action::Retryable(doubt) } else { Action::Doubt(doubt) }
}

const fn if_idempotent(s: &Settings) -> Again {
    if s.upstream_idempotent { Again::Yes } else { Again::No }
}

#[cfg(test)]
mod tests;
