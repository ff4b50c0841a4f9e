//! The thread that writes the access log.
//!
//! Workers append whole lines to a bounded buffer, under a lock that is held for one copy, and
//! never wait for the destination. The thread takes the whole buffer at once and writes it in one
//! call, so that lines gather while it is busy. When the buffer is full a line is dropped and
//! counted.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::Access;
use crate::config::telemetry::{AccessLogTo, Format};
use crate::telemetry::metrics::Counter;

/// The most bytes that wait to be written, about 3000 lines of 350 bytes: enough for the reader to
/// pause for 100 ms at 30 000 lines a second. As much again may be in the thread's hands.
const WAITING_MAX: usize = 1 << 20;

/// Where a batch of lines is written.
pub(super) type Sink = Box<dyn FnMut(AccessLogTo, &[u8]) -> io::Result<()> + Send>;

/// The access log. Dropping it ends its thread once all waiting lines are written; [`Self::close`]
/// waits for that.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Tells the thread that there is a line or that the log is closed.
    wake: Condvar,
    /// Tells who closes that the thread has written everything.
    done: Condvar,
    /// Lines that were lost.
    dropped: Arc<Counter>,
}

#[derive(Debug)]
struct Queue {
    waiting: String,
    lines: u64,
    to: AccessLogTo,
    /// The thread waits, so it has to be woken.
    idle: bool,
    closed: bool,
    done: bool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offer(&self, line: &str) {
        let mut queue = self.queue();
        if queue.closed || line.len() > WAITING_MAX - queue.waiting.len() {
            drop(queue);
            self.dropped.inc();
            return;
        }
        queue.waiting.push_str(line);
        queue.lines += 1;
        let wake = std::mem::take(&mut queue.idle);
        drop(queue);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Exchanges the waiting lines for an empty buffer; `None` once the log is closed and drained.
    fn take(&self, batch: &mut String) -> Option<(u64, AccessLogTo)> {
        let mut queue = self.queue();
        while queue.waiting.is_empty() {
            if queue.closed {
                return None;
            }
            queue.idle = true;
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.idle = false;
        std::mem::swap(&mut queue.waiting, batch);
        Some((std::mem::take(&mut queue.lines), queue.to))
    }

    fn run(&self, mut sink: Sink) {
        let mut batch = String::with_capacity(WAITING_MAX);
        let mut failing = false;
        while let Some((lines, to)) = self.take(&mut batch) {
            match sink(to, batch.as_bytes()) {
                Ok(()) => failing = false,
                Err(error) => {
                    // Part of the batch may have been written; all of it counts as lost.
                    self.dropped.add(lines);
                    if !failing {
                        tracing::warn!(%error, "the access log cannot be written; lines are lost");
                    }
                    failing = true;
                }
            }
            batch.clear();
        }
    }

    fn close(&self) {
        self.queue().closed = true;
        self.wake.notify_one();
    }
}

impl AccessLog {
    /// Starts the thread. Lost lines are counted.
    ///
    /// # Errors
    /// When the system has no thread left to give.
    pub fn start(to: AccessLogTo, dropped: Arc<Counter>) -> io::Result<Self> {
        Self::with_sink(to, dropped, Box::new(write_standard))
    }

    pub(super) fn with_sink(
        to: AccessLogTo,
        dropped: Arc<Counter>,
        sink: Sink,
    ) -> io::Result<Self> {
        let queue = Queue {
            waiting: String::with_capacity(WAITING_MAX),
            lines: 0,
            to,
            idle: false,
            closed: false,
            done: false,
        };
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            wake: Condvar::new(),
            done: Condvar::new(),
            dropped,
        });
        let of_thread = Arc::clone(&shared);
        thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            of_thread.run(sink);
            of_thread.queue().done = true;
            of_thread.done.notify_all();
        })?;
        Ok(Self { shared })
    }

    /// Writes from now on to another destination; lines that still wait go there too.
    pub fn set_destination(&self, to: AccessLogTo) {
        self.shared.queue().to = to;
    }

    /// Hands a line to the thread. Never waits for the destination, and allocates nothing once the
    /// calling thread has written a line as long as this one.
    pub fn write(&self, format: Format, access: &Access<'_>) {
        thread_local! {
            static LINE: RefCell<String> = const { RefCell::new(String::new()) };
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            access.render(format, line);
            self.shared.offer(line);
        });
    }

    /// Takes no more lines and waits until all that were taken are written, at most this long;
    /// false when the time was not enough. Blocks the calling thread.
    #[must_use]
    pub fn close(&self, at_most: Duration) -> bool {
        self.shared.close();
        let queue = self.shared.queue();
        let waited = self.shared.done.wait_timeout_while(queue, at_most, |queue| !queue.done);
        waited.unwrap_or_else(PoisonError::into_inner).0.done
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.close();
    }
}

fn write_standard(to: AccessLogTo, lines: &[u8]) -> io::Result<()> {
    match to {
        AccessLogTo::Stdout => {
            let mut out = io::stdout().lock();
            out.write_all(lines)?;
            out.flush()
        }
        AccessLogTo::Stderr => io::stderr().lock().write_all(lines),
        AccessLogTo::None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
