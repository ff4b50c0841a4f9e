//! The frames in a byte stream of HTTP/2, as it passes by in pieces of any size.
//!
//! Reads headers of frames, and the few first bytes of those payloads that say something here; it
//! copies nothing else, holds a few bytes, and judges nothing: whether frames are valid is for the
//! protocol library to say, which reads the same bytes.

/// The length of a frame's header (RFC 9113, 4.1).
const HEADER: usize = 9;
/// The most that is looked at of a payload: the code of a reset.
const LOOK: usize = 4;
/// What a client sends before its first frame (RFC 9113, 3.4).
const PREFACE: u32 = 24;

/// The types of frames that are told apart (RFC 9113, 6).
pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0;
    pub(in super::super) const HEADERS: u8 = 1;
    pub(in super::super) const RST_STREAM: u8 = 3;
    pub(in super::super) const SETTINGS: u8 = 4;
    pub(in super::super) const PING: u8 = 6;
    pub(in super::super) const GOAWAY: u8 = 7;
    pub(in super::super) const WINDOW_UPDATE: u8 = 8;
    pub(in super::super) const CONTINUATION: u8 = 9;
}

/// The flags of frames that are told apart.
mod flag {
    /// The last of its stream, or an acknowledgement.
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
    pub(super) const PADDED: u8 = 8;
}

/// A frame's header, and the beginning of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its type.
    pub(super) kind: u8,
    flags: u8,
    /// Its stream; 0 = the connection.
    pub(super) stream: u32,
    length: u32,
    first: [u8; LOOK],
}

impl Frame {
    /// Whether it is the last of its stream.
    pub(super) const fn ends_stream(&self) -> bool {
        self.flags & flag::END_STREAM != 0
    }

    /// Whether it acknowledges a frame of the other side.
    pub(super) const fn acknowledges(&self) -> bool {
        self.flags & flag::END_STREAM != 0
    }

    const fn ends_head(&self) -> bool {
        self.flags & flag::END_HEADERS != 0
    }

    /// Of a frame of data, whether there is none in it but padding.
    pub(super) const fn is_empty(&self) -> bool {
        if self.flags & flag::PADDED == 0 {
            return self.length == 0;
        }
        self.length <= 1 + self.first[0] as u32
    }

    /// Of a reset, its code; 0 when it is cut short.
    pub(super) const fn code(&self) -> u32 {
        u32::from_be_bytes(self.first)
    }

    /// How much of the payload is looked at.
    fn look(&self) -> usize {
        let most = match self.kind {
            kind::RST_STREAM => LOOK,
            kind::DATA if self.flags & flag::PADDED != 0 => 1,
            _ => 0,
        };
        most.min(self.length as usize)
    }
}

/// Where a byte stream stands between its frames.
#[derive(Clone, Debug)]
pub(super) struct Frames {
    /// The header of the frame that is read, and the beginning of its payload.
    begun: [u8; HEADER + LOOK],
    have: usize,
    need: usize,
    /// What is left of a payload, or of the preface.
    left: u32,
    /// The stream whose head is not whole yet.
    head_of: Option<u32>,
    /// The stream of the last head of which all frames have begun.
    head_ends: u32,
    /// The highest stream of which a head came whole.
    last_stream: u32,
    /// Frames, or heads of more than one, that came whole.
    whole: u64,
}

impl Frames {
    /// A stream that begins with a client's preface.
    pub(super) const fn of_client() -> Self {
        Self { left: PREFACE, ..Self::of_server() }
    }

    /// A stream that begins with a frame.
    pub(super) const fn of_server() -> Self {
        Self {
            begun: [0; HEADER + LOOK],
            have: 0,
            need: HEADER,
            left: 0,
            head_of: None,
            head_ends: 0,
            last_stream: 0,
            whole: 0,
        }
    }

    /// Passes over what comes next, and shows each frame once so much of it has come as is looked
    /// at.
    pub(super) fn pass(&mut self, mut bytes: &[u8], mut seen: impl FnMut(&Frame)) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let length = bytes.len().min(self.left as usize);
                bytes = bytes.get(length..).unwrap_or_default();
                self.left = self.left.saturating_sub(u32::try_from(length).unwrap_or(u32::MAX));
                self.count_whole();
                continue;
            }
            let length = bytes.len().min(self.need.saturating_sub(self.have));
            let (taken, rest) = bytes.split_at(length);
            if let Some(place) = self.begun.get_mut(self.have..self.have + length) {
                place.copy_from_slice(taken);
            }
            self.have += length;
            bytes = rest;
            if self.have < self.need {
                return;
            }
            let frame = self.frame();
            if self.need == HEADER && frame.look() > 0 {
                self.need += frame.look();
                continue;
            }
            self.left = frame.length.saturating_sub(u32::try_from(frame.look()).unwrap_or(0));
            self.have = 0;
            self.need = HEADER;
            self.follow_head(&frame);
            self.count_whole();
            seen(&frame);
        }
    }

    /// The frame whose beginning has been read.
    fn frame(&self) -> Frame {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3, first @ ..] = self.begun;
        let looked = self.need - HEADER;
        let mut first = first;
        for byte in first.iter_mut().skip(looked) {
            *byte = 0;
        }
        Frame {
            kind,
            flags,
            // The highest bit is reserved, and nobody looks at it.
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
            length: u32::from_be_bytes([0, l0, l1, l2]),
            first,
        }
    }

    fn follow_head(&mut self, frame: &Frame) {
        match frame.kind {
            kind::HEADERS => self.head_of = Some(frame.stream),
            kind::CONTINUATION => {}
            _ => return,
        }
        if frame.ends_head()
            && let Some(stream) = self.head_of.take()
        {
            self.head_ends = stream;
        }
    }

    fn count_whole(&mut self) {
        if self.is_between() {
            self.last_stream = self.last_stream.max(self.head_ends);
            self.whole = self.whole.wrapping_add(1);
        }
    }

    /// How many bytes there are to the end of the frame, as far as it is known; 0 between two
    /// frames.
    pub(super) const fn to_end(&self) -> usize {
        match self.have {
            0 => self.left as usize,
            have => self.need.saturating_sub(have),
        }
    }

    /// Whether nothing of a frame, and of no head, has come without its end.
    pub(super) const fn is_between(&self) -> bool {
        self.to_end() == 0 && self.head_of.is_none()
    }

    /// The highest stream of which a head came whole.
    pub(super) const fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// Changes whenever a frame, or a head of more than one, has come whole.
    pub(super) const fn whole(&self) -> u64 {
        self.whole
    }
}

#[cfg(test)]
mod tests;
