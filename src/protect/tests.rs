use std::fs;
use std::path::Path;

use super::*;
use crate::units::ByteSize;

/// A tree of files like the kernel's.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(name, text)| tree.write(name, text));
        tree
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.replace("ROOT", &self.0.path().display().to_string())).unwrap();
    }

    fn proc(&self) -> std::path::PathBuf {
        self.0.path().join("proc")
    }

    fn memory(&self, max: MaxMemory) -> Option<f64> {
        MemoryUse::open(&self.proc()).share(max)
    }
}

const STATUS: (&str, &str) =
    ("proc/self/status", "Name:\tx\nVmSize:\t 9999 kB\nVmRSS:\t   40 kB\n");
const MEMINFO: (&str, &str) = (
    "proc/meminfo",
    "MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     600 kB\n",
);

fn close(left: Option<f64>, right: f64) -> bool {
    left.is_some_and(|left| (left - right).abs() < 1e-9)
}

#[test]
fn version_2_in_the_tightest_of_the_groups_around() {
    let tree = Tree::new(&[
        STATUS,
        MEMINFO,
        ("proc/self/cgroup", "0::/pod/box\n"),
        ("proc/self/mountinfo", "31 23 0:28 / ROOT/cg rw,relatime shared:4 - cgroup2 cgroup2 rw\n"),
        ("cg/cgroup.procs", ""),
        ("cg/pod/memory.max", "102400\n"),
        ("cg/pod/memory.high", "max\n"),
        ("cg/pod/memory.current", "71680\n"),
        ("cg/pod/memory.stat", "anon 1\nactive_file 7\ninactive_file 10240\n"),
        ("cg/pod/box/memory.max", "max\n"),
        ("cg/pod/box/memory.current", "51200\n"),
    ]);
    // 80 of 100 KiB may be used; of the 60 in use 20 are others'.
    let share = tree.memory(MaxMemory::Auto);
    assert!(close(share, 40.0 / 60.0), "{share:?}");
    // What holds the group up is a limit like what kills.
    tree.write("cg/pod/memory.high", "81920\n");
    let share = tree.memory(MaxMemory::Auto);
    assert!(close(share, 40.0 / 44.0), "{share:?}");
    // A size is the process's own.
    let share = tree.memory(MaxMemory::Size(ByteSize::kib(160)));
    assert!(close(share, 0.25), "{share:?}");
}

#[test]
fn version_1_in_a_container_that_sees_itself_at_the_top() {
    let tree = Tree::new(&[
        STATUS,
        MEMINFO,
        ("proc/self/cgroup", "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n"),
        (
            "proc/self/mountinfo",
            "30 23 0:27 /docker/abc ROOT/cpu ro - cgroup cgroup rw,cpu,cpuacct\n\
             31 23 0:28 /docker/abc ROOT/memory ro,nosuid - cgroup cgroup rw,memory\n",
        ),
        ("memory/memory.limit_in_bytes", "102400\n"),
        ("memory/memory.usage_in_bytes", "61440\n"),
        ("memory/memory.stat", "inactive_file 1\ntotal_inactive_file 20480\n"),
    ]);
    let share = tree.memory(MaxMemory::Auto);
    assert!(close(share, 0.5), "{share:?}");
    // No limit is a number of its own there; then it is the machine that can be full.
    tree.write("memory/memory.limit_in_bytes", "9223372036854771712\n");
    let share = tree.memory(MaxMemory::Auto);
    assert!(close(share, 40.0 / (800.0 - 360.0)), "{share:?}");
}

#[test]
fn limits_may_change_while_it_runs() {
    let tree = Tree::new(&[
        STATUS,
        ("proc/self/cgroup", "0::/\n"),
        ("proc/self/mountinfo", "31 23 0:28 / ROOT/cg rw - cgroup2 cgroup2 rw\n"),
        ("cg/memory.max", "max\n"),
        ("cg/memory.current", "40960\n"),
    ]);
    let mut memory = MemoryUse::open(&tree.proc());
    assert_eq!(memory.share(MaxMemory::Auto), None);
    tree.write("cg/memory.max", "102400\n");
    assert!(close(memory.share(MaxMemory::Auto), 0.5));
}

#[test]
fn where_nothing_is_told_nothing_is_short() {
    let tree = Tree::new(&[]);
    let queue = Queue { inode: 1, v6: false, backlog: 1024 };
    let mut sampler = Sampler::open(&tree.proc(), vec![queue]);
    assert_eq!(sampler.look(Some(MaxMemory::Auto)), Usage::default());
    assert_eq!(sampler.look(None), Usage::default());
}

