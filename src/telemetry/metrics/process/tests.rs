use super::*;

const STAT: &str = "77 (a (b) c) S 1 77 77 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 3 0 12345 \
                    1000000 500 18446744073709551615\n";

#[test]
fn each_field_is_found_behind_a_name_with_parentheses() {
    let status = "Name:\tx\nVmSize:\t    2048 kB\nVmRSS:\t     16 kB\nThreads:\t3\n";
    let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files   1024   4096   files\n";
    let process = Process::parse(STAT, status, limits, "cpu 1 2 3\nbtime 1700000000\n");
    assert_eq!(process.cpu, Some(3.0));
    assert_eq!(process.virtual_size, Some(2_097_152.0));
    assert_eq!(process.resident, Some(16384.0));
    assert_eq!(process.threads, Some(3.0));
    assert_eq!(process.max_fds, Some(1024.0));
    assert_eq!(process.start, Some(1_700_000_123.45));
}

#[test]
fn what_cannot_be_read_is_left_out() {
    assert_eq!(Process::parse("", "", "", ""), Process::default());
    let unlimited = Process::parse("", "", "Max open files  unlimited unlimited files\n", "");
    assert_eq!(unlimited.max_fds, None);
}

#[cfg(target_os = "linux")]
#[test]
fn this_process_is_alive() {
    let process = Process::read();
    assert!(process.resident > Some(0.0), "{process:?}");
    assert!(process.open_fds > Some(0.0), "{process:?}");
    assert!(process.threads > Some(0.0), "{process:?}");
    // After 2001 in any case.
    assert!(process.start > Some(1e9), "{process:?}");
}
