//! `thane-testbed cases`: runs the scripts that reproduce what one datagram, stranger, file or restart did, and judges
//! what they print by rules (`testbed/cases.toml`). Each runs in a network and a mount namespace of its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use regex::Regex;
use serde::Deserialize;

use crate::failure::Failure;
use crate::parity::built_thane;
use crate::program::Program;
use crate::stop;

/// How the scripts run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CasesOptions {
    /// The folder of the scripts.
    #[arg(long, value_name = "DIR", default_value = "../shared/cases")]
    dir: PathBuf,
    /// Only cases whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Scripts at the same time; each has its own network.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=16))]
    jobs: u16,
    /// Folder for what each script prints.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The `thane` binary instead of the one beside this program.
    #[arg(long, value_name = "FILE")]
    thane: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    case: Vec<Case>,
}

/// A script with its arguments, and what its output must be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    script: String,
    /// `{thane}` is the binary.
    #[serde(default)]
    arguments: Vec<String>,
    /// Texts of the script and what stands in their place: `{thane}` and `{dir}`, the folder it runs in.
    #[serde(default)]
    replace: Vec<(String, String)>,
    /// Files in its folder.
    #[serde(default)]
    files: Vec<(String, String)>,
    /// Python modules that it needs.
    #[serde(default)]
    modules: Vec<String>,
    /// Expressions that its output must match.
    #[serde(default)]
    must: Vec<String>,
    /// Expressions that its output must not match.
    #[serde(default)]
    must_not: Vec<String>,
    /// Seconds that it may take.
    #[serde(default = "patience")]
    patience: u64,
}

fn patience() -> u64 {
    180
}

/// A case's outcome.
struct Outcome {
    name: String,
    seconds: f64,
    /// What is not as it must be.
    faults: Vec<String>,
}

/// Runs the scripts.
///
/// # Errors
/// A tool or script is missing, or an output is not as it must be.
pub(crate) fn run(options: &CasesOptions) -> Result<(), Failure> {
    let table: Table = toml::from_str(include_str!("../cases.toml"))
        .map_err(|error| Failure::new(format!("testbed/cases.toml: {error}")))?;
    let is_wanted =
        |case: &Case| options.only.is_empty() || options.only.iter().any(|part| case.name.contains(part));
    let cases: Vec<Case> = table.case.into_iter().filter(is_wanted).collect();
    if cases.is_empty() {
        return Err(Failure::new("no case has such a name"));
    }
    let thane = built_thane(options.thane.as_deref())?;
    let folder = fs::canonicalize(&options.dir).map_err(|error| Failure::file(&options.dir, &error))?;
    require_tools(&folder, &cases)?;
    if let Some(out) = &options.out {
        fs::create_dir_all(out).map_err(|error| Failure::file(out, &error))?;
    }
    let (next, outcomes) = (Mutex::new(cases.iter()), Mutex::new(Vec::new()));
    let lane = || -> Result<(), Failure> {
        loop {
            let case = next.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(case) = case else { return Ok(()) };
            stop::check()?;
            let outcome = play(case, &folder, &thane, options.out.as_deref())?;
            println!("{}", line(&outcome));
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
        }
    };
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..options.jobs).map(|_| scope.spawn(lane)).collect();
        let join = |lane: thread::ScopedJoinHandle<'_, Result<(), Failure>>| {
            lane.join().unwrap_or_else(|_| Err(Failure::new("a thread panicked")))
        };
        lanes.into_iter().try_for_each(join)
    })?;
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failed = outcomes.iter().filter(|outcome| !outcome.faults.is_empty()).count();
    println!("{} cases, {failed} not as they must be", outcomes.len());
    if failed == 0 { Ok(()) } else { Err(Failure::new(format!("{failed} cases are not as they must be"))) }
}

fn line(outcome: &Outcome) -> String {
    let verdict = if outcome.faults.is_empty() { "as it must be" } else { "FAILED" };
    let mut line = format!("{:28} {:5.0} s  {verdict}", outcome.name, outcome.seconds);
    for fault in &outcome.faults {
        line += &format!("\n    {fault}");
    }
    line
}

fn require_tools(folder: &Path, cases: &[Case]) -> Result<(), Failure> {
    let succeeds =
        |name: &str, arguments: &[&str]| Program::new(name).args(arguments).print().is_ok_and(|it| it.ok);
    if !succeeds("unshare", &["-nm", "ip", "link", "set", "lo", "up"]) {
        return Err(Failure::new(
            "network namespaces are needed: run as root, with unshare and ip installed",
        ));
    }
    for case in cases {
        let script = folder.join(&case.script);
        if !script.is_file() {
            return Err(Failure::new(format!("{} does not exist: give --dir", script.display())));
        }
        for module in &case.modules {
            if !succeeds("python3", &["-c", &format!("import {module}")]) {
                return Err(Failure::new(format!(
                    "{} needs python3 with {module}: pip install {module}, or the package python3-{module}",
                    case.script
                )));
            }
        }
    }
    Ok(())
}

