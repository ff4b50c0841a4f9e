//! How many connections wait to be accepted on our listeners.
//!
//! The kernel tells it in its tables of TCP sockets, whose listening ones come first. To read on to
//! the end of a table makes the kernel walk through all connections there can be, which takes
//! milliseconds; to read one row takes microseconds. So a row is read where it was found, and when
//! other listening sockets, coming or going, have moved it, searched for: row by row for IPv4,
//! where all rows have one length, and seldom for IPv6, where they have not.

use std::path::Path;

use super::file::{Kept, STEP};

/// An accept queue of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The inode of the listening TCP socket, by which the kernel's table names it.
    pub inode: u64,
    /// Whether it is in the table for IPv6.
    pub v6: bool,
    /// How many connections were asked to be kept.
    pub backlog: u32,
}

/// The most that is read of a table: there may be the listening sockets of every other process on
/// the host's network.
const TABLE_MAX: usize = 64 * 1024;
/// The length of a row for IPv4, and of the line above them.
const ROW: usize = 150;
/// Looks between two searches of the table for IPv6: ten seconds.
const LOOKS_PER_SEARCH: u32 = 50;
/// The state of a listening socket in the table.
const LISTEN: &str = "0A";
/// Where a row has the socket's state, its queues and its inode.
const STATE: usize = 3;
const QUEUES: usize = 4;
const INODE: usize = 9;

/// The kernel's tables of TCP sockets, and which rows are ours.
pub(super) struct Queues {
    v4: Option<Kept>,
    v6: Option<Kept>,
    ours: Vec<Watched>,
}

/// A row of ours.
struct Watched {
    queue: Queue,
    found: Option<Place>,
    /// Looks until it may be searched for again.
    rest: u32,
}

/// Where a row stands: from which byte, and how many bytes.
#[derive(Clone, Copy)]
struct Place {
    from: usize,
    length: usize,
}

impl Queues {
    pub(super) fn open(proc: &Path, ours: Vec<Queue>) -> Self {
        // The kernel keeps no more than this, whatever was asked for.
        let most = Kept::open(&proc.join("sys/net/core/somaxconn"));
        let most = most.and_then(|mut most| most.read()?.trim().parse().ok());
        let watched = |mut queue: Queue| {
            queue.backlog = queue.backlog.min(most.unwrap_or(queue.backlog)).max(1);
            Watched { queue, found: None, rest: 0 }
        };
        Self {
            v4: Kept::open(&proc.join("self/net/tcp")),
            v6: Kept::open(&proc.join("self/net/tcp6")),
            ours: ours.into_iter().map(watched).collect(),
        }
    }

    /// The share of its places that are taken in the fullest queue.
    pub(super) fn share(&mut self) -> Option<f64> {
        let Self { v4, v6, ours } = self;
        let mut fullest = None;
        for watched in ours {
            let table = if watched.queue.v6 { &mut *v6 } else { &mut *v4 };
            let Some(waiting) = table.as_mut().and_then(|table| watched.waiting(table)) else {
                continue;
            };
            let share = waiting as f64 / f64::from(watched.queue.backlog);
            fullest = Some(fullest.map_or(share, |most: f64| most.max(share)));
        }
        fullest
    }
}

impl Watched {
    fn waiting(&mut self, table: &mut Kept) -> Option<u64> {
        self.rest = self.rest.saturating_sub(1);
        let known = self.found.and_then(|place| {
            let text = table.read_part(place.from, place.length)?;
            self.waiting_in(text)
        });
        if known.is_some() || self.rest > 0 {
            return known;
        }
        self.search(table)
    }

    fn search(&mut self, table: &mut Kept) -> Option<u64> {
        let (step, rest) = if self.queue.v6 { (STEP, LOOKS_PER_SEARCH) } else { (ROW, 0) };
        self.rest = rest;
        self.found = None;
        let text = table.read_while(step, TABLE_MAX, |so_far| self.goes_on(so_far))?;
        let mut from = 0;
        for line in text.split_inclusive('\n') {
            let length = line.len();
            if let Some(waiting) = self.waiting_in(line) {
                self.found = Some(Place { from, length });
                return Some(waiting);
            }
            from += length;
        }
        None
    }

    /// How many wait, if this is our row.
    fn waiting_in(&self, text: &str) -> Option<u64> {
        row(text).filter(|(inode, _)| *inode == self.queue.inode).map(|(_, waiting)| waiting)
    }

    /// Whether our row may still come: the last one is of a listening socket, and not ours.
    fn goes_on(&self, so_far: &str) -> bool {
        let whole = so_far.rsplit_once('\n').map_or("", |(whole, _)| whole);
        match whole.rsplit_once('\n') {
            Some((_, last)) => row(last).is_some_and(|(inode, _)| inode != self.queue.inode),
            // The line above the rows.
            None => true,
        }
    }
}

/// The inode of a listening socket, and how many connections wait there: the kernel puts them in
/// the column of received bytes.
fn row(row: &str) -> Option<(u64, u64)> {
    let mut fields = row.split_whitespace();
    if fields.nth(STATE)? != LISTEN {
        return None;
    }
    let (_, waiting) = fields.next()?.split_once(':')?;
    let inode = fields.nth(INODE - QUEUES - 1)?.parse().ok()?;
    Some((inode, u64::from_str_radix(waiting, 16).ok()?))
}
