//! A network namespace for this process alone: it has only the packets of its own agents, and its root may see them.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// The environment variable that marks the second start, inside the namespace.
const MARK: &str = "THANE_CALIBRATE_NAMESPACE";
const OWN: &str = "own";
const LOOPBACK_UP: [&str; 5] = ["ip", "link", "set", "lo", "up"];
/// Root can make one directly; others need a user namespace around it.
const WAYS: [&[&str]; 2] = [&["--net"], &["--user", "--map-root-user", "--net"]];

/// Starts this program again, under the same process id, in a network namespace of its own, and returns there.
///
/// # Errors
/// The system does not permit it: the process stays in its namespace. One line with the reason.
pub(crate) fn enter() -> Result<(), String> {
    if std::env::var(MARK).is_ok_and(|mark| mark == OWN) {
        return try_out(Command::new(LOOPBACK_UP[0]).args(&LOOPBACK_UP[1..]));
    }
    let mut refusal = String::new();
    for way in WAYS {
        match try_out(Command::new("unshare").args(way).args(LOOPBACK_UP)) {
            Err(why) => refusal = why,
            Ok(()) => {
                let me = std::env::current_exe().map_err(|error| error.to_string())?;
                let mut again = Command::new("unshare");
                again.args(way).arg("--").arg(me).args(std::env::args_os().skip(1)).env(MARK, OWN);
                // Returns only if it could not be started.
                return Err(format!("unshare: {}", again.exec()));
            }
        }
    }
    Err(refusal)
}

fn try_out(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().next().unwrap_or("it failed without a message").to_owned())
}
