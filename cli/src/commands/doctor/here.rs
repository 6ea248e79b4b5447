//! This machine: names, descriptors, clock, buffers, driver, files.

use std::net::ToSocketAddrs;
use std::time::SystemTime;

use thane_engine::io::files::keyring;

use super::finding::{Report, Severity};
use super::ports::Running;
use crate::agent::Config;

/// Open files that an agent may need: gossip streams, RPC and HTTP connections, and itself.
const DESCRIPTORS: u64 = 1024;
/// Buffers of fewer bytes overflow while a process is busy.
const BUFFER_BYTES: u64 = 212_992;

pub(super) fn config(config: &Config, report: &mut Report) {
    report.add(Severity::Good, "config", "flags and files are understood".to_owned());
    for warning in &config.warnings {
        report.add(Severity::Warning, "config", warning.clone());
    }
    for name in &config.ineffective {
        report.add(Severity::Note, "config", format!("'{name}' has no effect"));
    }
}

/// Names that are resolved at start.
pub(super) fn names(config: &Config, report: &mut Report) {
    let settings = &config.settings;
    for addr in settings.start_join.iter().chain(&config.retry.addresses) {
        // NAME/HOST names the member that is expected there.
        let host = addr.split_once('/').map_or(addr.as_str(), |(_, host)| host);
        match resolve(host) {
            Ok(found) => report.add(Severity::Good, "dns", format!("{host} is {found}")),
            Err(why) => {
                let text =
                    format!("{host} can't be resolved ({why}): check -join, -retry-join and the resolver");
                report.add(Severity::Bad, "dns", text);
            }
        }
    }
}

/// The addresses of a host with or without port.
pub(super) fn resolve(host: &str) -> Result<String, String> {
    let targets = super::member::targets(host)?;
    Ok(targets.iter().map(|target| target.ip().to_string()).collect::<Vec<_>>().join(", "))
}

#[cfg(unix)]
pub(super) fn descriptors(report: &mut Report) {
    use nix::sys::resource::{Resource, getrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < DESCRIPTORS {
        let text = format!(
            "{soft} may be open (at most {hard}), an agent may need {DESCRIPTORS}: raise 'ulimit -n' or LimitNOFILE"
        );
        report.add(Severity::Warning, "descriptors", text);
    } else {
        report.add(Severity::Good, "descriptors", format!("{soft} may be open"));
    }
}

#[cfg(not(unix))]
pub(super) fn descriptors(_: &mut Report) {}

/// A clock that is far off spoils logs and certificates, not gossip: that has clocks of its own.
pub(super) fn clock(report: &mut Report) {
    let built = std::env::current_exe().and_then(std::fs::metadata).and_then(|program| program.modified());
    match built {
        Ok(built) if built > SystemTime::now() => {
            let text = "the clock is before this program was installed: set it, or start NTP".to_owned();
            report.add(Severity::Warning, "clock", text);
        }
        _ => report.add(Severity::Good, "clock", "the time is after this program was installed".to_owned()),
    }
}

/// Receive buffers: their size, and what was lost for lack of room.
pub(super) fn buffers(agent: Option<&Running>, report: &mut Report) {
    let lost = agent.and_then(|agent| agent.stats.get("io")?.get("kernel_drops")?.parse::<u64>().ok());
    match lost {
        Some(0) => {
            report.add(Severity::Good, "buffers", "the agent lost no datagram for lack of room".to_owned())
        }
        Some(lost) => {
            let text = format!(
                "the agent lost {lost} datagrams for lack of room: raise net.core.rmem_max, or its share of a processor"
            );
            report.add(Severity::Warning, "buffers", text);
        }
        None => {}
    }
    let max = std::fs::read_to_string("/proc/sys/net/core/rmem_max").ok();
    if let Some(max) = max.and_then(|max| max.trim().parse::<u64>().ok())
        && max < BUFFER_BYTES
    {
        let text =
            format!("net.core.rmem_max is {max}, less than the usual {BUFFER_BYTES}: raise it with sysctl");
        report.add(Severity::Warning, "buffers", text);
    }
}

/// The reason for a driver without the driver's name in front, where it has that.
fn without<'a>(why: &'a str, driver: &str) -> &'a str {
    why.strip_prefix(driver).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(why)
}

/// The datagram driver.
pub(super) fn driver(config: &Config, report: &mut Report) {
    match config.io_driver.resolve() {
        Ok((driver, why)) => {
            report.add(Severity::Good, "driver", format!("{driver}, {}", without(&why, &driver.to_string())))
        }
        Err(error) => report.add(Severity::Bad, "driver", error.to_string()),
    }
}

/// The lines that a snapshot may have (PROTOCOL 10.1).
const LINES: [&str; 8] =
    ["alive: ", "not-alive: ", "clock: ", "event-clock: ", "query-clock: ", "coordinate: ", "leave", "#"];

pub(super) fn snapshot(config: &Config, report: &mut Report) {
    let Some(path) = &config.snapshot else { return };
    let shown = path.display();
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let there = path.parent().is_none_or(|folder| folder.as_os_str().is_empty() || folder.is_dir());
            let (severity, text) = if there {
                (Severity::Good, format!("{shown} does not exist yet"))
            } else {
                (Severity::Bad, format!("the folder of {shown} does not exist: create it"))
            };
            return report.add(severity, "snapshot", text);
        }
        Err(error) => {
            let text = format!("{shown} can't be read: {error}; the agent does not start");
            return report.add(Severity::Bad, "snapshot", text);
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let odd = whole
        .lines()
        .filter(|line| !line.is_empty() && !LINES.iter().any(|known| line.starts_with(known)))
        .count();
    if let Err(error) = std::fs::OpenOptions::new().append(true).open(path) {
        let text = format!("{shown} can't be written: {error}; the agent does not start");
        report.add(Severity::Bad, "snapshot", text);
    } else if odd > 0 {
        report.add(
            Severity::Warning,
            "snapshot",
            format!("{shown} has {odd} lines that can't be read; they are ignored"),
        );
    } else {
        report.add(
            Severity::Good,
            "snapshot",
            format!("{shown} has {} lines, all readable", whole.lines().count()),
        );
    }
}

/// The gossip keys, the primary first.
pub(super) fn keys(config: &Config, report: &mut Report) -> Vec<Vec<u8>> {
    let keys = match &config.keyring_file {
        None => config.key.iter().cloned().collect(),
        Some(path) => match keyring::read(path) {
            Ok(keys) => keys,
            Err(why) => {
                report.add(Severity::Bad, "keys", format!("{why}; the agent does not start"));
                Vec::new()
            }
        },
    };
    match keys.len() {
        0 => report.add(
            Severity::Note,
            "keys",
            "gossip is not encrypted: 'thane keygen' makes a key".to_owned(),
        ),
        count => report.add(Severity::Good, "keys", format!("{count} in use")),
    }
    keys
}

/// The addresses of a host, which may have a port of its own.
pub(super) fn with_port(host: &str, port: u16) -> Result<Vec<std::net::SocketAddr>, String> {
    let found = match host.to_socket_addrs() {
        Ok(found) => Ok(found),
        Err(_) => (host.trim_matches(['[', ']']), port).to_socket_addrs(),
    };
    let found: Vec<_> = found.map_err(|error| error.to_string())?.collect();
    if found.is_empty() { Err("no address".to_owned()) } else { Ok(found) }
}
