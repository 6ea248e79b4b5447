//! Counts the instructions of the hot functions and compares them with `bench/instructions.toml`.
//!
//! `cargo run --release -p thane-bench --bin instructions -- check` fails when a count is more than 2 % off, in
//! either direction, so that the file stays true; `-- update` writes it. Needs valgrind. Unlike times, counts are
//! the same on a busy machine; they depend on the compiler (the file says which), on the profile (release as it is
//! in Cargo.toml) and a little on the C library.

mod cases;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;

use clap::{Parser, Subcommand};
use serde::{Deserialize, Serialize};

use crate::cases::{CASES, Case};

/// A count may be off by this much, percent.
const TOLERANCE: f64 = 2.0;

/// The file: the counts, and the compiler of the counted program.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Baseline {
    rustc: String,
    /// Instructions per run.
    counts: BTreeMap<String, u64>,
}

/// Counts the instructions of the hot functions under valgrind.
#[derive(Debug, Parser)]
#[command(name = "instructions")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Compares all counts with bench/instructions.toml; fails if one is more than 2 % off
    Check,
    /// Writes all counts to bench/instructions.toml
    Update,
    /// Does one case that many times; `check` and `update` start this under valgrind
    #[command(hide = true)]
    Run { case: String, runs: usize },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Check => count_all().and_then(|counted| check(&counted)),
        Task::Update => count_all().and_then(|counted| update(&counted)),
        Task::Run { case, runs } => run(&case, runs),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The process that valgrind counts.
fn run(case: &str, runs: usize) -> Result<(), String> {
    let case = CASES.iter().find(|known| known.name == case).ok_or("no such case")?;
    (case.body)(runs);
    Ok(())
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml")
}

/// Counts every case, one on each processor.
fn count_all() -> Result<Baseline, String> {
    let rustc = Command::new("rustc").arg("-V").output().map_err(|error| format!("rustc -V: {error}"))?;
    let waiting = Mutex::new(CASES.iter());
    let counted = Mutex::new(Ok(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let next = || waiting.lock().expect("no thread panics with it").next();
                while let Some(case) = next() {
                    let count = count(case);
                    let mut counted = counted.lock().expect("no thread panics with it");
                    match (&mut *counted, count) {
                        (Ok(counts), Ok(count)) => drop(counts.insert(case.name.to_owned(), count)),
                        (Ok(_), Err(why)) => *counted = Err(why),
                        (Err(_), _) => return,
                    }
                }
            });
        }
    });
    let counts = counted.into_inner().expect("no thread panics with it")?;
    Ok(Baseline { rustc: String::from_utf8_lossy(&rustc.stdout).trim().to_owned(), counts })
}

/// Instructions of one run of a case.
fn count(case: &Case) -> Result<u64, String> {
    let (once, twice) = (total(case, case.runs)?, total(case, 2 * case.runs)?);
    let more = twice.checked_sub(once).ok_or_else(|| format!("{}: more runs cost less", case.name))?;
    Ok(more / case.runs as u64)
}

/// Instructions of the whole process.
fn total(case: &Case, runs: usize) -> Result<u64, String> {
    let myself = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(myself)
        .args(["run", case.name, &runs.to_string()])
        // The size of the environment would move the stack.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .map_err(|error| format!("valgrind: {error} (apt-get install valgrind)"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let total = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    match total {
        Some(total) if output.status.success() => Ok(total),
        _ => Err(format!("{}: {}", case.name, without_valgrind(&said))),
    }
}

/// The lines of the program itself, without valgrind's.
fn without_valgrind(said: &str) -> String {
    said.lines().filter(|line| !line.starts_with("==")).collect::<Vec<_>>().join("\n").trim().to_owned()
}

fn update(counted: &Baseline) -> Result<(), String> {
    let head = "# Instructions of one run of each case. Written by: cargo run --release -p thane-bench --bin instructions -- update\n";
    let text = toml::to_string(counted).map_err(|error| error.to_string())?;
    std::fs::write(path(), format!("{head}{text}")).map_err(|error| error.to_string())?;
    for (name, count) in &counted.counts {
        println!("{name:<45} {count:>10}");
    }
    Ok(())
}

/// Prints all counts beside those of the baseline.
///
/// # Errors
/// A count is off.
fn check(counted: &Baseline) -> Result<(), String> {
    let text = std::fs::read_to_string(path()).map_err(|error| format!("{}: {error}", path().display()))?;
    let baseline: Baseline = toml::from_str(&text).map_err(|error| error.to_string())?;
    println!("{:<45} {:>10} {:>10} {:>7}", "instructions of one", "baseline", "now", "%");
    let (mut slower, mut others) = (Vec::new(), Vec::new());
    for (name, &now) in &counted.counts {
        let Some(&before) = baseline.counts.get(name) else {
            println!("{name:<45} {:>10} {now:>10}", "-");
            others.push(name.as_str());
            continue;
        };
        let percent = 100.0 * (now as f64 / before as f64 - 1.0);
        println!("{name:<45} {before:>10} {now:>10} {percent:>+7.1}");
        if percent > TOLERANCE {
            slower.push(format!("{name}: {now} instructions, {before} in the baseline"));
        } else if percent < -TOLERANCE {
            others.push(name.as_str());
        }
    }
    others.extend(
        baseline.counts.keys().filter(|name| !counted.counts.contains_key(*name)).map(String::as_str),
    );
    if baseline.rustc != counted.rustc {
        let Baseline { rustc, .. } = &baseline;
        return Err(format!(
            "the baseline was counted with {rustc}, this program with {}: the counts can't be compared; run update",
            counted.rustc
        ));
    }
    if !slower.is_empty() {
        return Err(format!("more than {TOLERANCE} % above the baseline:\n{}", slower.join("\n")));
    }
    if !others.is_empty() {
        return Err(format!("fewer than in the baseline, or not in both: {}; run update", others.join("; ")));
    }
    Ok(())
}
