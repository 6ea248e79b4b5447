//! Programs of the system that the testbed runs: `docker`, `nft`, `tc`, `cargo` and others.

use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// How long a program may take unless [`Program::within`] says otherwise.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program with its arguments, ready to run.
#[derive(Debug)]
pub(crate) struct Program {
    command: Command,
    name: String,
    input: Option<Vec<u8>>,
    patience: Duration,
}

/// What a program printed, and whether it succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Printed {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Program {
    pub(crate) fn new(name: &str) -> Program {
        Program { command: Command::new(name), name: name.to_owned(), input: None, patience: PATIENCE }
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Program {
        self.command.args(args);
        self
    }

    pub(crate) fn folder(mut self, folder: &Path) -> Program {
        self.command.current_dir(folder);
        self
    }

    /// Given to its standard input.
    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Program {
        self.input = Some(input.into());
        self
    }

    /// It is ended where it takes longer.
    pub(crate) fn within(mut self, patience: Duration) -> Program {
        self.patience = patience;
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// It can't be started, or took too long and was ended.
    pub(crate) fn print(mut self) -> Result<Printed, Failure> {
        let command = &mut self.command;
        command.stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        own_process_group(command);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Failure::new(format!("{0} is not installed, or not in PATH: install it ({0})", self.name))
            }
            _ => Failure::new(format!("{} can't be started: {error}", self.name)),
        })?;
        let (stdin, input) = (child.stdin.take(), self.input.take());
        let writer = std::thread::spawn(move || {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // A program that does not read its input reports the reason by its exit code.
                let _ = stdin.write_all(&input);
            }
        });
        let (out, err) = (drain(child.stdout.take()), drain(child.stderr.take()));
        let deadline = Instant::now() + self.patience;
        let mut pause = Duration::from_millis(1);
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() > deadline => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(Failure::new(format!(
                        "{} did not end within {} s and was killed",
                        self.name,
                        self.patience.as_secs()
                    )));
                }
                Ok(None) => std::thread::sleep(pause),
                Err(error) => return Err(Failure::new(format!("{}: {error}", self.name))),
            }
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        let _ = writer.join();
        let text = |reader: std::thread::JoinHandle<Vec<u8>>| {
            String::from_utf8_lossy(&reader.join().unwrap_or_default()).trim_end().to_owned()
        };
        Ok(Printed { ok: status.success(), out: text(out), err: text(err) })
    }

    /// Runs it and returns what it printed.
    ///
    /// # Errors
    /// As [`Program::print`], or it failed: its last line of error output.
    pub(crate) fn run(self) -> Result<String, Failure> {
        let shown = self.to_string();
        let printed = self.print()?;
        if printed.ok {
            Ok(printed.out)
        } else {
            Err(Failure::new(format!("`{shown}` failed: {}", printed.last_error_line())))
        }
    }
}

/// The command line, cut where it is long.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        for argument in self.command.get_args().take(4) {
            write!(f, " {}", argument.to_string_lossy())?;
        }
        if self.command.get_args().len() > 4 { f.write_str(" …") } else { Ok(()) }
    }
}

impl Printed {
    /// The last line that says something.
    pub(crate) fn last_error_line(&self) -> &str {
        let lines = |text: &'_ str| text.lines().rfind(|line| !line.trim().is_empty()).map(str::len);
        let from = if lines(&self.err).is_some() { &self.err } else { &self.out };
        // Docker's last line names its help.
        let says = |line: &&str| !line.trim().is_empty() && !line.contains("--help");
        from.lines().rfind(says).unwrap_or("no message").trim()
    }
}

/// Ctrl-C reaches the terminal's whole process group: a `docker` that dies of it in the middle would leave half
/// of its work. The testbed decides when its programs end.
fn own_process_group(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
}

fn drain(from: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            let _ = from.read_to_end(&mut bytes);
        }
        bytes
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn output_input_and_failure_are_passed_on() {
        assert_eq!(Program::new("cat").input("a\nb\n").run().unwrap(), "a\nb");
        let failure =
            Program::new("sh").args(["-c", "echo one >&2; echo two >&2; exit 3"]).run().unwrap_err();
        assert_eq!(failure.to_string(), "`sh -c echo one >&2; echo two >&2; exit 3` failed: two");
        let failure = Program::new("no-such-program").run().unwrap_err().to_string();
        assert!(failure.contains("no-such-program is not installed"), "{failure}");
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let failure =
            Program::new("sleep").args(["1000"]).within(Duration::from_millis(10)).run().unwrap_err();
        assert!(failure.to_string().contains("did not end within"), "{failure}");
    }
}
