//! Processes of this machine: start, end, processor time, memory and run-queue delay.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A child process. It ends when this value is dropped, and with this process, however that ends.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts a program without input and output.
    ///
    /// # Errors
    /// There is no such program, or the system can't start it.
    pub(crate) fn start(program: &Path, arguments: &[String]) -> Result<Process, String> {
        let mut command = bound_to_this_process(program)?;
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("can't start {}: {error}", program.display()))?;
        Ok(Process(child))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail if the process has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command that the kernel ends with this process, also after a signal or an abort, where nothing is dropped.
/// Without `setpriv` (util-linux) it is an ordinary command.
fn bound_to_this_process(program: &Path) -> Result<Command, String> {
    let missing = || {
        format!("can't start {}: there is no such program; install it, or give its path", program.display())
    };
    // setpriv would report it only on its standard error, which is closed.
    let program = find(program).ok_or_else(missing)?;
    let Some(setpriv) = find(Path::new("setpriv")) else { return Ok(Command::new(program)) };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    Ok(command)
}

/// A program as a shell finds it: a path, or a name in one of the folders of PATH.
fn find(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Processor time of all live threads so far; zero for a process that has ended.
pub(crate) fn cpu(pid: u32) -> Duration {
    schedule(pid)[0]
}

/// Time that the live threads were ready to run and waited for a processor; zero for a process that has ended.
pub(crate) fn run_queue_delay(pid: u32) -> Duration {
    schedule(pid)[1]
}

/// Sums over all live threads: processor time, time in the run queue (`/proc/PID/task/TID/schedstat`).
fn schedule(pid: u32) -> [Duration; 2] {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return [Duration::ZERO; 2] };
    let of_thread = |thread: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        let mut numbers = text.split_whitespace().map(str::parse::<u64>);
        Some([numbers.next()?.ok()?, numbers.next()?.ok()?].map(Duration::from_nanos))
    };
    threads.filter_map(of_thread).fold([Duration::ZERO; 2], |sum, one| [sum[0] + one[0], sum[1] + one[1]])
}

/// A field of `/proc/PID/status` in kB: `VmRSS:` or `VmHWM:`.
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
        // Other tests run at the same time: the peak is read last.
        assert!(status_kb(me, "VmHWM:").unwrap() >= now);
        assert!(cpu(me) > Duration::ZERO);
    }

    #[test]
    fn a_dropped_process_has_ended() {
        let process = Process::start(Path::new("sleep"), &["600".to_owned()]).unwrap();
        let folder = PathBuf::from(format!("/proc/{}", process.pid()));
        assert!(folder.exists());
        drop(process);
        assert!(!folder.exists());
        let error = Process::start(Path::new("/nowhere/serf"), &[]).unwrap_err();
        assert!(error.contains("can't start /nowhere/serf: there is no such program"), "{error}");
    }
}
