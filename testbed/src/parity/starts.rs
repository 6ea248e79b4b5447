//! Starts of agents with flags and configuration files: what each prints, how it ends, what it is then.

use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use regex::Regex;
use serde::Deserialize;
use tempfile::TempDir;

use super::agent::{PATIENCE, Running, command, fresh_ip, wait_for_port};
use super::normal::{Names, transcript};
use super::programs::{Kind, Programs};
use super::verdict::Verdicts;
use super::words::{filled, words};
use crate::failure::Failure;
use crate::stop;

/// Cases that run at the same time; most of each one's time is waiting.
const LANES: usize = 4;
/// How long an agent may take to end after its signal.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Starts that share files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Starts {
    pub(super) name: String,
    /// Files in `{dir}`; a name that ends in a slash is a folder.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// A line each: `[SIGNAL…] FLAGS or JSON [=> COMMAND; COMMAND…]`. JSON is the text of a configuration file.
    /// The commands are run by Serf's program once the agent runs. Signals are sent in turn, the last ends the agent.
    cases: String,
}

/// A case's parts.
struct Case<'a> {
    signals: Vec<&'a str>,
    start: &'a str,
    commands: Vec<&'a str>,
}

impl Case<'_> {
    fn parse(text: &str) -> Case<'_> {
        let (start, commands) = text.split_once(" => ").unwrap_or((text, ""));
        let (signals, start) = match start.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((signals, start)) => (signals.split(' ').collect(), start.trim_start()),
            None => (vec!["TERM"], start),
        };
        let commands = commands.split("; ").map(str::trim).filter(|line| !line.is_empty()).collect();
        Case { signals, start, commands }
    }
}

/// Runs all cases, some at a time.
///
/// # Errors
/// An agent can't be run, or the user asked for the end.
pub(super) fn play(programs: &Programs, starts: &[Starts], verdicts: &Verdicts) -> Result<(), Failure> {
    let cases = starts.iter().flat_map(|starts| {
        let lines = starts.cases.lines().map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(move |line| (starts, line))
    });
    let cases = Mutex::new(cases);
    let next = || cases.lock().unwrap_or_else(PoisonError::into_inner).next();
    let lane = || {
        while let Some((starts, text)) = next() {
            stop::check()?;
            let name = format!("starts/{}: {text}", starts.name);
            let mut tries = 1;
            loop {
                let [serf, thane] = Kind::BOTH.map(|kind| run(programs, starts, text, kind));
                let (serf, thane) = (serf?, thane?);
                if tries > 0 && !verdicts.agree(&name, &serf, &thane) {
                    tries -= 1;
                    continue;
                }
                verdicts.judge(&name, &serf, &thane);
                break;
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        let join = |lane: thread::ScopedJoinHandle<'_, Result<(), Failure>>| {
            lane.join().unwrap_or_else(|_| Err(Failure::new("a thread of the harness panicked")))
        };
        lanes.into_iter().try_for_each(join)
    })
}

/// One agent from its start to its end.
fn run(programs: &Programs, starts: &Starts, text: &str, kind: Kind) -> Result<String, Failure> {
    let folder = TempDir::new().map_err(|error| Failure::new(format!("a temporary folder: {error}")))?;
    let (ip, nobody) = (fresh_ip(), fresh_ip());
    let dir = folder.path().display().to_string();
    let fill = |text: &str| {
        filled(text, |name| match name {
            "ip" => Some(ip.clone()),
            "nobody" => Some(nobody.clone()),
            "dir" => Some(dir.clone()),
            _ => None,
        })
    };
    let names: Names = vec![
        (ip.clone(), "<ip>".to_owned()),
        (nobody.clone(), "<nobody>".to_owned()),
        (dir.clone(), "<dir>".to_owned()),
    ];
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        let written = if name.ends_with('/') {
            fs::create_dir_all(&path)
        } else {
            path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text))
        };
        written.map_err(|error| Failure::file(&path, &error))
    };
    for (name, text) in &starts.files {
        write(name, &fill(text))?;
    }
    // Beneath everything that a case says: flags and later files win.
    let base =
        format!(r#"{{"node_name": "n", "bind": "{ip}", "rpc_addr": "{ip}:7373", "profile": "local"}}"#);
    write("base.json", &base)?;
    let case = Case::parse(text);
    let mut line = vec!["agent".to_owned(), format!("-config-file={dir}/base.json")];
    let start = fill(case.start);
    if start.starts_with(['{', '[', '"']) || case.start.starts_with("TEXT ") {
        write("case.json", start.strip_prefix("TEXT ").unwrap_or(&start))?;
        line.push(format!("-config-file={dir}/case.json"));
    } else {
        line.extend(words(&start));
    }
    let variables = [("HOSTNAME".to_owned(), "host".to_owned())];
    let mut agent = Running::start(command(programs.of(kind), &line, &variables))?;
    let mut text = String::new();
    if agent.wait_for_banner() {
        text = inspected(programs, &agent, &case, &ip, &names, &fill)?;
    }
    for (index, signal) in case.signals.iter().enumerate() {
        if index > 0 {
            thread::sleep(Duration::from_millis(300));
        }
        agent.signal(signal);
    }
    let ended = agent.end(END_PATIENCE);
    Ok(logs_apart(&transcript(&ended, &names)) + &text)
}

/// What the agent is, as Serf's commands show it.
fn inspected(
    programs: &Programs,
    agent: &Running,
    case: &Case<'_>,
    ip: &str,
    names: &Names,
    fill: &impl Fn(&str) -> String,
) -> Result<String, Failure> {
    static RPC: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"RPC addr: '(.*)'").ok());
    let banner = agent.printed();
    let found = RPC.as_ref().and_then(|rpc| rpc.captures(&banner));
    let rpc = found.map_or_else(|| format!("{ip}:7373"), |found| found[1].to_owned());
    // An agent that ends at once is seen to end.
    let _ = wait_for_port(&rpc);
    let mut text = String::new();
    for line in ["members -format=json", "info -format=json"].iter().chain(&case.commands) {
        let shown = match line.strip_prefix("cat ") {
            Some(path) => {
                fs::read_to_string(fill(path)).map_or_else(|error| format!("{error}\n"), |text| text + "\n")
            }
            None => {
                let variables = [("SERF_RPC_ADDR".to_owned(), rpc.clone())];
                let command = command(programs.of(Kind::Serf), &words(&fill(line)), &variables);
                transcript(&Running::start(command)?.end(PATIENCE), names)
            }
        };
        text += &format!("$ {line}\n{}", super::normal::named(&shown, names));
    }
    Ok(text)
}

/// The lines of the log after all others, sorted: threads write them.
fn logs_apart(text: &str) -> String {
    let is_log = |line: &&str| line.starts_with("    [");
    let mut logs: Vec<&str> = text.lines().filter(is_log).filter(|line| !line.contains("[DEBUG]")).collect();
    logs.sort_unstable();
    logs.dedup();
    let others = text.lines().filter(|line| !is_log(line));
    others.chain(logs).map(|line| format!("{line}\n")).collect()
}
