//! Why a command of the testbed ends without its result.

use std::fmt;

/// One line for the user: what failed, where, and what to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure(String);

impl Failure {
    /// The user asked for the end (Ctrl-C, TERM, HUP).
    pub(crate) const STOPPED: &str = "stopped by a signal";

    pub(crate) fn new(line: impl Into<String>) -> Failure {
        Failure(line.into())
    }

    /// A file or folder that can't be used.
    pub(crate) fn file(path: &std::path::Path, error: &std::io::Error) -> Failure {
        let hint = match error.kind() {
            std::io::ErrorKind::StorageFull => " (free space there, or give another folder)",
            _ => "",
        };
        Failure(format!("{}: {error}{hint}", path.display()))
    }

    pub(crate) fn stopped() -> Failure {
        Failure::new(Failure::STOPPED)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
