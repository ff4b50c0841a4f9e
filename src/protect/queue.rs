//! How many connections wait to be accepted on our listeners.

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

/// The most that is read of the table: the listening sockets come first, and there may be those of
/// every other process on the host's network.
const TABLE_MAX: usize = 256 * 1024;
/// The state of a listening socket in the table.
const LISTEN: &str = "0A";
/// Where a row has the socket's state, its queues and its inode.
const STATE: usize = 3;
const QUEUES: usize = 4;
const INODE: usize = 9;

/// The kernel's tables of TCP sockets, and which rows are ours.
pub(super) struct Queues {
    ours: Vec<Queue>,
    tables: Vec<Kept>,
}

impl Queues {
    pub(super) fn open(proc: &Path, mut ours: Vec<Queue>) -> Self {
        // The kernel keeps no more than this, whatever was asked for.
        let most = Kept::open(&proc.join("sys/net/core/somaxconn"));
        let most = most.and_then(|mut most| most.read()?.trim().parse().ok());
        for queue in &mut ours {
            queue.backlog = queue.backlog.min(most.unwrap_or(queue.backlog)).max(1);
        }
        let tables = match ours.is_empty() {
            true => Vec::new(),
            false => ["self/net/tcp", "self/net/tcp6"]
                .iter()
                .filter_map(|table| Kept::open(&proc.join(table)))
                .collect(),
        };
        Self { ours, tables }
    }

    /// The share of its places that are taken in the fullest queue.
    pub(super) fn share(&mut self) -> Option<f64> {
        let mut fullest = None;
        for table in &mut self.tables {
            let Some(text) = table.read_while(TABLE_MAX, all_listen) else { continue };
            for (inode, waiting) in text.lines().filter_map(row) {
                if let Some(queue) = self.ours.iter().find(|queue| queue.inode == inode) {
                    let share = waiting as f64 / f64::from(queue.backlog);
                    fullest = Some(fullest.map_or(share, |most: f64| most.max(share)));
                }
            }
        }
        fullest
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
