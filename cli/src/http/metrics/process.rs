//! The numbers of the process under the names that Prometheus' own libraries give them.

use super::exposition::{Exposition, Kind};

/// Adds what the system tells; nothing where it does not.
#[cfg(target_os = "linux")]
pub(super) fn write(out: &mut Exposition) {
    use nix::unistd::{SysconfVar, sysconf};
    let setting = |name| sysconf(name).ok().flatten().and_then(|value| u64::try_from(value).ok());
    let (Some(ticks), Some(page)) = (setting(SysconfVar::CLK_TCK), setting(SysconfVar::PAGE_SIZE)) else {
        return;
    };
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return };
    // The name of the program stands in brackets, and may hold anything.
    let Some((_, rest)) = stat.rsplit_once(") ") else { return };
    let fields: Vec<u64> = rest.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    // proc(5): the fields after the name begin with the third.
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let seconds = |of: u64| of as f64 / ticks as f64;
    out.family("process_cpu_seconds_total", Kind::Counter, "Processor time, of the user and of the system");
    out.sample("", &[], seconds(field(14) + field(15)));
    out.gauge("process_threads", "Threads", field(20) as f64);
    out.gauge("process_virtual_memory_bytes", "Size of the address space", field(23) as f64);
    out.gauge("process_resident_memory_bytes", "Resident memory", (field(24) * page) as f64);
    if let Some(boot) = boot_time() {
        let help = "Start of the process, in seconds since 1970";
        out.gauge("process_start_time_seconds", help, boot as f64 + seconds(field(22)));
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        out.gauge("process_open_fds", "Open descriptors", open.count() as f64);
    }
    if let Some(max) = descriptors_max() {
        out.gauge("process_max_fds", "Most descriptors that may be open", max as f64);
    }
}

/// When the system started, in seconds since 1970.
#[cfg(target_os = "linux")]
fn boot_time() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(target_os = "linux")]
fn descriptors_max() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Other systems have other ways to ask.
#[cfg(not(target_os = "linux"))]
pub(super) fn write(_: &mut Exposition) {}
