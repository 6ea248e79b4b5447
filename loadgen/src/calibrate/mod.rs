//! `thane-loadgen calibrate`: real agents and the simulator, measured in the same way.

mod capture;
mod cluster;
mod namespace;
mod options;
mod real;
mod report;
mod samples;
mod simulated;

use std::ffi::OsString;
use std::process::ExitCode;

use indicatif::ProgressBar;

use self::cluster::Stop;
use self::options::{HELP, Options};
use self::real::{Counted, Run};
use self::report::{Report, SIMULATED, Side};
use self::samples::Samples;
use crate::agent::title;
use crate::output::{self, stop_on_signal, style};

/// Runs the subcommand.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("thane-loadgen calibrate: {error}");
            return ExitCode::from(crate::EXIT_USAGE);
        }
    };
    if options.help {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let not_counted = namespace::enter().err();
    let stop = Stop(stop_on_signal());
    let mut report = Report { options: &options, sides: Vec::new(), not_counted };
    let result = measure(&mut report, &stop);
    // What was measured before an error or a signal is shown.
    if report.sides.iter().any(|side| !side.samples.0.is_empty()) {
        print!("{}", report.table());
    }
    let written = options.out.as_ref().map_or(Ok(()), |dir| {
        output::write_json(dir, &format!("calibrate-{}.json", options.nodes), &report.json())
    });
    match result.and(written) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("thane-loadgen calibrate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(report: &mut Report<'_>, stop: &Stop) -> Result<(), String> {
    let options = report.options;
    let runs = options.runs * (options.agents.len() as u64 + 1);
    let bar = ProgressBar::new(runs);
    bar.set_style(style("runs {pos}/{len} {wide_bar} {msg} {elapsed}"));
    let seeds = || options.seed..options.seed.saturating_add(options.runs);
    for word in &options.agents {
        let mut side = Side { title: title(word), samples: Samples::default(), counted: Counted::default() };
        let name = side.title.clone();
        let result: Result<(), String> = seeds().try_for_each(|seed| {
            let tell = |doing: &str| bar.set_message(format!("{name}: {doing}"));
            let counts = report.not_counted.is_none();
            let Side { samples, counted, .. } = &mut side;
            Run { options, stop, counts, samples, counted, tell: &tell }.measure(word, seed)?;
            bar.inc(1);
            Ok(())
        });
        report.sides.push(side);
        result?;
    }
    let title = SIMULATED.to_owned();
    let mut side = Side { title, samples: Samples::default(), counted: Counted::default() };
    let result = seeds().try_for_each(|seed| {
        bar.set_message(SIMULATED);
        simulated::measure(options, seed, stop, &mut side.samples)?;
        bar.inc(1);
        Ok(())
    });
    report.sides.push(side);
    bar.finish_and_clear();
    result
}
