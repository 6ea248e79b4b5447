//! The `thane` binary. Under the name `serf`, as a link, it is the same program.

mod agent;
mod base64;
mod command;
mod commands;
mod decode;
mod demo;
mod flags;
mod json;
mod output;
mod rpc;
mod tags;

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<flags::Argument> = env::args_os().skip(1).map(Into::into).collect();
    commands::run(&arguments)
}
