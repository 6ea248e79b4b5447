//! `thane-loadgen calibrate`: real agents and the simulator, measured in the same way.

mod agreement;
mod capture;
mod cluster;
mod namespace;
mod options;
mod real;
mod report;
mod samples;
mod simulated;

use std::collections::BTreeSet;
use std::time::Instant;

pub(crate) use self::options::Options;
use self::real::{Counted, Run};
use self::report::{Kind, Side, Sides};
use self::samples::Samples;
use crate::agent::title;
use crate::arguments::Failure;
use crate::progress::{Progress, Step};
use crate::report::{Ended, Made};
use crate::stop::{STOPPED, Stop};

/// Measures all sides, prints the table and writes the report.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    options.addresses().map_err(Failure::Usage)?;
    let not_counted = namespace::enter().err();
    let stop = Stop::on_signal();
    let made = Made::here(crate::PROGRAM);
    let mut sides = Sides { options, made, sides: Vec::new(), not_counted };
    let result = measure(&mut sides, &stop);
    // Everything measured before an error or a signal is shown.
    if sides.sides.iter().any(|side| !side.samples.rows.is_empty()) {
        print!("{}", sides.table());
        if let Some(dir) = &options.out {
            let paths = sides.report().write(dir, &format!("calibrate-{}", options.nodes()))?;
            println!("\nwritten: {} and {}", paths[0].display(), paths[1].display());
        }
    }
    Ok(result?)
}

fn measure(sides: &mut Sides<'_>, stop: &Stop) -> Result<(), String> {
    let (options, counts) = (sides.options, sides.not_counted.is_none());
    let progress = Progress::default();
    progress.phase("calibrate");
    let kinds: BTreeSet<Kind> = options.agents.iter().map(|word| Kind::of(&title(word))).collect();
    let total = (options.runs * (options.agents.len() + kinds.len()) as u64) as f64;
    let reals = options.agents.iter().map(|word| (Some(word), Kind::of(&title(word))));
    for (word, kind) in reals.chain(kinds.iter().map(|&kind| (None, kind))) {
        let name = word.map_or(kind.simulated().to_owned(), |word| title(word));
        let done = (sides.sides.len() as u64 * options.runs) as f64;
        let (mut samples, mut counted, started) = (Samples::default(), Counted::default(), Instant::now());
        let mut measured = 0;
        let mut measure_one = |seed: u64| {
            let tell = |doing: &str| {
                let detail = format!("{name}: {doing}");
                progress.step(Step {
                    done: done + f64::from(measured),
                    total,
                    unit: "runs",
                    detail: &detail,
                });
            };
            let (samples, counted) = (&mut samples, &mut counted);
            match word {
                Some(word) => {
                    Run { options, stop, counts, samples, counted, tell: &tell }.measure(word, seed)?
                }
                None => {
                    tell("playing");
                    simulated::measure(options, kind, seed, stop, samples)?;
                }
            }
            measured += 1;
            Ok(())
        };
        let mut seeds = options.seed..options.seed.saturating_add(options.runs);
        let result: Result<(), String> = seeds.try_for_each(&mut measure_one);
        let ended = match &result {
            Ok(()) => Ended::Complete,
            Err(error) if error == STOPPED => Ended::Stopped,
            Err(_) => Ended::Failed,
        };
        let seconds = started.elapsed().as_secs_f64() / f64::from(measured.max(1));
        let simulated = word.is_none();
        sides.sides.push(Side { title: name, kind, simulated, samples, counted, seconds, ended });
        result?;
    }
    Ok(())
}
