//! The details of a gRPC status: a `google.rpc.Status` in the wire format of Protocol Buffers and
//! in base64, as `grpc-status-details-bin` has it.

/// The domain of our codes in `google.rpc.ErrorInfo`.
pub(super) const DOMAIN: &str = "outrigger";

/// What the details say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Details<'a> {
    /// The status.
    pub code: u16,
    /// The message, the same as in `grpc-message`.
    pub message: &'a str,
    /// What happened, of a closed vocabulary.
    pub reason: &'a str,
    /// What else is known.
    pub known: &'a [(&'a str, Option<&'a str>)],
    /// After how many milliseconds it is worth trying again.
    pub wait: Option<u64>,
}

impl Details<'_> {
    /// The value of the field.
    pub(super) fn encode(&self) -> String {
        base64(&self.status())
    }

    /// A `google.rpc.Status` with a `google.rpc.ErrorInfo`, whose reason is in capitals as that
    /// asks for, and a `google.rpc.RetryInfo` where there is a wait.
    pub(super) fn status(&self) -> Vec<u8> {
        let mut info = Vec::new();
        let reason = self.reason.to_ascii_uppercase().replace('-', "_");
        field(&mut info, 1, reason.as_bytes());
        field(&mut info, 2, DOMAIN.as_bytes());
        for (key, value) in self.known.iter().filter_map(|(key, value)| Some((key, (*value)?))) {
            let mut entry = Vec::new();
            field(&mut entry, 1, key.as_bytes());
            field(&mut entry, 2, value.as_bytes());
            field(&mut info, 3, &entry);
        }
        let mut status = vec![1 << 3];
        varint(&mut status, u64::from(self.code));
        field(&mut status, 2, self.message.as_bytes());
        field(&mut status, 3, &any("google.rpc.ErrorInfo", &info));
        if let Some(millis) = self.wait {
            let mut duration = vec![1 << 3];
            varint(&mut duration, millis / 1000);
            duration.push(2 << 3);
            varint(&mut duration, millis % 1000 * 1_000_000);
            let mut retry = Vec::new();
            field(&mut retry, 1, &duration);
            field(&mut status, 3, &any("google.rpc.RetryInfo", &retry));
        }
        status
    }
}

fn any(name: &str, message: &[u8]) -> Vec<u8> {
    let mut any = Vec::new();
    field(&mut any, 1, format!("type.googleapis.com/{name}").as_bytes());
    field(&mut any, 2, message);
    any
}

/// A field with a length before it: a text, bytes or a message.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push((number << 3) | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Base64 without padding, as gRPC writes binary fields.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for digit in 0..=group.len() {
            let index = (bits >> (18 - 6 * digit)) & 0x3f;
            out.push(char::from(DIGITS.get(index as usize).copied().unwrap_or(b'A')));
        }
    }
    out
}

#[cfg(test)]
mod tests;
