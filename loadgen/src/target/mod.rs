//! `thane-loadgen target`: emulated members around one agent, Thane's or Serf's, through its public ports only.

pub(crate) mod bare;
mod deck;
mod emulated;
mod flood;
mod junk;
mod load;
mod measure;
mod options;
pub(crate) mod sender;
mod streams;

use self::measure::Measured;
pub(crate) use self::options::Options;
use self::options::Phase;
use crate::agent::{Agent, Launch};
use crate::arguments::Failure;

/// Measures one agent, or several under the same load one after the other, and prints the columns side by side.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    options.check().map_err(Failure::Usage)?;
    let subjects = options.subjects();
    let is_bare = |launch: &Launch| launch.title == bare::COMMAND;
    if options.phase() != Phase::Steady && subjects.iter().any(is_bare) {
        return Err(Failure::Usage("--flood and --junk need agents; `bare` is none".to_owned()));
    }
    let mut columns: Vec<(String, Measured)> = Vec::new();
    if let Some(gossip) = options.addr {
        let agent = Agent::running(gossip, options.node.clone(), options.rpc(gossip.ip()), options.pid);
        columns.push((agent.title.clone(), measure::measure(&agent, options)?));
    }
    for launch in subjects {
        eprintln!("{}: {} on {}", launch.title, launch.program.display(), launch.ip);
        let rows = match options.phase() {
            Phase::Steady if is_bare(&launch) => measure::bare(&bare::start(&launch)?, options),
            Phase::Steady => measure::measure(&Agent::start(&launch)?, options),
            Phase::Flood => flood::measure(&launch, options),
            Phase::Junk => junk::measure(&launch, options),
        };
        columns.push((launch.title, rows?));
    }
    let heading = match options.phase() {
        Phase::Steady => measure::heading(options),
        Phase::Flood => flood::heading(options),
        Phase::Junk => junk::heading(options),
    };
    print!("{}", measure::table(&heading, &columns));
    Ok(())
}
