//! `thane-loadgen sim`: scenarios in the engine's World.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the subcommand.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    eprintln!("thane-loadgen sim: unknown scenario {arguments:?}");
    ExitCode::from(crate::EXIT_USAGE)
}