const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
                    uid  timeout inode\n";

/// A row of the kernel's table of sockets.
fn row(state: &str, queue: u32, inode: u32) -> String {
    format!(
        "   0: 0100007F:1F90 00000000:0000 {state} 00000000:{queue:08X} 00:00000000 00000000  1000 \
         0 {inode} 1 0000000034675359 100 0 0 10 0\n"
    )
}

#[test]
fn the_fullest_of_our_accept_queues_counts() {
    let ours = |inode| Queue { inode, v6: inode == 78, backlog: 1024 };
    // So many that it takes several reads, then a connection whose bytes are not a queue.
    let others: String = (0..200).map(|inode| row("0A", 9999, 5000 + inode)).collect();
    let established = row("01", 0xffff, 77);
    let table = format!("{HEAD}{others}{}{established}", row("0A", 64, 77));
    let table6 = format!("{HEAD}{}", row("0A", 96, 78));
    let tree = Tree::new(&[
        ("proc/sys/net/core/somaxconn", "128\n"),
        ("proc/self/net/tcp", &table),
        ("proc/self/net/tcp6", &table6),
    ]);
    let share = |queues: &[u64]| {
        Queues::open(&tree.proc(), queues.iter().copied().map(ours).collect()).share()
    };
    assert!(close(share(&[77]), 0.5), "{:?}", share(&[77]));
    assert!(close(share(&[77, 78]), 0.75));
    assert_eq!(share(&[79]), None);
    assert_eq!(share(&[]), None);
}

#[test]
fn a_row_that_moved_is_found_again_for_version_6_not_at_every_look() {
    for (table, v6) in [("proc/self/net/tcp", false), ("proc/self/net/tcp6", true)] {
        let tree = Tree::new(&[(table, &format!("{HEAD}{}", row("0A", 512, 77)))]);
        let mut queues = Queues::open(&tree.proc(), vec![Queue { inode: 77, v6, backlog: 1024 }]);
        assert!(close(queues.share(), 0.5));
        tree.write(table, &format!("{HEAD}{}", row("0A", 256, 77)));
        assert!(close(queues.share(), 0.25), "read where it was");
        tree.write(table, &format!("{HEAD}{}{}", row("0A", 9, 5), row("0A", 1024, 77)));
        let found = (0..100).find(|_| queues.share() == Some(1.0)).expect("it is found again");
        assert_eq!(found == 0, !v6, "after {found} looks");
        tree.write(table, HEAD);
        assert_eq!((0..100).find_map(|_| queues.share()), None);
    }
}

#[test]
fn the_process_s_own_numbers() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let socketed = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&listener));
    let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(socketed).unwrap());
    let queue = Queue { inode, v6: false, backlog: 64 };
    let mut sampler = Sampler::open(Path::new("/proc"), vec![queue]);
    let before = sampler.look(Some(MaxMemory::Size(ByteSize::kib(1 << 30))));
    let waiting: Vec<_> = (0..16)
        .map(|_| std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap())
        .collect();
    let after = sampler.look(Some(MaxMemory::Size(ByteSize::kib(1 << 30))));
    let [memory, descriptors, queued, _] = after;
    assert!(memory.unwrap() > 0.0 && memory.unwrap() < 0.1, "{memory:?}");
    assert!(descriptors.unwrap() > before[Resource::Descriptors.index()].unwrap());
    assert_eq!((before[Resource::AcceptQueue.index()], queued), (Some(0.0), Some(0.25)));
    drop(waiting);
}

#[test]
fn of_a_change_one_line_and_of_many_one_a_second() {
    let (mut log, start) = (Log::default(), clock::now());
    let usage = Usage::default();
    let note = |log: &mut Log, pressure: f64, millis: u64| {
        let at = start + Duration::from_millis(millis);
        log.note(&[pressure, 0.0, 0.0, 0.0], &usage, 4, at);
        (log.refused, log.written.map(|at| at.duration_since(start).as_millis()))
    };
    assert_eq!(note(&mut log, 0.1, 0), (0, None));
    assert_eq!(note(&mut log, 0.3, 200), (1, Some(200)));
    assert_eq!(note(&mut log, 1.0, 400), (1, Some(200)));
    assert_eq!(note(&mut log, 0.6, 1200), (2, Some(1200)));
    assert_eq!(note(&mut log, 0.6, 9000), (2, Some(1200)));
}
