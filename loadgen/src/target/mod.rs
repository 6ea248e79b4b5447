//! `thane-loadgen target`: emulated members around one agent, ours or Serf's, through its public ports only.

pub(crate) mod bare;
mod deck;
pub(crate) mod emulated;
mod flood;
mod junk;
mod load;
mod measure;
mod options;
pub(crate) mod sender;
mod streams;

use std::ffi::OsString;
use std::process::ExitCode;

use self::measure::Measured;
use self::options::{Options, Phase, USAGE};
use crate::agent::Agent;
use crate::arguments;

/// The command with its arguments.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    arguments::run("target", USAGE, arguments, Options::parse, measure_all)
}

/// Measures one agent, or the same load at several one after the other, and prints the columns side by side.
fn measure_all(options: &Options) -> Result<(), String> {
    let mut columns: Vec<(String, Measured)> = Vec::new();
    if let Some(gossip) = options.addr {
        let agent = Agent::running(gossip, options.node.clone(), options.rpc(gossip.ip()), options.pid);
        columns.push((agent.title.clone(), measure::measure(&agent, options)?));
    }
    for launch in options.subjects() {
        eprintln!("{}: {} on {}", launch.title, launch.program.display(), launch.ip);
        let rows = match options.phase {
            Phase::Steady if launch.is_bare() => measure::bare(&Agent::start(&launch)?, options),
            Phase::Steady => measure::measure(&Agent::start(&launch)?, options),
            Phase::Flood => flood::measure(&launch, options),
            Phase::Junk => junk::measure(&launch, options),
        };
        columns.push((launch.title, rows?));
    }
    let heading = match options.phase {
        Phase::Steady => measure::heading(options),
        Phase::Flood => flood::heading(options),
        Phase::Junk => junk::heading(options),
    };
    print!("{}", measure::table(&heading, &columns));
    Ok(())
}
