//! Load generator: convergence and bandwidth of large fleets on one machine.
//!
//! Each subcommand is one row of [`COMMANDS`] and one module.

mod agent;
mod arguments;
mod calibrate;
mod fleet;
mod output;
mod process;
mod sim;
mod spread;
mod target;

use std::ffi::OsString;
use std::process::ExitCode;

/// States of big clusters are megabytes that come and go: the system's allocator maps them anew each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One subcommand.
struct Command {
    name: &'static str,
    /// One line for the overview.
    about: &'static str,
    /// Gets the arguments after the name; tells the user itself what went wrong.
    run: fn(Vec<OsString>) -> ExitCode,
}

const COMMANDS: &[Command] = &[
    Command { name: "calibrate", about: "real agents and the simulator side by side", run: calibrate::run },
    Command { name: "fleet", about: "complete nodes on real UDP and TCP on 127.0.0.0/8", run: fleet::run },
    Command { name: "sim", about: "production nodes in virtual time, from one seed", run: sim::run },
    Command { name: "target", about: "emulated members around one agent, ours or Serf's", run: target::run },
];

/// The command line makes no sense.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.is_empty() {
        eprint!("{}", overview());
        return ExitCode::from(EXIT_USAGE);
    }
    let name = arguments.remove(0).to_string_lossy().into_owned();
    if name == target::sender::COMMAND {
        return target::sender::run(arguments);
    }
    if name == target::bare::COMMAND {
        return target::bare::run(arguments);
    }
    if matches!(name.as_str(), "-h" | "--help" | "help") {
        print!("{}", overview());
        return ExitCode::SUCCESS;
    }
    match COMMANDS.iter().find(|command| command.name == name) {
        Some(command) => (command.run)(arguments),
        None => {
            eprintln!("thane-loadgen: unknown command `{name}`\n");
            eprint!("{}", overview());
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn overview() -> String {
    let mut text = String::from("Usage: thane-loadgen COMMAND [ARGUMENTS], or COMMAND --help\n\n");
    for command in COMMANDS {
        text.push_str(&format!("  {:<10} {}\n", command.name, command.about));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overview_names_every_command() {
        let text = overview();
        assert!(COMMANDS.iter().all(|command| text.contains(command.name)));
    }
}
