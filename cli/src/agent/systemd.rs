//! What a service manager is told: that the agent runs, that it still does, that it ends (sd_notify(3)). Without
//! `NOTIFY_SOCKET` in the environment nothing is sent.

use std::io;
use std::time::Duration;

use thane_engine::api::Handle;

/// The agent serves. Joins of the start have succeeded; those in the background go on.
pub(crate) const READY: &str = "READY=1";
/// The agent ends.
pub(crate) const STOPPING: &str = "STOPPING=1";
const ALIVE: &str = "WATCHDOG=1";

/// Sends a state. The agent runs on without a manager that takes it.
pub(crate) fn notify(state: &str) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET") {
        // There is nobody to tell that it can't be told.
        let _ = send(&socket, state);
    }
}

/// Tells the manager's watchdog that the node answers, twice in the time that it wants. Returns at once without one.
pub(crate) async fn keep_alive(node: Handle) {
    let Some(within) = watchdog(|name| std::env::var(name).ok(), std::process::id()) else { return };
    loop {
        // A node that does not answer is what the watchdog is for.
        if tokio::time::timeout(within, node.stats()).await.is_ok_and(|stats| stats.is_ok()) {
            notify(ALIVE);
        }
        tokio::time::sleep(within / 2).await;
    }
}

/// How often the manager wants a sign of life of this process.
fn watchdog(variable: impl Fn(&str) -> Option<String>, process: u32) -> Option<Duration> {
    let wanted = Duration::from_micros(variable("WATCHDOG_USEC")?.parse().ok()?);
    let of_this = variable("WATCHDOG_PID").is_none_or(|pid| pid == process.to_string());
    (of_this && !wanted.is_zero()).then_some(wanted)
}

#[cfg(target_os = "linux")]
fn send(socket: &std::ffi::OsStr, state: &str) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let addr = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &addr).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn send(_: &std::ffi::OsStr, _: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_answered_if_it_is_for_this_process() {
        let of = |usec: &'static str, pid: &'static str| {
            watchdog(
                move |name| {
                    let value = if name == "WATCHDOG_USEC" { usec } else { pid };
                    Some(value.to_owned()).filter(|value| !value.is_empty())
                },
                7,
            )
        };
        assert_eq!(of("2000000", "7"), Some(Duration::from_secs(2)));
        assert_eq!(of("2000000", ""), Some(Duration::from_secs(2)));
        for (usec, pid) in [("", "7"), ("0", "7"), ("x", "7"), ("2000000", "8")] {
            assert_eq!(of(usec, pid), None, "{usec} {pid}");
        }
    }
}
