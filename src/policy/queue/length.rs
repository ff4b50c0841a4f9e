//! How many may wait, as it is written: a number, or a share of the limit.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::MAX_LENGTH;
use crate::units::Factor;

/// How many may wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// So many.
    Count(u32),
    /// So many times the limit, and at least [`LEAST`], unless it is 0 %.
    Share(Factor),
}

/// The least length that a share of the limit stands for. Requests arrive in bunches, and twice a
/// small limit is shorter than these are: of a tier that asks for three quarters of four workers,
/// one request in a thousand finds more than ten others waiting, and once in a while a tier would
/// be refused that has its places.
pub const LEAST: u32 = 32;

const WANTED: &str = "a number such as 16, or a share of the limit such as 200%";

impl Length {
    /// How many may wait in front of this limit.
    #[must_use]
    pub fn of(self, limit: u32) -> usize {
        let length = match self {
            Self::Count(count) => count,
            Self::Share(share) if share.get() > 0.0 => {
                ((f64::from(limit) * share.get()).ceil() as u32).max(LEAST)
            }
            Self::Share(_) => 0,
        };
        length.min(MAX_LENGTH) as usize
    }
}

impl FromStr for Length {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim_end().ends_with('%') {
            return text.parse().map(Self::Share);
        }
        let count = text.trim().parse();
        count.map(Self::Count).map_err(|_| format!("`{text}` is not a length; write {WANTED}"))
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Share(share) => share.fmt(f),
        }
    }
}

impl Serialize for Length {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => to.serialize_u32(*count),
            Self::Share(share) => share.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Written;
        impl de::Visitor<'_> for Written {
            type Value = Length;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(WANTED)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Length, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Length, E> {
                let count = u32::try_from(count);
                count.map(Length::Count).map_err(|_| E::custom(format!("{WANTED} is needed")))
            }
            fn visit_i64<E: de::Error>(self, count: i64) -> Result<Length, E> {
                let count = u32::try_from(count);
                count.map(Length::Count).map_err(|_| E::custom(format!("{WANTED} is needed")))
            }
        }
        from.deserialize_any(Written)
    }
}

impl schemars::JsonSchema for Length {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "QueueLength".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "integer"],
            "pattern": "^[0-9.]+ *%?$",
            "minimum": 0,
            "maximum": u32::MAX,
            "description": WANTED
        })
    }
}
