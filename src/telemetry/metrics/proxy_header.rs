//! Headers of the PROXY protocol on a listener, by what came of each.

use super::cell::Counter;
use super::children::count;
use super::samples::Samples;
use crate::proxy_protocol::{Fault, Version};

/// What came of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderIn {
    /// Read, of this version.
    Read(Version),
    /// The bytes that came are none that is taken.
    Bad(Fault),
    /// Not whole in time.
    Timeout,
    /// The other side went away before it was whole.
    Closed,
    /// Given up because the process ends, or is short of what connections cost.
    Closing,
}

/// The spellings in labels.
const NAMES: [&str; 10] = [
    "v1",
    "v2",
    "absent",
    "malformed",
    "unsupported",
    "too_long",
    "checksum",
    "timeout",
    "closed",
    "closing",
];

impl HeaderIn {
    const fn place(self) -> usize {
        match self {
            Self::Read(Version::V1) => 0,
            Self::Read(Version::V2) => 1,
            Self::Bad(Fault::Absent) => 2,
            Self::Bad(Fault::Malformed) => 3,
            Self::Bad(Fault::Unsupported) => 4,
            Self::Bad(Fault::TooLong) => 5,
            Self::Bad(Fault::Checksum) => 6,
            Self::Timeout => 7,
            Self::Closed => 8,
            Self::Closing => 9,
        }
    }

    /// The spelling in labels and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        NAMES.get(self.place()).copied().unwrap_or_default()
    }
}

/// How often each came.
#[derive(Debug, Default)]
pub struct HeadersIn([Counter; NAMES.len()]);

impl HeadersIn {
    /// Counts a header, or what came instead.
    pub fn count(&self, came: HeaderIn) {
        count(&self.0, came.place());
    }

    pub(super) fn emit(&self, owner: &[&str], samples: &mut Samples) {
        for (counter, name) in self.0.iter().zip(NAMES) {
            samples.occurred(owner, name, counter.get());
        }
    }
}
