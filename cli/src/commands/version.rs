//! `thane version`: the version of the program and of the protocol.

use std::process::ExitCode;

use crate::command::{Command, Failure};
use crate::flags::Argument;
use crate::output::say;

pub(crate) const COMMAND: Command = Command {
    name: "version",
    arguments: "",
    synopsis: "Print the version",
    about: "Prints the version of Thane and the versions of Serf's protocol that it speaks.",
    options: &[],
    run,
};

/// The version of Serf's protocol that agents speak by default, and the oldest that they understand.
const PROTOCOL: (u8, u8) = (5, 2);

fn run(_: &[Argument]) -> Result<ExitCode, Failure> {
    let (speaks, understands) = PROTOCOL;
    say(env!("CARGO_PKG_VERSION"));
    say(format_args!("Agent Protocol: {speaks} (Understands back to: {understands})"));
    Ok(ExitCode::SUCCESS)
}
