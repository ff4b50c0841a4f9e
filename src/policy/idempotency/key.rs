//! The key of a request, as its field says it.
//!
//! The field is one String of RFC 9651, section 3.3.3 (draft-ietf-httpapi-idempotency-key-header,
//! section 2.1): `"8e03978e-40d5-43dd-bc93-6894a57f9324"`. What clients commonly send instead, the
//! same without quotes, is taken as well and is the same key. Everything else is refused rather
//! than guessed at: whoever sent `a, b` meant something that a key cannot say, and two requests
//! that the proxy reads alike and their sender does not would be one operation.

use std::fmt;

/// The longest key, decoded.
pub const LONGEST: usize = 255;

/// A key, decoded: 1 to [`LONGEST`] bytes from 0x20 to 0x7E.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key(Box<[u8]>);

/// Why a field holds no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// The field is there more than once.
    Repeated,
    /// There is nothing in it.
    Empty,
    /// It is longer than [`LONGEST`].
    TooLong,
    /// It has several values.
    List,
    /// It has a character that a key cannot have.
    Character,
    /// It begins with a quote and does not end with one.
    Open,
    /// Something stands behind the closing quote.
    Trailing,
}

impl Invalid {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Repeated,
        Self::Empty,
        Self::TooLong,
        Self::List,
        Self::Character,
        Self::Open,
        Self::Trailing,
    ];

    /// What is wrong, in a sentence for the one who sent it.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Repeated => "The field is there more than once; a request has one key.",
            Self::Empty => "The key is empty.",
            Self::TooLong => "The key is longer than 255 characters.",
            Self::List => "The field holds a list; a request has one key.",
            Self::Character => {
                "The key has a character that it cannot have: write visible ASCII, in quotes if it \
                 has spaces, commas, semicolons or backslashes."
            }
            Self::Open => "The key begins with a quote that is not closed.",
            Self::Trailing => "Something stands behind the key's closing quote.",
        }
    }
}

impl Key {
    /// Reads the key from all lines of its field, in their order; nothing when there are none.
    ///
    /// # Errors
    /// When there is a field that holds no key.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<Self>, Invalid> {
        let mut lines = lines.into_iter();
        let Some(line) = lines.next() else { return Ok(None) };
        if lines.next().is_some() {
            return Err(Invalid::Repeated);
        }
        let text = trim(line);
        let decoded = match text {
            [] => return Err(Invalid::Empty),
            [b'"', rest @ ..] => quoted(rest)?,
            bare => self::bare(bare)?,
        };
        match decoded.len() {
            0 => Err(Invalid::Empty),
            1..=LONGEST => Ok(Some(Self(decoded))),
            _ => Err(Invalid::TooLong),
        }
    }

    /// The decoded bytes: what the record's name and the key's age are made of.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key as the value of its field: a String of RFC 9651, section 4.1.6.
    #[must_use]
    pub fn to_field(&self) -> Vec<u8> {
        let mut field = Vec::with_capacity(self.0.len() + 2);
        field.push(b'"');
        for byte in &self.0 {
            if matches!(byte, b'"' | b'\\') {
                field.push(b'\\');
            }
            field.push(*byte);
        }
        field.push(b'"');
        field
    }
}

/// Without the spaces and tabs around it, which are no part of a field's value (RFC 9110, 5.5).
fn trim(line: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let from = line.iter().position(|byte| !blank(byte)).unwrap_or(line.len());
    let to = line.iter().rposition(|byte| !blank(byte)).map_or(from, |last| last + 1);
    line.get(from..to).unwrap_or_default()
}

/// What stands behind an opening quote.
fn quoted(text: &[u8]) -> Result<Box<[u8]>, Invalid> {
    let mut decoded = Vec::with_capacity(text.len().min(LONGEST));
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        let plain = match byte {
            b'"' => {
                return match trim(bytes.as_slice()) {
                    [] => Ok(decoded.into_boxed_slice()),
                    [b',', ..] => Err(Invalid::List),
                    _ => Err(Invalid::Trailing),
                };
            }
            b'\\' => match bytes.next() {
                Some(escaped @ (b'"' | b'\\')) => *escaped,
                Some(_) => return Err(Invalid::Character),
                None => return Err(Invalid::Open),
            },
            0x20..=0x7e => *byte,
            _ => return Err(Invalid::Character),
        };
        decoded.push(plain);
    }
    Err(Invalid::Open)
}

/// A key without quotes: visible ASCII but for what has a meaning in structured fields.
fn bare(text: &[u8]) -> Result<Box<[u8]>, Invalid> {
    for byte in text {
        match byte {
            b',' => return Err(Invalid::List),
            b'"' | b';' | b'\\' => return Err(Invalid::Character),
            0x21..=0x7e => {}
            _ => return Err(Invalid::Character),
        }
    }
    Ok(text.into())
}

impl fmt::Debug for Key {
    /// Its length alone: who knows a key can read its answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests;
