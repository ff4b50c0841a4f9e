//! What the kernel says of this process, read from procfs at each scrape.
//!
//! The names are those that every Prometheus client library gives them, without our prefix, so that
//! common dashboards work. Where there is no procfs, or a line is missing, the metric is left out.

use std::fs;

/// Ticks a second in procfs: `USER_HZ`, which Linux fixes at 100 for user space whatever the
/// kernel's own timer does.
const TICKS: f64 = 100.0;

/// One reading of procfs; `None` where it could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    /// User and system time, seconds.
    pub(super) cpu: Option<f64>,
    /// Bytes.
    pub(super) resident: Option<f64>,
    /// Bytes.
    pub(super) virtual_size: Option<f64>,
    pub(super) open_fds: Option<f64>,
    pub(super) max_fds: Option<f64>,
    pub(super) threads: Option<f64>,
    /// Unix time, seconds.
    pub(super) start: Option<f64>,
}

impl Process {
    /// Reads procfs. Blocks for as long as the kernel takes to make the files, well under 1 ms, but
    /// in proportion to the number of open descriptors.
    pub(super) fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut process = Self::parse(
            &text("/proc/self/stat"),
            &text("/proc/self/status"),
            &text("/proc/self/limits"),
            &text("/proc/stat"),
        );
        // The directory that is being read is itself an open descriptor.
        process.open_fds =
            fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count().saturating_sub(1) as f64);
        process
    }

    fn parse(stat: &str, status: &str, limits: &str, system: &str) -> Self {
        // The second field is the program's name in parentheses, which may itself hold them.
        let fields: Vec<f64> = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect())
            .unwrap_or_default();
        // What is left begins with the third field; utime is the 14th, stime the 15th, starttime
        // the 22nd.
        let field = |nth: usize| fields.get(nth - 3).map(|ticks| ticks / TICKS);
        let kib = |key: &str| number_after(status, key).map(|kib| kib * 1024.0);
        Self {
            cpu: field(14).zip(field(15)).map(|(user, system)| user + system),
            resident: kib("VmRSS:"),
            virtual_size: kib("VmSize:"),
            open_fds: None,
            max_fds: number_after(limits, "Max open files"),
            threads: number_after(status, "Threads:"),
            start: field(22).zip(number_after(system, "btime")).map(|(since, boot)| boot + since),
        }
    }
}

/// The first number after a key that begins a line.
fn number_after(text: &str, key: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests;
