//! `thane-loadgen calibrate`: real agents and the simulator, measured in the same way.

mod capture;
mod cluster;
mod namespace;
mod options;
mod real;
mod report;
mod samples;
mod simulated;

pub(crate) use self::options::Options;
use self::real::{Counted, Run};
use self::report::{Report, SIMULATED, Side};
use self::samples::Samples;
use crate::agent::title;
use crate::arguments::Failure;
use crate::progress::{Progress, Step};
use crate::stop::Stop;

/// Measures all sides, prints the table and writes the JSON file.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    options.addresses().map_err(Failure::Usage)?;
    let not_counted = namespace::enter().err();
    let stop = Stop::on_signal();
    let mut report = Report { options, sides: Vec::new(), not_counted };
    let result = measure(&mut report, &stop);
    // Whatever was measured before an error or a signal is shown.
    if report.sides.iter().any(|side| !side.samples.0.is_empty()) {
        print!("{}", report.table());
    }
    let written = options.out.as_ref().map_or(Ok(()), |dir| report.write(dir));
    Ok(result.and(written)?)
}

fn measure(report: &mut Report<'_>, stop: &Stop) -> Result<(), String> {
    let options = report.options;
    let total = (options.runs * (options.agents.len() as u64 + 1)) as f64;
    let progress = Progress::default();
    progress.phase("calibrate");
    let mut done = 0.0;
    let tell = |done: f64, detail: &str| progress.step(Step { done, total, unit: "runs", detail });
    let seeds = || options.seed..options.seed.saturating_add(options.runs);
    for word in &options.agents {
        let mut side = Side { title: title(word), samples: Samples::default(), counted: Counted::default() };
        let name = side.title.clone();
        let result: Result<(), String> = seeds().try_for_each(|seed| {
            let tell = |doing: &str| tell(done, &format!("{name}: {doing}"));
            let counts = report.not_counted.is_none();
            let Side { samples, counted, .. } = &mut side;
            Run { options, stop, counts, samples, counted, tell: &tell }.measure(word, seed)?;
            done += 1.0;
            Ok(())
        });
        report.sides.push(side);
        result?;
    }
    let title = SIMULATED.to_owned();
    let mut side = Side { title, samples: Samples::default(), counted: Counted::default() };
    let result = seeds().try_for_each(|seed| {
        tell(done, SIMULATED);
        simulated::measure(options, seed, stop, &mut side.samples)?;
        done += 1.0;
        Ok(())
    });
    report.sides.push(side);
    result
}
