//! Does a client send more frames of HTTP/2 than any use of the protocol needs?
//!
//! Frames that cost their sender a few bytes and their receiver work or memory are counted, each
//! kind by itself: streams that are opened and reset at once (CVE-2023-44487), pings, settings,
//! continued heads, empty pieces of bodies, windows opened by next to nothing, and priorities
//! (CVE-2019-9511 to 9518). A kind has a rate: the generic cell rate algorithm (ITU-T I.371) lets a
//! second's worth of it come at once, and as many a second from there on. So nobody is taken for a
//! flood who sends no more than the rate in any second, and everybody is in the end who goes on
//! sending more.
//!
//! What frames look like on the wire, and how a connection is ended, is not here.

use std::time::{Duration, Instant};

/// The time over which a burst may be spread out.
const SECOND: Duration = Duration::from_secs(1);
/// Continuations in a second. A head of the usual 60 KiB needs three.
const CONTINUATIONS: u32 = 1000;
/// Empty pieces of bodies in a second that do not end them: they carry nothing at all.
const EMPTY: u32 = 100;
/// Openings of windows in a second which no data of ours has called for.
const OPENINGS: u32 = 1000;
/// Frames in a second that have no effect here: priorities, and kinds that are not known.
const IDLE: u32 = 1000;
/// A client may open the window of the stream and that of the connection for each piece of data.
const OPENINGS_FOR_DATA: u32 = 2;
/// So many openings may be called for ahead: a client may answer much data late, and at once.
const CALLED_FOR_MAX: u32 = 1 << 16;
/// The largest frame that we let clients send, bytes (RFC 9113, 4.2).
const FRAME: usize = 16 * 1024;

/// How many frames of a kind a client may send in a second; 1 to [`RATE_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Streams that it resets, or makes us reset.
    pub resets: u32,
    /// Pings.
    pub pings: u32,
    /// Settings.
    pub settings: u32,
    /// Continuations of one head; see [`continuations`].
    pub continuations: u32,
}

/// The highest rate that can be told apart from none, a second.
pub const RATE_MAX: u32 = 1_000_000;

/// In how many pieces a head of so many bytes may come beyond its first: as many frames of full
/// size, and a few more for who cuts them smaller.
#[must_use]
pub fn continuations(head_bytes: usize) -> u32 {
    let full = u32::try_from(head_bytes / FRAME).unwrap_or(u32::MAX).max(1);
    full.saturating_add(full / 4).max(5)
}

/// A frame, as far as it can be part of a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A stream was reset, by the client or for its fault.
    Reset,
    /// A ping that asks for an answer.
    Ping,
    /// Settings, not their acknowledgement.
    Settings,
    /// A head began.
    Head,
    /// A head went on.
    Continuation,
    /// A piece of a body without a byte, and not the last.
    EmptyData,
    /// A window was opened.
    WindowUpdate,
    /// A frame without effect here.
    Idle,
}

/// What a flood consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// Streams opened and reset.
    Resets,
    /// Pings.
    Pings,
    /// Settings.
    Settings,
    /// Continuations, of one head or many.
    Continuations,
    /// Pieces of bodies without a byte.
    EmptyData,
    /// Windows opened by next to nothing.
    WindowUpdates,
    /// Frames without effect.
    Idle,
    /// What the protocol library alone can see.
    Other,
}

impl Flood {
    /// Every kind, in the order of declaration.
    pub const ALL: [Self; 8] = [
        Self::Resets,
        Self::Pings,
        Self::Settings,
        Self::Continuations,
        Self::EmptyData,
        Self::WindowUpdates,
        Self::Idle,
        Self::Other,
    ];

    /// The spelling in labels, logs and in what the client is told.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resets => "resets",
            Self::Pings => "pings",
            Self::Settings => "settings",
            Self::Continuations => "continuations",
            Self::EmptyData => "empty_data",
            Self::WindowUpdates => "window_updates",
            Self::Idle => "idle_frames",
            Self::Other => "other",
        }
    }
}

/// The frames of one connection.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    resets: Rate,
    pings: Rate,
    settings: Rate,
    continuations: Rate,
    empty: Rate,
    openings: Rate,
    idle: Rate,
    /// Continuations of the head that is under way.
    of_head: u32,
    /// Openings of windows that data of ours has called for and that have not come.
    called_for: u32,
}

impl Frames {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a frame; the flood that it is part of, if it is one too many.
    pub fn count(&mut self, settings: &Settings, sign: Sign, now: Instant) -> Option<Flood> {
        let (rate, most, flood) = match sign {
            Sign::Head => {
                self.of_head = 0;
                return None;
            }
            Sign::WindowUpdate if self.called_for > 0 => {
                self.called_for -= 1;
                return None;
            }
            Sign::Continuation => {
                self.of_head = self.of_head.saturating_add(1);
                if self.of_head > settings.continuations {
                    return Some(Flood::Continuations);
                }
                (&mut self.continuations, CONTINUATIONS, Flood::Continuations)
            }
            Sign::Reset => (&mut self.resets, settings.resets, Flood::Resets),
            Sign::Ping => (&mut self.pings, settings.pings, Flood::Pings),
            Sign::Settings => (&mut self.settings, settings.settings, Flood::Settings),
            Sign::EmptyData => (&mut self.empty, EMPTY, Flood::EmptyData),
            Sign::WindowUpdate => (&mut self.openings, OPENINGS, Flood::WindowUpdates),
            Sign::Idle => (&mut self.idle, IDLE, Flood::Idle),
        };
        (!rate.conforms(most, now)).then_some(flood)
    }

    /// A piece of data went to the client, which may open windows for it.
    pub fn sent_data(&mut self) {
        self.called_for = (self.called_for + OPENINGS_FOR_DATA).min(CALLED_FOR_MAX);
    }
}

/// When the next event would come if they came evenly; none before the first.
#[derive(Clone, Copy, Debug, Default)]
struct Rate(Option<Instant>);

impl Rate {
    /// Takes an event that came now, and tells whether there are no more than so many a second.
    fn conforms(&mut self, most: u32, now: Instant) -> bool {
        let due = self.0.filter(|due| *due > now).unwrap_or(now);
        let next = due + SECOND / most.max(1);
        let conforms = next.saturating_duration_since(now) <= SECOND;
        if conforms {
            self.0 = Some(next);
        }
        conforms
    }
}

#[cfg(test)]
mod tests;
