//! What a process on this machine used: processor time and memory, from /proc.

use std::time::Duration;

/// Processor time used so far by all threads that live; zero for a process that is gone.
pub(crate) fn cpu(pid: u32) -> Duration {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let of_thread = |thread: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.filter_map(of_thread).sum())
}

/// One line of /proc/PID/status that is in kB.
pub(crate) fn status_kb(pid: u32, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find(|line| line.starts_with(field))?.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_and_processor_time_of_a_process_are_seen() {
        let me = std::process::id();
        let now = status_kb(me, "VmRSS:").unwrap();
        assert!(now > 100);
        // Other tests go on meanwhile: the most is asked for last.
        assert!(status_kb(me, "VmHWM:").unwrap() >= now);
        assert!(cpu(me) > Duration::ZERO);
    }
}
