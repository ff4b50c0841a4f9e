//! How much of the memory that there is for the process it uses: of its container and those around
//! it, or, where none has a limit, of the machine.

use std::path::{Path, PathBuf};

use super::file::{Kept, number_after};
use crate::config::admin::MaxMemory;
use crate::policy::protection::{Level, share};

/// The most containers around each other that are looked at, from the innermost.
const LEVELS_MAX: usize = 16;

/// The files that tell of memory.
pub(super) struct MemoryUse {
    status: Option<Kept>,
    groups: Vec<Group>,
    machine: Option<Kept>,
}

impl MemoryUse {
    pub(super) fn open(proc: &Path) -> Self {
        Self {
            status: Kept::open(&proc.join("self/status")),
            groups: folders(proc)
                .iter()
                .filter_map(|(folder, v2)| Group::open(folder, *v2))
                .collect(),
            machine: Kept::open(&proc.join("meminfo")),
        }
    }

    /// The share in use of what there is for the process; nothing where it is not known.
    pub(super) fn share(&mut self, max: MaxMemory) -> Option<f64> {
        let own = number_after(self.status.as_mut()?.read()?, "VmRSS:")?.checked_mul(1024)?;
        if let MaxMemory::Size(size) = max {
            return Some(own as f64 / size.get().max(1) as f64);
        }
        let groups = self.groups.iter_mut().filter_map(Group::level);
        let tightest = groups.map(|level| share(own, level)).reduce(f64::max);
        tightest.or_else(|| Some(share(own, machine(self.machine.as_mut()?.read()?)?)))
    }
}

/// The machine's memory.
fn machine(meminfo: &str) -> Option<Level> {
    let bytes = |key| number_after(meminfo, key)?.checked_mul(1024);
    let limit = bytes("MemTotal:")?;
    Some(Level { used: limit.saturating_sub(bytes("MemAvailable:")?), limit })
}

/// A control group with a memory controller.
struct Group {
    /// The limits: at one the kernel kills, at the other it holds the group up.
    limits: Vec<Kept>,
    used: Kept,
    stat: Option<Kept>,
    /// What in the statistics can be dropped at once, and so is not in use.
    droppable: &'static str,
}

impl Group {
    fn open(folder: &Path, v2: bool) -> Option<Self> {
        let (limits, used, droppable): (&[&str], _, _) = if v2 {
            (&["memory.max", "memory.high"], "memory.current", "inactive_file ")
        } else {
            (&["memory.limit_in_bytes"], "memory.usage_in_bytes", "total_inactive_file ")
        };
        let limits: Vec<_> =
            limits.iter().filter_map(|name| Kept::open(&folder.join(name))).collect();
        if limits.is_empty() {
            return None;
        }
        let used = Kept::open(&folder.join(used))?;
        Some(Self { limits, used, stat: Kept::open(&folder.join("memory.stat")), droppable })
    }

    /// Its limit and use; nothing where it has no limit, which may change at any time.
    fn level(&mut self) -> Option<Level> {
        let limits = self.limits.iter_mut().filter_map(|limit| limit.read()?.trim().parse().ok());
        // In version 1 no limit is the largest multiple of a page; no machine has a 64th of it.
        let limit = limits.min().filter(|limit| *limit < u64::MAX / 64)?;
        let used: u64 = self.used.read()?.trim().parse().ok()?;
        let stat = self.stat.as_mut().and_then(Kept::read).unwrap_or_default();
        let droppable = number_after(stat, self.droppable).unwrap_or(0);
        Some(Level { used: used.saturating_sub(droppable), limit })
    }
}

/// The folders of the process's control group and of those around it, from the innermost, each with
/// whether it is of version 2.
fn folders(proc: &Path) -> Vec<(PathBuf, bool)> {
    let text = |name: &str| std::fs::read_to_string(proc.join(name)).unwrap_or_default();
    let (groups, mounts) = (text("self/cgroup"), text("self/mountinfo"));
    let mut all = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let v2 = controllers.is_empty();
        if !v2 && !controllers.split(',').any(|controller| controller == "memory") {
            continue;
        }
        let Some((root, point)) = mounts.lines().find_map(|mount| mounted(mount, v2)) else {
            continue;
        };
        // Seen from inside of the container, the path may begin with what is mounted, or be one of
        // outside that is not here; the mount is then the container itself.
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        let below = if path.contains("..") { Path::new("") } else { below };
        let inner = Path::new(point).join(below);
        let inner = if inner.is_dir() { inner } else { PathBuf::from(point) };
        let around = inner.ancestors().take(LEVELS_MAX).take_while(|at| at.starts_with(point));
        all.extend(around.map(|at| (at.to_owned(), v2)));
    }
    all
}

/// What of a hierarchy is mounted, and where, if the line of `mountinfo` is about the one with the
/// memory controller.
fn mounted(line: &str, v2: bool) -> Option<(&str, &str)> {
    let (mount, system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let mut system = system.split(' ');
    let kind = system.next()?;
    let wanted = match v2 {
        true => kind == "cgroup2",
        false => kind == "cgroup" && system.nth(1)?.split(',').any(|option| option == "memory"),
    };
    wanted.then_some((mount.next()?, mount.next()?))
}
