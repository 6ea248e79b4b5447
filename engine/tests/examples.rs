//! Runs every example and looks at what it prints. Cargo builds the examples for `cargo test`, but not for
//! `cargo test --tests` or `--test examples`, which would run those of an earlier build: the test has them built.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Longest example, lines.
const LINES_MAX: usize = 100;

/// The folder of the examples, after they were built from what the sources say now.
fn built() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        // This test is target/PROFILE/deps/examples-HASH.
        let test = std::env::current_exe().unwrap();
        let [_, _, built, target] = test.ancestors().take(4).collect::<Vec<_>>()[..] else {
            panic!("{} is not beneath a target folder", test.display());
        };
        let profile = match built.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            other => other,
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["build", "--quiet", "--offline", "--examples", "--profile", profile, "--target-dir"])
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo build --examples: {}\n{errors}", output.status);
        built.join("examples")
    })
}

/// What an example prints. It must end by itself, with success.
fn run(name: &str) -> Vec<String> {
    let Output { status, stdout, stderr } = Command::new(built().join(name)).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(status.success(), "{name}: {status}\n{stdout}{stderr}");
    stdout.lines().map(str::to_owned).collect()
}

#[test]
fn backends_follow_the_tag() {
    let lines = run("backends");
    let full = "[web-1=127.31.101.2:8080, web-2=127.31.101.3:8080]";
    assert!(lines.iter().any(|line| line.ends_with(full)), "{lines:?}");
    assert!(lines.contains(&"member-update of web-1: [web-2=127.31.101.3:8080]".to_owned()), "{lines:?}");
    assert!(lines.contains(&"member-leave of web-2: []".to_owned()), "{lines:?}");
    assert_eq!(lines.last().unwrap(), "member-update of web-1: [web-1=127.31.101.2:8080]");
    assert!(!lines.iter().any(|line| line.contains("db-1=")), "{lines:?}");
}

#[test]
fn a_deploy_is_installed_once_by_each_worker() {
    let lines = run("deploy");
    for version in ["v1.0", "v1.1"] {
        for worker in 1..=4 {
            let installs = format!("worker-{worker}: installs {version} ");
            assert_eq!(lines.iter().filter(|line| line.starts_with(&installs)).count(), 1, "{lines:?}");
        }
        assert!(lines.contains(&format!("release: {version} is everywhere")), "{lines:?}");
    }
}

#[test]
fn uptimes_are_gathered_and_the_silent_named() {
    let lines = run("uptimes");
    for server in [1, 2, 4] {
        let up = format!("server-{server} is up for ");
        assert!(lines.iter().any(|line| line.starts_with(&up) && line.ends_with(" s")), "{lines:?}");
    }
    let last = "3 answered; the question reached but got nothing from: server-3";
    assert_eq!(lines.last().unwrap(), last);
}

#[test]
fn only_badges_let_in() {
    let lines = run("admission");
    let refusals: Vec<&str> = lines.iter().filter_map(|line| line.split("remote error: ").nth(1)).collect();
    let why = |name: &str| format!("{name} is not let in: its badge is forged or another node's");
    assert_eq!(refusals, [why("forger"), why("thief")], "{lines:?}");
    assert_eq!(lines[lines.len() - 2..], ["first sees:  first, second", "second sees: first, second"]);
}

#[test]
fn plain_swim_spreads_words_and_sees_who_is_gone() {
    let lines = run("plain_swim");
    for node in 2..=4 {
        assert!(lines.contains(&format!("node-{node} learns \"hello\" by gossip")), "{lines:?}");
    }
    assert!(lines.contains(&"node-5 joins late and learns \"hello\"".to_owned()), "{lines:?}");
    assert!(lines.contains(&"node-1 is told: member-leave node-2".to_owned()), "{lines:?}");
    assert!(lines.contains(&"node-1 is told: member-failed node-3".to_owned()), "{lines:?}");
}

#[test]
fn examples_are_short() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines < LINES_MAX, "{} has {lines} lines", path.display());
    }
}
