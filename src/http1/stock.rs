//! What the connections of one thread share: buffers that no connection holds between requests, and
//! the date.

use std::cell::{Cell, RefCell};

use bytes::BytesMut;

/// The most buffers of a kind that are kept: as many as connections of a thread usually read or
/// write at once. More are made and given up as they are needed.
const KEPT_MAX: usize = 64;
/// Room for the head of a usual answer and a short body.
const WRITE_ROOM: usize = 2 * 1024;
/// A buffer that has grown beyond this is not kept.
const WRITE_KEPT_MAX: usize = 16 * 1024;
/// The length of a date in a header field (RFC 9110, 5.6.7).
const DATE_BYTES: usize = 29;

/// What the connections of one thread share.
#[derive(Debug, Default)]
pub struct Stock {
    reads: RefCell<Vec<BytesMut>>,
    writes: RefCell<Vec<Vec<u8>>>,
    date: Cell<[u8; DATE_BYTES]>,
}

impl Stock {
    /// A buffer to read into; it may have no room yet.
    #[must_use]
    pub fn read_buffer(&self) -> BytesMut {
        self.reads.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    pub fn give_read_buffer(&self, buffer: BytesMut) {
        give(&self.reads, buffer);
    }

    /// An empty buffer to write an answer into.
    #[must_use]
    pub fn write_buffer(&self) -> Vec<u8> {
        self.writes.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(WRITE_ROOM))
    }

    /// Takes a buffer back.
    pub fn give_write_buffer(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= WRITE_KEPT_MAX {
            buffer.clear();
            give(&self.writes, buffer);
        }
    }

    /// The date, as header fields write it; told anew several times a second.
    #[must_use]
    pub fn date(&self) -> [u8; DATE_BYTES] {
        self.date.get()
    }

    /// Tells the date, as header fields write it.
    pub fn set_date(&self, date: &str) {
        if let Ok(date) = date.as_bytes().try_into() {
            self.date.set(date);
        }
    }
}

fn give<T>(kept: &RefCell<Vec<T>>, buffer: T) {
    let mut kept = kept.borrow_mut();
    if kept.len() < KEPT_MAX {
        kept.push(buffer);
    }
}
