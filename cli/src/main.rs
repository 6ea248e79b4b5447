//! The `thane` binary. Under the name `serf`, as a link, it is the same program.

mod agent;
mod base64;
mod clients;
mod command;
mod commands;
mod decode;
mod demo;
mod escape;
mod flags;
mod http;
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
