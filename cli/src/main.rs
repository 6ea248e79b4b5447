//! The `thane` binary. The agent's parts that need no driver are here and tested; commands come with it.

#[expect(dead_code, reason = "the agent that uses these parts comes with the io drivers")]
mod agent;
mod decode;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    match args.split_first() {
        Some((command, args)) if command == "decode" => decode::run(args),
        _ => {
            eprintln!("thane has no commands yet but decode: the engine is being built, see README.md");
            ExitCode::FAILURE
        }
    }
}
