//! How many connections wait to be accepted on our listeners.
//!
//! The kernel tells it in its table of TCP sockets, whose listening ones come first. To read on to
//! the end of the table makes the kernel walk through all connections there can be, which takes
//! milliseconds; to read one row at its known place takes microseconds. So a row is searched for
//! once, and again when other listening sockets, coming or going, have moved it.

use std::path::Path;

use super::file::Kept;

/// An accept queue of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The inode of the listening TCP socket, by which the kernel's table names it.
    pub inode: u64,
    /// How many connections were asked to be kept.
    pub backlog: u32,
}

/// The most that is read of a table: there may be the listening sockets of every other process on
/// the host's network.
const TABLE_MAX: usize = 256 * 1024;
/// Looks between two searches for one row, so that on a host where listening sockets come and go
/// all the time no more than a hundredth of a processor goes into it.
const LOOKS_PER_SEARCH: u32 = 5;
/// The state of a listening socket in the table.
const LISTEN: &str = "0A";
/// Where a row has the socket's state, its queues and its inode.
const STATE: usize = 3;
const QUEUES: usize = 4;
const INODE: usize = 9;

/// The kernel's tables of TCP sockets, and which rows are ours.
pub(super) struct Queues {
    tables: Vec<Kept>,
    ours: Vec<Watched>,
}

/// A row of ours.
struct Watched {
    queue: Queue,
    found: Option<Place>,
    /// The share that was last read.
    known: Option<f64>,
    /// Looks until it may be searched for again.
    rest: u32,
}

/// Where a row stands: in which table, from which byte, and how many bytes.
#[derive(Clone, Copy)]
struct Place {
    table: usize,
    from: usize,
    length: usize,
}

impl Queues {
    pub(super) fn open(proc: &Path, ours: Vec<Queue>) -> Self {
        // The kernel keeps no more than this, whatever was asked for.
        let most = Kept::open(&proc.join("sys/net/core/somaxconn"));
        let most = most.and_then(|mut most| most.read()?.trim().parse().ok());
        let tables = ["self/net/tcp", "self/net/tcp6"];
        let tables = tables.iter().filter_map(|table| Kept::open(&proc.join(table))).collect();
        let watched = |mut queue: Queue| {
            queue.backlog = queue.backlog.min(most.unwrap_or(queue.backlog)).max(1);
            Watched { queue, found: None, known: None, rest: 0 }
        };
        Self { tables, ours: ours.into_iter().map(watched).collect() }
    }

    /// The share of its places that are taken in the fullest queue.
    pub(super) fn share(&mut self) -> Option<f64> {
        let Self { tables, ours } = self;
        let shares = ours.iter_mut().filter_map(|watched| watched.share(tables));
        shares.reduce(f64::max)
    }
}

impl Watched {
    fn share(&mut self, tables: &mut [Kept]) -> Option<f64> {
        self.rest = self.rest.saturating_sub(1);
        let waiting = match self.read(tables) {
            None if self.rest > 0 => return self.known,
            None => self.search(tables),
            waiting => waiting,
        };
        self.known = waiting.map(|waiting| waiting as f64 / f64::from(self.queue.backlog));
        self.known
    }

    /// Reads the row where it was found.
    fn read(&self, tables: &mut [Kept]) -> Option<u64> {
        let Place { table, from, length } = self.found?;
        let text = tables.get_mut(table)?.read_part(from, length)?;
        row(text).filter(|(inode, _)| *inode == self.queue.inode).map(|(_, waiting)| waiting)
    }

    fn search(&mut self, tables: &mut [Kept]) -> Option<u64> {
        self.rest = LOOKS_PER_SEARCH;
        self.found = None;
        for (table, kept) in tables.iter_mut().enumerate() {
            let Some(text) = kept.read_while(TABLE_MAX, all_listen) else { continue };
            let mut from = 0;
            for line in text.split_inclusive('\n') {
                let length = line.len();
                if let Some((inode, waiting)) = row(line)
                    && inode == self.queue.inode
                {
                    self.found = Some(Place { table, from, length });
                    return Some(waiting);
                }
                from += length;
            }
        }
        None
    }
}

/// Whether the table may have more listening sockets than are read so far.
fn all_listen(so_far: &str) -> bool {
    let whole = so_far.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let last = whole.lines().skip(1).last();
    last.is_none_or(|row| row.split_whitespace().nth(STATE) == Some(LISTEN))
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
