//! `thane-testbed parity`: the same command lines, RPC exchanges, flags and configuration files by real Serf and by
//! Thane. A difference that has no row in docs/differences.md is a failure, as is a row that nothing shows.

mod agent;
mod commands;
mod exchanges;
mod expected;
mod normal;
mod notation;
mod programs;
mod scene;
mod starts;
mod verdict;
mod words;

use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use clap::ValueEnum;
use serde::Deserialize;

pub(crate) use self::programs::built_thane;

use self::expected::Expected;
use self::programs::Programs;
use self::scene::Scene;
use self::starts::Starts;
use self::verdict::Verdicts;
use crate::failure::Failure;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Command lines, each by both programs, against agents of both kinds.
    Commands,
    /// Requests of the RPC port, the same bytes to an agent of each kind.
    Rpc,
    /// Starts of agents with flags and configuration files.
    Starts,
}

/// How the comparison runs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ParityOptions {
    /// Only these parts; rows that no case shows are then not reported.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Only scenes whose name contains this; rows that no case shows are then not reported.
    #[arg(long, default_value = "")]
    scene: String,
    /// Folder for the outputs of every case, a file for each part.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The `thane` binary instead of the one beside this program.
    #[arg(long, value_name = "FILE")]
    thane: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenes {
    scene: Vec<Scene>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AllStarts {
    starts: Vec<Starts>,
}

/// Runs the comparison.
///
/// # Errors
/// A program is missing, an agent does not start; or a difference has no row, or a row no difference.
pub(crate) fn run(options: &ParityOptions) -> Result<(), Failure> {
    let programs = Programs::find(options.thane.as_deref())?;
    let verdicts = Verdicts::new(Expected::load()?);
    let is_wanted = |part| options.only.is_empty() || options.only.contains(&part);
    for part in Part::value_variants().iter().filter(|part| is_wanted(**part)) {
        let begun = Instant::now();
        play(*part, &options.scene, &programs, &verdicts)?;
        println!("{part:?}: {:.0} s", begun.elapsed().as_secs_f64());
    }
    if let Some(folder) = &options.out {
        verdicts.write(folder)?;
    }
    verdicts.close(options.only.is_empty() && options.scene.is_empty())
}

fn play(part: Part, wanted: &str, programs: &Programs, verdicts: &Verdicts) -> Result<(), Failure> {
    let wrong = |file: &str, error: toml::de::Error| Failure::new(format!("testbed/parity/{file}: {error}"));
    match part {
        Part::Commands => {
            let text = include_str!("../../parity/commands.toml");
            let scenes: Scenes = toml::from_str(text).map_err(|error| wrong("commands.toml", error))?;
            at_once(&scenes.scene, wanted, |scene| commands::play(programs, scene, verdicts))
        }
        Part::Rpc => {
            let text = include_str!("../../parity/rpc.toml");
            let scenes: Scenes = toml::from_str(text).map_err(|error| wrong("rpc.toml", error))?;
            at_once(&scenes.scene, wanted, |scene| exchanges::play(programs, scene, verdicts))
        }
        Part::Starts => {
            let text = include_str!("../../parity/starts.toml");
            let mut starts: AllStarts = toml::from_str(text).map_err(|error| wrong("starts.toml", error))?;
            starts.starts.retain(|starts| starts.name.contains(wanted));
            starts::play(programs, &starts.starts, verdicts)
        }
    }
}

/// Plays scenes at the same time: most of each one's time is waiting.
fn at_once(
    scenes: &[Scene],
    wanted: &str,
    play: impl Fn(&Scene) -> Result<(), Failure> + Sync,
) -> Result<(), Failure> {
    thread::scope(|scope| {
        let play = &play;
        let scenes = scenes.iter().filter(|scene| scene.name.contains(wanted));
        let playing: Vec<_> = scenes.map(|scene| scope.spawn(move || play(scene))).collect();
        let join = |scene: thread::ScopedJoinHandle<'_, Result<(), Failure>>| {
            scene.join().unwrap_or_else(|_| Err(Failure::new("a thread of the harness panicked")))
        };
        playing.into_iter().try_for_each(join)
    })
}
