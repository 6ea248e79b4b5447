//! The table of commands, and the choice of one from a command line. As in Serf, a flag before the command does not
//! belong to it, `-h` anywhere asks for the help, and `-v` or `--version` anywhere is the command `version`.

use std::process::ExitCode;

use thane_engine::ipc::{Client, ClientError, QueryRecord, Record};

use crate::command::{Command, Failure};
use crate::flags::Argument;
use crate::output::say_aside;

mod agent;
mod doctor;
mod event;
mod force_leave;
mod info;
mod join;
mod keygen;
mod keys;
mod leave;
mod members;
mod monitor;
mod query;
mod reachability;
mod rtt;
mod tags;
mod top;
mod version;

/// All commands, sorted by name, as the usage lists them.
const ALL: &[Command] = &[
    agent::COMMAND,
    crate::decode::COMMAND,
    crate::demo::COMMAND,
    doctor::COMMAND,
    event::COMMAND,
    force_leave::COMMAND,
    info::COMMAND,
    join::COMMAND,
    keygen::COMMAND,
    keys::COMMAND,
    leave::COMMAND,
    members::COMMAND,
    monitor::COMMAND,
    query::COMMAND,
    reachability::COMMAND,
    rtt::COMMAND,
    tags::COMMAND,
    top::COMMAND,
    version::COMMAND,
];

/// Exit code for an unknown command.
const NO_SUCH_COMMAND: u8 = 127;

/// Runs the command that `arguments`, the command line without the program's name, ask for.
pub(crate) fn run(arguments: &[Argument]) -> ExitCode {
    match Invocation::of(arguments) {
        Invocation::Usage(code) => {
            say_aside(usage());
            ExitCode::from(code)
        }
        Invocation::Help(command) => {
            say_aside(command.help());
            ExitCode::SUCCESS
        }
        Invocation::StrayFlags(command) => {
            say_aside(format_args!(
                "Flags of {0} go after the command: thane {0} ...\n\n{1}",
                command.name,
                command.help()
            ));
            ExitCode::FAILURE
        }
        Invocation::Run(command, arguments) => command.execute(arguments),
    }
}

/// What a command line asks for, by Serf's rules.
#[derive(Debug)]
enum Invocation<'a> {
    /// The list of commands, and the exit code.
    Usage(u8),
    /// A command's help.
    Help(&'static Command),
    /// Flags stand before the command, which is an error.
    StrayFlags(&'static Command),
    /// A command with its arguments.
    Run(&'static Command, &'a [Argument]),
}

impl Invocation<'_> {
    fn of(arguments: &[Argument]) -> Invocation<'_> {
        if arguments.iter().any(|argument| argument == "-v" || argument == "--version") {
            return Invocation::Run(&version::COMMAND, arguments);
        }
        let own = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
        let is_help = |argument: &Argument| ["-h", "-help", "--help"].contains(&&**argument);
        let help = arguments[..own].iter().any(is_help);
        let Some(place) = arguments[..own].iter().position(|argument| !argument.starts_with('-')) else {
            return Invocation::Usage(if help { 0 } else { NO_SUCH_COMMAND });
        };
        let Some(command) = ALL.iter().find(|command| arguments[place] == *command.name) else {
            return Invocation::Usage(NO_SUCH_COMMAND);
        };
        if help {
            Invocation::Help(command)
        } else if place > 0 {
            Invocation::StrayFlags(command)
        } else {
            Invocation::Run(command, &arguments[1..])
        }
    }
}

/// The name and the payload of an event or a query from its positional arguments.
fn name_and_payload<'a>(
    arguments: &'a [Argument],
    nameless: &'static str,
) -> Result<(&'a str, Vec<u8>), Failure> {
    match arguments {
        [] => Err(Failure::Usage(nameless)),
        [name] => Ok((name, Vec::new())),
        [name, payload] => Ok((name, payload.bytes().to_vec())),
        _ => {
            Err(Failure::Usage("Too many command line arguments. Only a name and payload must be specified."))
        }
    }
}

/// The next record of the query of this connection; `None` once the agent has closed the connection.
///
/// # Errors
/// The agent stays silent.
fn query_record(client: &mut Client) -> Result<Option<QueryRecord>, ClientError> {
    match client.record() {
        Ok((_, Record::Query(record))) => Ok(Some(record)),
        Err(error @ ClientError::NoAnswer(_)) => Err(error),
        Ok(_) | Err(_) => Ok(None),
    }
}

/// Calls `react` on Ctrl-C. If no handler can be installed, Ctrl-C ends the program.
fn on_interrupt(react: impl Fn() + Send + 'static) {
    let _ = ctrlc::set_handler(react);
}

fn usage() -> String {
    let mut usage =
        "Usage: thane [--version] [--help] <command> [<args>]\n\nAvailable commands are:".to_owned();
    let width = ALL.iter().map(|command| command.name.len()).max().unwrap_or(0);
    for command in ALL {
        usage.push_str(&format!("\n    {:width$}    {}", command.name, command.synopsis));
    }
    usage.push('\n');
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> String {
        let arguments: Vec<Argument> =
            line.split(' ').filter(|word| !word.is_empty()).map(Argument::from).collect();
        match Invocation::of(&arguments) {
            Invocation::Usage(code) => format!("usage {code}"),
            Invocation::Help(command) => format!("help {}", command.name),
            Invocation::StrayFlags(command) => format!("stray {}", command.name),
            Invocation::Run(command, arguments) => {
                let words: Vec<&str> = arguments.iter().map(|argument| &**argument).collect();
                format!("{} {}", command.name, words.join(" "))
            }
        }
    }

    #[test]
    fn command_lines_are_understood_as_serf_does() {
        for (line, expected) in [
            ("", "usage 127"),
            ("bogus", "usage 127"),
            ("bogus -h", "usage 127"),
            ("help", "usage 127"),
            ("-x", "usage 127"),
            ("-x -h", "usage 0"),
            ("--help", "usage 0"),
            ("-- members", "usage 127"),
            ("members -name x", "members -name x"),
            ("members -name -h", "help members"),
            ("-h members", "help members"),
            ("members -- -h", "members -- -h"),
            ("-rpc-addr=x members", "stray members"),
            ("members -- -v", "version members -- -v"),
        ] {
            assert_eq!(of(line), expected, "{line}");
        }
    }

    #[test]
    fn every_command_has_help_that_fits_a_terminal() {
        for command in ALL {
            let help = command.help();
            assert!(help.starts_with(&format!("Usage: thane {}", command.name)));
            assert!(help.lines().all(|line| line.len() <= 80), "{help}");
        }
        assert!(ALL.is_sorted_by_key(|command| command.name));
    }
}
