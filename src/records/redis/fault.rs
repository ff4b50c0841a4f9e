//! What an error of the server, or of the way to it, says about what was done.
//!
//! A script writes at its end, so an error that the server answers with means that nothing was
//! changed. Silence says nothing.

use redis::{ErrorKind, RedisError, ServerError, ServerErrorKind, Value};

use crate::records::{Cause, Fault, Kind};

/// What is to be done about an answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is one.
    Is(Value),
    /// The server does not know the script: it was restarted or told to forget.
    NoScript,
    /// Another node has the record, for good or for one question.
    Elsewhere {
        /// Where, as the server says it: `host:port`.
        address: Box<str>,
        /// Only this once.
        ask: bool,
    },
    /// The server has no room for what is new.
    Full(Cause),
    /// It refused.
    Refused(Cause),
    /// Nobody knows.
    Silent(Cause),
}

/// Reads what came of one command.
pub(super) fn answer(came: Result<Value, RedisError>) -> Answer {
    match came {
        Ok(Value::ServerError(error)) => refused(&error),
        Ok(value) => Answer::Is(value),
        Err(error) => failed(&error),
    }
}

fn refused(error: &ServerError) -> Answer {
    of_server(error.kind(), error.code(), error.details().unwrap_or_default())
}

fn failed(error: &RedisError) -> Answer {
    match error.kind() {
        ErrorKind::Server(kind) => {
            let code = error.code().unwrap_or_default();
            of_server(Some(kind), code, error.detail().unwrap_or_default())
        }
        ErrorKind::Extension => {
            let code = error.code().unwrap_or_default();
            of_server(None, code, error.detail().unwrap_or_default())
        }
        _ => Answer::Silent(lost(error)),
    }
}

/// What is told of an error on the way. The client's words hold no password.
pub(super) fn lost(error: &RedisError) -> Cause {
    match error.kind() {
        ErrorKind::AuthenticationFailed => Cause::new(
            Kind::Unfit,
            "the server refuses the user or the password of `url`; give those of its ACL",
        ),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Cause::new(Kind::Protocol, error),
        _ if error.is_timeout() => Cause::new(Kind::Timeout, "no answer came in time"),
        _ => Cause::new(Kind::ConnectionLost, error),
    }
}

fn of_server(kind: Option<ServerErrorKind>, code: &str, details: &str) -> Answer {
    // Servers before 7.0 put a script's error into their own words.
    let says = |word: &str| code == word || details.contains(&format!("-{word} "));
    let told = |kind, what: &str| Answer::Refused(Cause::new(kind, format!("{code}: {what}")));
    match kind {
        Some(ServerErrorKind::NoScript) => return Answer::NoScript,
        Some(ServerErrorKind::Moved | ServerErrorKind::Ask) => {
            let ask = kind == Some(ServerErrorKind::Ask);
            let address = details.split(' ').next_back().unwrap_or_default().into();
            return Answer::Elsewhere { address, ask };
        }
        Some(ServerErrorKind::NoPerm) => {
            let what = "the user of `url` may not run this; grant its ACL EVALSHA, EVAL, INFO, \
                        SCAN, WAIT and the commands of hashes on the prefix";
            return told(Kind::Unfit, what);
        }
        _ => {}
    }
    if says("OOM") || details.contains("OOM command not allowed") {
        let what = "the server has reached its maxmemory; raise it, or shorten the retention";
        return Answer::Full(Cause::new(Kind::Full, format!("OOM: {what}")));
    }
    for (word, kind, what) in REFUSALS {
        if says(word) {
            return told(kind, what);
        }
    }
    told(Kind::Protocol, details)
}

/// Errors by their code, what they are to us, and what they mean.
const REFUSALS: [(&str, Kind, &str); 12] = [
    ("READONLY", Kind::Unavailable, "the server is a replica now"),
    ("LOADING", Kind::Unavailable, "the server loads its data"),
    ("MASTERDOWN", Kind::Unavailable, "the server's primary is down"),
    ("CLUSTERDOWN", Kind::Unavailable, "the cluster does not serve all slots"),
    ("TRYAGAIN", Kind::Unavailable, "the record is being moved to another node"),
    ("BUSY", Kind::Unavailable, "the server runs a long script"),
    ("UNBLOCKED", Kind::Unavailable, "the server became a replica"),
    ("NOREPLICAS", Kind::Replicas, "the server has fewer replicas than min-replicas-to-write"),
    ("MISCONF", Kind::Io, "the server cannot save its data to disk, and says why in its log"),
    ("NOAUTH", Kind::Unfit, "the server wants a password; put it into `url`"),
    ("WRONGPASS", Kind::Unfit, "the server refuses the user or the password of `url`"),
    ("CROSSSLOT", Kind::Protocol, "a script named two slots"),
];

/// A fault of something that was never sent.
pub(super) fn unsent(kind: Kind, detail: &str) -> Fault {
    Fault::NotApplied(Cause::new(kind, detail))
}

#[cfg(test)]
mod tests;
