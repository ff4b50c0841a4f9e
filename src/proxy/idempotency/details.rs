//! The details of a gRPC status: `google.rpc.Status` with an `ErrorInfo` and, where waiting helps, a
//! `RetryInfo`, in protobuf's wire format and base64, as `grpc-status-details-bin` carries them.
//!
//! Four small messages whose form is fixed: written by hand, so that no generated code is needed.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::policy::idempotency::problem::Code;

/// Who is speaking, in `ErrorInfo.domain`.
const DOMAIN: &str = "outrigger";
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// The details of a status; `reason` is the proxy's own word for it.
#[must_use]
pub(super) fn status(code: Code, message: &str, reason: &str, wait: Option<Duration>) -> String {
    let mut status = Message::default();
    status.number(1, u64::from(code.grpc()));
    status.bytes(2, message.as_bytes());
    status.bytes(3, &any(ERROR_INFO, &error_info(code, reason)));
    if let Some(wait) = wait {
        status.bytes(3, &any(RETRY_INFO, &retry_info(wait)));
    }
    STANDARD_NO_PAD.encode(status.0)
}

fn any(kind: &str, value: &[u8]) -> Vec<u8> {
    let mut any = Message::default();
    any.bytes(1, kind.as_bytes());
    any.bytes(2, value);
    any.0
}

fn error_info(code: Code, reason: &str) -> Vec<u8> {
    let mut info = Message::default();
    info.bytes(1, code.as_str().as_bytes());
    info.bytes(2, DOMAIN.as_bytes());
    let facts = [
        ("reason", reason),
        ("retry_same_key", code.retry_same_key().as_str()),
        ("new_key_safe", if code.new_key_safe() { "true" } else { "false" }),
    ];
    for (name, value) in facts {
        let mut entry = Message::default();
        entry.bytes(1, name.as_bytes());
        entry.bytes(2, value.as_bytes());
        info.bytes(3, &entry.0);
    }
    info.0
}

fn retry_info(wait: Duration) -> Vec<u8> {
    let mut duration = Message::default();
    duration.number(1, wait.as_secs());
    duration.number(2, u64::from(wait.subsec_nanos()));
    let mut info = Message::default();
    info.bytes(1, &duration.0);
    info.0
}

/// A message in protobuf's wire format, field by field.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// A field of the wire type VARINT; left out when it is 0, as proto3 has it.
    fn number(&mut self, field: u8, value: u64) {
        if value > 0 {
            self.0.push(field << 3);
            self.varint(value);
        }
    }

    /// A field of the wire type LEN.
    fn bytes(&mut self, field: u8, value: &[u8]) {
        self.0.push((field << 3) | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests;
