//! Units of the configuration file: lengths of time, shares, sizes and rates.
//!
//! Each is written with its unit (`250ms`, `20%`, `64KiB`, `100/s`) and is a type of its own here,
//! so that no setting is a bare number whose unit the reader has to guess. A value out of range is
//! an error when the file is read, at its line.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

/// Implements serde and the JSON Schema of a type by its `FromStr` and `Display`. A form that YAML
/// reads as a number is matched by the number's own pattern, in digits, where the type has one.
macro_rules! text_value {
    ($type:ty, $name:literal, $pattern:literal, $what:literal) => {
        crate::units::text_value!(@serde $type, $what);
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string", "pattern": $pattern, "description": $what
                })
            }
        }
    };
    ($type:ty, $name:literal, $pattern:literal, $what:literal, $least:literal..=$most:literal) => {
        crate::units::text_value!(@serde $type, $what);
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": ["string", "integer"], "pattern": $pattern, "description": $what,
                    "minimum": $least, "maximum": $most
                })
            }
        }
    };
    (@serde $type:ty, $what:literal) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($what)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                from.deserialize_str(Text)
            }
        }
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
    };
}
pub(crate) use text_value;

/// A length of time in the configuration: `250ms`, `2s`, `5m`, `24h`. At most 366 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Period(Duration);

/// The longest [`Period`], so that adding one to an instant cannot overflow.
const PERIOD_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

impl Period {
    /// A period of whole milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// A period of whole seconds.
    #[must_use]
    pub const fn from_secs(s: u64) -> Self {
        Self(Duration::from_secs(s))
    }

    /// The duration that it stands for.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl Deref for Period {
    type Target = Duration;
    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl FromStr for Period {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("`{text}` is not a length of time; write 250ms, 2s, 5m or 24h");
        let text_trimmed = text.trim();
        let digits = text_trimmed.find(|c: char| c != '.' && !c.is_ascii_digit());
        let (number, unit) = match digits {
            Some(at) => text_trimmed.split_at(at),
            None => (text_trimmed, ""),
        };
        let seconds = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "" if number == "0" => 1.0,
            _ => return Err(wanted()),
        };
        let number: f64 = number.parse().map_err(|_| wanted())?;
        let period = Duration::try_from_secs_f64((number * seconds * 1e9).round() / 1e9)
            .map_err(|_| wanted())?;
        if period > PERIOD_MAX {
            return Err(format!("`{text}` is longer than the longest period, 8784h"));
        }
        Ok(Self(period))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0.as_micros();
        if us == 0 {
            f.write_str("0s")
        } else if us.is_multiple_of(3_600_000_000) {
            write!(f, "{}h", us / 3_600_000_000)
        } else if us.is_multiple_of(60_000_000) {
            write!(f, "{}m", us / 60_000_000)
        } else if us.is_multiple_of(1_000_000) {
            write!(f, "{}s", us / 1_000_000)
        } else if us.is_multiple_of(1000) {
            write!(f, "{}ms", us / 1000)
        } else {
            write!(f, "{us}us")
        }
    }
}

/// A share between 0 % and 100 %, written `20%`; inside, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Default)]
pub struct Ratio(f64);

impl Ratio {
    /// A ratio of whole per cent; more than 100 is taken as 100.
    #[must_use]
    pub const fn percent(percent: u32) -> Self {
        Self(if percent > 100 { 1.0 } else { percent as f64 / 100.0 })
    }

    /// The share as a number from 0 to 1.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Ratio {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let value = parse_percent(text)?;
        if value > 1.0 {
            return Err(format!("`{text}` is more than 100%"));
        }
        Ok(Self(value))
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_percent(self.0, f)
    }
}

/// A factor that may pass 100 %, written `125%`; inside, 0 to 10.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Default)]
pub struct Factor(f64);

impl Factor {
    /// A factor of whole per cent; more than 1000 is taken as 1000.
    #[must_use]
    pub const fn percent(percent: u32) -> Self {
        Self(if percent > 1000 { 10.0 } else { percent as f64 / 100.0 })
    }

