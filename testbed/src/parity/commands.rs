//! Command lines: each by both programs, against agents of both kinds.

use std::thread;
use std::time::Duration;

use super::agent::{Running, command};
use super::normal::transcript;
use super::programs::{Kind, Programs};
use super::scene::{Scene, World, start_all};
use super::verdict::Verdicts;
use super::words::words;
use crate::failure::Failure;
use crate::stop;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(25);
/// How often a case is run again whose outputs differ: agents live, and what they tell changes.
const RETRIES: u32 = 6;
const RETRY_PAUSE: Duration = Duration::from_millis(700);

/// Client and agents of each world; the first is Serf alone, with which the others are compared.
const PAIRS: [(Kind, Kind); 4] = [
    (Kind::Serf, Kind::Serf),
    (Kind::Thane, Kind::Serf),
    (Kind::Serf, Kind::Thane),
    (Kind::Thane, Kind::Thane),
];

/// A case: `[once] [int SECONDS LINE] NAME=VALUE… WORDS…`.
struct Case<'a> {
    /// It changes what it shows, so it is run one time.
    is_once: bool,
    /// It is interrupted after so long; halfway that line is run.
    interrupt: Option<(Duration, &'a str)>,
    line: &'a str,
}

impl Case<'_> {
    fn parse(text: &str) -> Result<Case<'_>, Failure> {
        let mut case = Case { is_once: false, interrupt: None, line: text };
        while let Some((option, line)) = case.line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            case.line = line;
            match option.split_once(' ').unwrap_or((option, "")) {
                ("once", "") => case.is_once = true,
                ("int", rest) => {
                    let (seconds, line) = rest.split_once(' ').unwrap_or((rest, ""));
                    let seconds =
                        seconds.parse().map_err(|error| Failure::new(format!("{text}: {error}")))?;
                    case.interrupt = Some((Duration::from_secs_f64(seconds), line));
                }
                _ => return Err(Failure::new(format!("{text}: no option [{option}]"))),
            }
        }
        Ok(case)
    }
}

/// Runs a scene's command lines.
///
/// # Errors
/// The scene can't be played, or the user asked for the end.
pub(super) fn play(programs: &Programs, scene: &Scene, verdicts: &Verdicts) -> Result<(), Failure> {
    let worlds = start_all(programs, scene, &PAIRS)?;
    for text in scene.cases() {
        stop::check()?;
        let case = Case::parse(text)?;
        let mut tries = if case.is_once { 0 } else { RETRIES };
        loop {
            let shown = run_everywhere(programs, &worlds, &case)?;
            let (first, others) = shown.split_at(1);
            let pairs: Vec<(String, String, String)> = worlds[1..]
                .iter()
                .zip(others)
                .map(|(world, ours)| {
                    let name = format!(
                        "commands/{}/{}-at-{}: {text}",
                        scene.name,
                        world.client.name(),
                        world.agents.name()
                    );
                    (name, first[0].clone(), ours.clone())
                })
                .collect();
            if tries > 0 && pairs.iter().any(|(name, theirs, ours)| !verdicts.agree(name, theirs, ours)) {
                tries -= 1;
                thread::sleep(RETRY_PAUSE);
                continue;
            }
            pairs.into_iter().for_each(|(name, theirs, ours)| verdicts.judge(&name, &theirs, &ours));
            break;
        }
    }
    worlds.into_iter().for_each(World::stop);
    Ok(())
}

/// The outputs of one case in all worlds.
fn run_everywhere(programs: &Programs, worlds: &[World], case: &Case<'_>) -> Result<Vec<String>, Failure> {
    thread::scope(|scope| {
        let running: Vec<_> =
            worlds.iter().map(|world| scope.spawn(move || run(programs, world, case))).collect();
        running
            .into_iter()
            .map(|run| run.join().unwrap_or_else(|_| Err(Failure::new("a thread of the harness panicked"))))
            .collect()
    })
}

fn run(programs: &Programs, world: &World, case: &Case<'_>) -> Result<String, Failure> {
    let mut running = Running::start(line(programs, world, case.line))?;
    let ended = match case.interrupt {
        None => running.end(PATIENCE),
        Some((after, meanwhile)) => {
            thread::sleep(after / 2);
            if !meanwhile.is_empty() {
                Running::start(line(programs, world, meanwhile))?.end(PATIENCE);
            }
            thread::sleep(after / 2);
            running.signal("INT");
            running.end(PATIENCE)
        }
    };
    Ok(transcript(&ended, &world.names()))
}

fn line(programs: &Programs, world: &World, line: &str) -> std::process::Command {
    let mut words = words(&world.filled(line));
    let mut variables = vec![("SERF_RPC_ADDR".to_owned(), world.rpc())];
    let is_variable = |word: &String| word.starts_with("SERF_") && word.contains('=');
    let count = words.iter().take_while(|word| is_variable(word)).count();
    for variable in words.drain(..count) {
        let (name, value) = variable.split_once('=').unwrap_or((&variable, ""));
        variables.push((name.to_owned(), value.to_owned()));
    }
    command(programs.of(world.client), &words, &variables)
}
