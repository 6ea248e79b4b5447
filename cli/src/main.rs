//! The `thane` binary, which answers to the name `serf` too: finds the command that is asked for, runs it.

mod agent;
mod commands;
mod decode;
mod demo;
mod duration;
mod flags;
mod json;
mod output;
mod rpc;

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Arguments that are not UTF-8 name nothing that an agent would know; what can be read of them is shown.
    let arguments: Vec<String> =
        env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    commands::run(&arguments)
}
