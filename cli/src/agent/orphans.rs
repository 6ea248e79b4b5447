//! Children that the agent did not start: as process 1 of a container it inherits every orphan, and a program that
//! became the agent may have left children. It waits for them, so that they don't stay as zombies.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use super::handlers::Handlers;
use super::level::Level;
use super::log::Log;

/// How long the end of a script is left to those who wait for it, before the next look.
const LEFT_ALONE: Duration = Duration::from_millis(10);

/// Waits for such children whenever a child has ended. Scripts are left to their handler.
pub(crate) async fn reap(handlers: Handlers, log: Log) {
    let mut ended = match signal(SignalKind::child()) {
        Ok(ended) => ended,
        Err(error) => {
            log.add(Level::Warn, "agent", format_args!("Orphans are not waited for: {error}"));
            return;
        }
    };
    loop {
        while let Some(child) = ended_child() {
            let script = u32::try_from(child.as_raw()).is_ok_and(|child| handlers.is_running(child));
            if script {
                tokio::time::sleep(LEFT_ALONE).await;
            } else if waitpid(child, Some(WaitPidFlag::WNOHANG)).is_err_and(|error| error != Errno::EINTR) {
                break;
            }
        }
        if ended.recv().await.is_none() {
            return;
        }
    }
}

/// A child that has ended and that nobody has waited for.
fn ended_child() -> Option<Pid> {
    let only_look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::All, only_look).ok()?.pid()
}