fn play(case: &Case, folder: &Path, thane: &Path, out: Option<&Path>) -> Result<Outcome, Failure> {
    let place = tempfile::tempdir().map_err(|error| Failure::new(format!("a temporary folder: {error}")))?;
    let at = |path: &str| place.path().join(path);
    let fail = |error: std::io::Error| Failure::file(place.path(), &error);
    // Agents of some scripts run as another user.
    fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(fail)?;
    fs::create_dir_all(at("target/release")).map_err(fail)?;
    fs::create_dir_all(at("scratch")).map_err(fail)?;
    symlink(thane, at("target/release/thane")).map_err(fail)?;
    for (name, text) in &case.files {
        fs::write(at(name), text).map_err(fail)?;
    }
    let fill = |text: &str| {
        text.replace("{thane}", &thane.display().to_string())
            .replace("{dir}", &place.path().display().to_string())
    };
    let script = folder.join(&case.script);
    let mut text = fs::read_to_string(&script).map_err(|error| Failure::file(&script, &error))?;
    for (old, new) in &case.replace {
        if !text.contains(old) {
            return Err(Failure::new(format!("{} has no \"{old}\" to replace", case.script)));
        }
        text = text.replace(old, &fill(new));
    }
    let copy = at(&case.script);
    fs::write(&copy, text).map_err(fail)?;
    let shell = if case.script.ends_with(".py") { "python3 -u" } else { "bash" };
    let begin = format!(
        "ip link set lo up; mkdir -p /run/netns; mount -t tmpfs tmpfs /run/netns; ulimit -n 20000; exec {shell} \"$@\" 2>&1"
    );
    let started = Instant::now();
    let printed = Program::new("env")
        .args([format!("AGENT={}", thane.display()), format!("PYTHONPATH={}", folder.display())])
        .args(["unshare", "-n", "-m", "--propagation", "private", "bash", "-c", &begin, shell])
        .args([&copy])
        .args(case.arguments.iter().map(|argument| fill(argument)))
        .folder(place.path())
        .within(Duration::from_secs(case.patience))
        .print();
    let seconds = started.elapsed().as_secs_f64();
    let (text, mut faults) = match printed {
        Ok(printed) => (format!("{}\n{}", printed.out, printed.err), Vec::new()),
        Err(failure) => (String::new(), vec![failure.to_string()]),
    };
    if faults.is_empty() {
        faults = judged(case, &text)?;
    }
    if let Some(out) = out {
        let path = out.join(format!("{}.txt", case.name));
        fs::write(&path, &text).map_err(|error| Failure::file(&path, &error))?;
    }
    Ok(Outcome { name: case.name.clone(), seconds, faults })
}

/// What of the output is not as it must be.
fn judged(case: &Case, text: &str) -> Result<Vec<String>, Failure> {
    let expression = |text: &String| {
        Regex::new(&format!("(?m){text}"))
            .map_err(|error| Failure::new(format!("testbed/cases.toml, {}: {error}", case.name)))
    };
    let mut faults = Vec::new();
    for rule in &case.must {
        if !expression(rule)?.is_match(text) {
            faults.push(format!("nothing matches {rule}"));
        }
    }
    for rule in &case.must_not {
        if let Some(found) = expression(rule)?.find(text) {
            faults.push(format!("{:?} matches {rule}", shortened(found.as_str())));
        }
    }
    Ok(faults)
}

fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_output_is_judged_by_both_kinds_of_rules() {
        let table: Table = toml::from_str(
            r#"case = [{ name = "x", script = "x.sh", must = ["^two$", "three"], must_not = ["one", "four"] }]"#,
        )
        .unwrap();
        let faults = judged(&table.case[0], "one\ntwo\n").unwrap();
        assert_eq!(faults, ["nothing matches three", "\"one\" matches one"]);
    }

    #[test]
    fn every_case_of_the_table_has_a_rule() {
        let table: Table = toml::from_str(include_str!("../cases.toml")).unwrap();
        for case in &table.case {
            assert!(!case.must.is_empty() || !case.must_not.is_empty(), "{}", case.name);
            judged(case, "").unwrap();
        }
    }
}
