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

use self::measure::{Measured, Watch};
pub(crate) use self::options::Options;
use self::options::Phase;
use crate::agent::{Agent, Launch};
use crate::arguments::Failure;
use crate::progress::Progress;
use crate::stop::Stop;

/// Measures one agent, or several under the same load one after the other, and prints the columns side by side.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    options.check().map_err(Failure::Usage)?;
    let subjects = options.subjects();
    let is_bare = |launch: &Launch| launch.title == bare::COMMAND;
    if options.phase() != Phase::Steady && subjects.iter().any(is_bare) {
        return Err(Failure::Usage("--flood and --junk need agents; `bare` is none".to_owned()));
    }
    let (stop, progress) = (Stop::on_signal(), Progress::default());
    let mut columns: Vec<(String, Measured)> = Vec::new();
    let mut result = Ok(());
    if let Some(gossip) = options.addr {
        let agent = Agent::running(gossip, options.node.clone(), options.rpc(gossip.ip()), options.pid);
        let mut rows = Measured::new();
        let watch = Watch { title: &agent.title, stop: &stop, progress: &progress };
        result = measure::measure(&agent, options, &watch, &mut rows);
        columns.push((agent.title.clone(), rows));
    }
    for launch in &subjects {
        eprintln!("{}: {} on {}", launch.title, launch.program.display(), launch.ip);
        let (mut rows, bare) = (Measured::new(), is_bare(launch));
        let watch = Watch { title: &launch.title, stop: &stop, progress: &progress };
        result = measure_one(launch, bare, options, &watch, &mut rows);
        columns.push((launch.title.clone(), rows));
        if result.is_err() {
            break;
        }
    }
    progress.clear();
    let heading = match options.phase() {
        Phase::Steady => measure::heading(options),
        Phase::Flood => flood::heading(options),
        Phase::Junk => junk::heading(options),
    };
    // After an error the table has everything up to then.
    if columns.iter().any(|(_, rows)| !rows.is_empty()) {
        print!("{}", measure::table(&heading, &columns));
    }
    Ok(result?)
}

/// Starts one agent, or the bare loop, and measures it.
fn measure_one(
    launch: &Launch,
    is_bare: bool,
    options: &Options,
    watch: &Watch<'_>,
    rows: &mut Measured,
) -> Result<(), String> {
    match options.phase() {
        Phase::Steady if is_bare => measure::bare(&bare::start(launch)?, options, watch, rows),
        Phase::Steady => measure::measure(&Agent::start(launch)?, options, watch, rows),
        Phase::Flood => flood::measure(launch, options, watch, rows),
        Phase::Junk => junk::measure(launch, options, watch, rows),
    }
}
