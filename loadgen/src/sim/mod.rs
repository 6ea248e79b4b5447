//! `thane-loadgen sim`: scenarios in the engine's World.

mod lifeguard;
mod options;
mod report;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use thane_engine::sim::{Outcome, Play, Scenario, swarm};

pub(crate) use self::options::Options;
use self::options::Task;
use self::report::{Cost, Timeline};
use crate::arguments::Failure;
use crate::process;
use crate::progress::{Progress, Step};
use crate::report::{Made, table};
use crate::spread::Spread;
use crate::stop::{STOPPED, Stop};

/// What a seed that failed is replayed by.
const REPLAY: &str = "replay: cargo run --release -p thane-loadgen -- sim sweep --seed";
/// A node panicked.
const EXIT_CRASH: u8 = 101;
/// A rule was broken.
const EXIT_SAFETY: u8 = 3;
/// Views did not become equal in time.
const EXIT_LIVENESS: u8 = 4;

/// Runs the command. The exit code is one of those in `--help`.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let task = options.task().map_err(Failure::Usage)?;
    let stop = Stop::on_signal();
    match &task {
        Task::Play(scenario) => Ok(play_all(scenario, options, &stop)?),
        Task::Sweep => Ok(sweep(options, &stop)),
        Task::Lifeguard(scenario, count, still) => {
            lifeguard::run(scenario, &lifeguard::rows(*count, *still), options, &stop);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// One run for each seed; one table and one report of all runs.
fn play_all(scenario: &Scenario, options: &Options, stop: &Stop) -> Result<ExitCode, String> {
    let mut report = report::report(scenario, Made::here(crate::PROGRAM));
    let mut code = 0;
    for seed in options.seeds() {
        let mut play = Play::new(scenario, seed);
        if options.check {
            play.check();
        }
        play.sample_compression(options.sample_compression);
        let (started, cpu) = (Instant::now(), process::cpu(std::process::id()));
        let (outcome, timeline) = watched(play, &format!("{} seed {seed}", scenario.name), stop);
        let cost = Cost {
            took: started.elapsed(),
            cpu: process::cpu(std::process::id()).saturating_sub(cpu),
            memory_max_bytes: process::status_kb(std::process::id(), "VmHWM:").unwrap_or_default() * 1024,
        };
        let lasted = outcome.lasted.as_secs_f64();
        let ratio = lasted / cost.took.as_secs_f64().max(1e-9);
        println!(
            "seed {seed}: trace {:016x}, {lasted:.1} s virtual in {:.1} s ({ratio:.1} times as fast)",
            outcome.trace_hash,
            cost.took.as_secs_f64()
        );
        report::add(&mut report.subjects[0], scenario, seed, &outcome, &timeline, cost);
        code = exit_code(&outcome);
        if code != 0 || outcome.stopped {
            break;
        }
    }
    print!("\n{}\n{}", report.title, table(std::slice::from_ref(&report)));
    if let Some(dir) = &options.out {
        let paths = report.write(dir, &format!("{}-{}", scenario.name, scenario.nodes))?;
        println!("\nwritten: {} and {}", paths[0].display(), paths[1].display());
    }
    Ok(ExitCode::from(code))
}

/// The measures of a command line by their ids, over its seeds; of Lifeguard's experiment by what is off in them.
///
/// # Errors
/// One line: the command is wrong or measures nothing, a run failed, or an end is wanted.
pub(crate) fn spreads(options: &Options, stop: &Stop) -> Result<BTreeMap<String, Spread>, String> {
    match options.task()? {
        Task::Play(scenario) => {
            let mut report = report::report(&scenario, Made::here(crate::PROGRAM));
            for seed in options.seeds() {
                let mut play = Play::new(&scenario, seed);
                play.sample_compression(options.sample_compression);
                let (outcome, timeline) = watched(play, &format!("{} seed {seed}", scenario.name), stop);
                if outcome.stopped {
                    return Err(STOPPED.to_owned());
                }
                if exit_code(&outcome) != 0 {
                    return Err(report::faults(&outcome).trim_end().replace('\n', "; "));
                }
                let subject = &mut report.subjects[0];
                report::add(subject, &scenario, seed, &outcome, &timeline, Cost::default());
            }
            let measures = report.subjects.remove(0).measures;
            Ok(measures.into_iter().map(|measure| (measure.id.clone(), measure.spread())).collect())
        }
        Task::Lifeguard(scenario, count, still) => {
            let [row] = lifeguard::rows(count, still)[..] else {
                return Err("one row of the matrix takes --count and --still".to_owned());
            };
            lifeguard::measure(&scenario, row, options, stop, &mut || {}).map(lifeguard::by_id)
        }
        Task::Sweep => Err("`sweep` checks rules and measures nothing".to_owned()),
    }
}

/// Draws, plays and checks a scenario for each seed; stops at the first that fails.
fn sweep(options: &Options, stop: &Stop) -> ExitCode {
    let seeds = options.seeds().count();
    let progress = Progress::default();
    progress.phase("sweep");
    let (mut passed, mut steps, mut longest) = (0u64, 0u64, Duration::ZERO);
    let mut false_failures = 0;
    let mut faults: BTreeMap<String, u64> = BTreeMap::new();
    let current = Arc::new(AtomicU64::new(0));
    replay_after_crash(Arc::clone(&current));
    let single = seeds == 1;
    for seed in options.seeds() {
        current.store(seed, Ordering::Relaxed);
        let scenario = swarm::draw(seed);
        if single {
            println!("{}", scenario.to_toml());
        }
        let mut play = Play::new(&scenario, seed);
        play.check();
        let outcome = play.run(|_, _| !stop.is_wanted());
        let code = exit_code(&outcome);
        if code != 0 {
            progress.clear();
            if !single {
                println!("{}", scenario.to_toml());
            }
            print!("{}", report::faults(&outcome));
            println!("{REPLAY} {seed}");
            return ExitCode::from(code);
        }
        if outcome.stopped {
            break;
        }
        passed += 1;
        steps += outcome.steps;
        longest = longest.max(outcome.settled_in.unwrap_or_default());
        false_failures += outcome.measures.false_about_healthy;
        for fault in report::drawn(&scenario) {
            *faults.entry(fault).or_default() += 1;
        }
        if single {
            println!("trace {:016x}", outcome.trace_hash);
        }
        progress.step(Step { done: passed as f64, total: seeds as f64, unit: "seeds", detail: "" });
    }
    progress.clear();
    println!("seeds passed          {passed} of {}", seeds);
    println!("inputs handled        {steps}");
    println!("longest settling      {:.2} s", longest.as_secs_f64());
    println!("false failures        {false_failures}");
    println!("\nseeds that passed, by what they had");
    for (fault, count) in faults {
        println!("  {fault:<34}{count}");
    }
    ExitCode::SUCCESS
}

/// From now on a panic prints the command that repeats it, and ends the process with its own exit code.
fn replay_after_crash(seed: Arc<AtomicU64>) {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |crash| {
        tell(crash);
        eprintln!("{REPLAY} {}", seed.load(Ordering::Relaxed));
        std::process::exit(i32::from(EXIT_CRASH));
    }));
}

/// Plays, samples and shows the progress over virtual time.
fn watched(play: Play, title: &str, stop: &Stop) -> (Outcome, Timeline) {
    let (progress, mut timeline) = (Progress::default(), Timeline::default());
    progress.phase(title);
    let outcome = play.observe(|moment| {
        let known = timeline.sample(moment);
        let (done, total) = (moment.passed.as_secs_f64(), moment.expected.as_secs_f64());
        let detail = format!("{known:.1} % of the views full");
        progress.step(Step { done, total, unit: "virtual s", detail: &detail });
        !stop.is_wanted()
    });
    (outcome, timeline)
}

fn exit_code(outcome: &Outcome) -> u8 {
    match (outcome.violations.is_empty(), &outcome.unsettled) {
        (false, _) => EXIT_SAFETY,
        (true, Some(_)) => EXIT_LIVENESS,
        (true, None) => 0,
    }
}
