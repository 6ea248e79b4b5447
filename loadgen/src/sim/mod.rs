//! `thane-loadgen sim`: scenarios in the engine's World.

mod lifeguard;
mod options;
mod report;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use thane_engine::sim::{Outcome, Play, Scenario, swarm};

use self::options::{Options, Task};
use self::report::Cost;
use crate::output::{self, style};
use crate::process;

/// What a seed that failed is replayed by.
const REPLAY: &str = "replay: cargo run --release -p thane-loadgen -- sim sweep --seed";
/// A node panicked.
const EXIT_CRASH: u8 = 101;
/// A rule was broken.
const EXIT_SAFETY: u8 = 3;
/// Views did not become equal in time.
const EXIT_LIVENESS: u8 = 4;

/// Runs the subcommand.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("thane-loadgen sim: {error}");
            return ExitCode::from(crate::EXIT_USAGE);
        }
    };
    let stop = output::stop_on_signal();
    let result = match &options.task {
        Task::Help => {
            print!("{}", options::help());
            Ok(ExitCode::SUCCESS)
        }
        Task::Play(scenario) => play_all(scenario, &options, &stop),
        Task::Sweep => sweep(&options, &stop),
        Task::Lifeguard(scenario, count, still) => {
            lifeguard::run(scenario, &lifeguard::rows(*count, *still), &options, &stop);
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("thane-loadgen sim: {error}");
        ExitCode::FAILURE
    })
}

/// One run for each seed, with its table.
fn play_all(scenario: &Scenario, options: &Options, stop: &AtomicBool) -> Result<ExitCode, String> {
    let mut outcomes = Vec::new();
    for seed in options.seeds.clone() {
        let mut play = Play::new(scenario, seed);
        if options.check {
            play.check();
        }
        play.sample_compression(options.sample_compression);
        let (started, cpu) = (Instant::now(), process::cpu(std::process::id()));
        let outcome = watched(play, &format!("{} seed {seed}", scenario.name), stop);
        let cost = Cost {
            took: started.elapsed(),
            cpu: process::cpu(std::process::id()).saturating_sub(cpu),
            memory_max_bytes: process::status_kb(std::process::id(), "VmHWM:").unwrap_or_default() * 1024,
        };
        print!("{}", report::table(scenario, seed, &outcome, cost));
        if let Some(dir) = &options.out {
            let name = format!("{}-{}-{seed}.json", scenario.name, scenario.nodes);
            output::write_json(dir, &name, &report::json(scenario, seed, &outcome, cost))?;
        }
        let code = exit_code(&outcome);
        if code != 0 {
            return Ok(ExitCode::from(code));
        }
        if outcome.stopped {
            break;
        }
        outcomes.push(outcome);
    }
    if outcomes.len() > 1 {
        print!("{}", report::summary(scenario, &outcomes));
    }
    Ok(ExitCode::SUCCESS)
}

/// Swarm mode: draws, plays and checks; stops at the first seed that fails.
fn sweep(options: &Options, stop: &AtomicBool) -> Result<ExitCode, String> {
    let bar = ProgressBar::new(options.seeds.end - options.seeds.start);
    bar.set_style(style("seeds {pos}/{len} {wide_bar} {eta}"));
    let (mut passed, mut steps, mut longest) = (0u64, 0u64, Duration::ZERO);
    let mut false_failures = 0;
    let mut faults: BTreeMap<String, u64> = BTreeMap::new();
    let current = Arc::new(AtomicU64::new(0));
    replay_after_crash(Arc::clone(&current));
    let single = options.seeds.end - options.seeds.start == 1;
    for seed in options.seeds.clone() {
        current.store(seed, Ordering::Relaxed);
        let scenario = swarm::draw(seed);
        if single {
            println!("{}", scenario.to_toml());
        }
        let mut play = Play::new(&scenario, seed);
        play.check();
        let outcome = play.run(|_, _| !stop.load(Ordering::Relaxed));
        let code = exit_code(&outcome);
        if code != 0 {
            bar.finish_and_clear();
            if !single {
                println!("{}", scenario.to_toml());
            }
            print!("{}", report::faults(&outcome));
            println!("{REPLAY} {seed}");
            return Ok(ExitCode::from(code));
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
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!("seeds passed          {passed} of {}", options.seeds.end - options.seeds.start);
    println!("inputs handled        {steps}");
    println!("longest settling      {:.2} s", longest.as_secs_f64());
    println!("healthy told as failed {false_failures}");
    println!("\nof the seeds that passed, so many had");
    for (fault, count) in faults {
        println!("  {fault:<34}{count}");
    }
    Ok(ExitCode::SUCCESS)
}

/// From now on a crash says how to see it again, and ends the process with its own exit code.
fn replay_after_crash(seed: Arc<AtomicU64>) {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |crash| {
        tell(crash);
        eprintln!("{REPLAY} {}", seed.load(Ordering::Relaxed));
        std::process::exit(i32::from(EXIT_CRASH));
    }));
}

/// Plays with a progress bar over virtual time.
fn watched(play: Play, title: &str, stop: &AtomicBool) -> Outcome {
    let bar = ProgressBar::new(0);
    bar.set_style(style(&format!("{title} {{wide_bar}} {{msg}} {{eta}}")));
    let outcome = play.run(|passed, expected| {
        bar.set_length(expected.as_millis() as u64);
        bar.set_position(passed.as_millis() as u64);
        bar.set_message(format!("{:.1} of {:.0} s", passed.as_secs_f64(), expected.as_secs_f64()));
        !stop.load(Ordering::Relaxed)
    });
    bar.finish_and_clear();
    outcome
}

fn exit_code(outcome: &Outcome) -> u8 {
    match (outcome.violations.is_empty(), &outcome.unsettled) {
        (false, _) => EXIT_SAFETY,
        (true, Some(_)) => EXIT_LIVENESS,
        (true, None) => 0,
    }
}