    /// The factor as a number from 0 to 10.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Factor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let value = parse_percent(text)?;
        if value > 10.0 {
            return Err(format!("`{text}` is more than 1000%"));
        }
        Ok(Self(value))
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_percent(self.0, f)
    }
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let wanted = || format!("`{text}` is not a share; write it in per cent, such as 20%");
    let number = text.trim().strip_suffix('%').ok_or_else(wanted)?.trim_end();
    if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(wanted());
    }
    Ok(number.parse::<f64>().map_err(|_| wanted())? / 100.0)
}

fn write_percent(value: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    // Rounded to a ten-thousandth of a per cent, so that 0.07 does not print as 7.000000000000001%.
    write!(f, "{}%", (value * 1e6).round() / 1e4)
}

/// A number of bytes, written `512B`, `64KiB`, `10MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ByteSize(u64);

const SIZE_UNITS: [(&str, u64); 4] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl ByteSize {
    /// A size of whole kibibytes.
    #[must_use]
    pub const fn kib(kib: u64) -> Self {
        Self(kib << 10)
    }

    /// A size of whole bytes.
    #[must_use]
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The size in bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The size in bytes as an index type; on a 32-bit machine the largest one.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("`{text}` is not a size; write 512B, 64KiB, 10MiB or 1GiB");
        let trimmed = text.trim();
        if trimmed == "0" {
            return Ok(Self(0));
        }
        for (unit, factor) in SIZE_UNITS {
            if let Some(number) = trimmed.strip_suffix(unit) {
                let number: u64 = number.trim_end().parse().map_err(|_| wanted())?;
                return number.checked_mul(factor).map(Self).ok_or_else(wanted);
            }
        }
        Err(wanted())
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in SIZE_UNITS {
            if self.0 != 0 && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// A number of events in a span of time, written `100/s`, `6000/min` or `10/h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Events per [`Rate::per`]; at least 1.
    pub events: u32,
    /// The span: one second, one minute or one hour.
    pub per: RateUnit,
}

/// The span of time of a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateUnit {
    /// `/s`
    Second,
    /// `/min`
    Minute,
    /// `/h`
    Hour,
}

impl RateUnit {
    /// The span as a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        })
    }
}

impl Rate {
    /// Events per second as a number.
    #[must_use]
    pub fn per_second(self) -> f64 {
        f64::from(self.events) / self.per.duration().as_secs_f64()
    }
}

impl FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("`{text}` is not a rate; write 100/s, 6000/min or 10/h");
        let (events, unit) = text.trim().split_once('/').ok_or_else(wanted)?;
        let events: u32 = events.trim().parse().map_err(|_| wanted())?;
        let per = match unit.trim() {
            "s" => RateUnit::Second,
            "min" => RateUnit::Minute,
            "h" => RateUnit::Hour,
            _ => return Err(wanted()),
        };
        if events == 0 {
            return Err(format!("`{text}` lets nothing pass; a rate is at least 1"));
        }
        Ok(Self { events, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per {
            RateUnit::Second => "s",
            RateUnit::Minute => "min",
            RateUnit::Hour => "h",
        };
        write!(f, "{}/{unit}", self.events)
    }
}

text_value!(
    Period,
    "Period",
    r"^([0-9.]+(us|ms|s|m|h)|0)$",
    "a length of time such as 250ms, 2s, 5m or 24h",
    0..=0
);
text_value!(Ratio, "Ratio", r"^[0-9.]+ *%$", "a share such as 20%, from 0% to 100%");
text_value!(Factor, "Factor", r"^[0-9.]+ *%$", "a factor such as 125%, from 0% to 1000%");
text_value!(
    ByteSize,
    "ByteSize",
    r"^([0-9]+ *(B|KiB|MiB|GiB)|0)$",
    "a size such as 512B, 64KiB, 10MiB or 1GiB",
    0..=0
);
text_value!(Rate, "Rate", r"^[0-9]+ */ *(s|min|h)$", "a rate such as 100/s, 6000/min or 10/h");

#[cfg(test)]
mod tests;
