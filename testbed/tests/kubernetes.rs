//! The Kubernetes backend with a `kubectl` that only records what it is asked: no cluster can run here.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Keeps each command line and what it was given to apply; pods fail at their start.
const KUBECTL: &str = r#"#!/bin/sh
echo "$*" >> "$RECORD/commands"
case "$*" in
  "get --raw /version") [ -z "$NO_CLUSTER" ] || { echo "connection refused" >&2; exit 1; } ;;
  "apply -f -") cat >> "$RECORD/applied"; echo >> "$RECORD/applied" ;;
  *"get pod"*) echo "Failed/" ;;
  *logs*) echo "==> Unknown profile: nope" ;;
esac
"#;

fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let kubectl = folder.join("kubectl");
    std::fs::write(&kubectl, KUBECTL).unwrap();
    std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    Command::new(env!("CARGO_BIN_EXE_thane-testbed"))
        .args(arguments)
        .env("PATH", path)
        .env("RECORD", folder)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn a_pod_that_dies_is_shown_with_its_log_and_the_namespace_goes() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "run",
        "crash",
        "--backend=kubernetes",
        "--against=thane",
        "--nodes=3",
        "--thane-image=registry/thane:1",
    ];
    let output = run(folder.path(), &arguments, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("agent n01 ended at its start"), "{said}");
    assert!(said.contains("Unknown profile: nope") && said.lines().count() == 1, "{said}");
    let applied = std::fs::read_to_string(folder.path().join("applied")).unwrap();
    let objects: Vec<serde_json::Value> =
        applied.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Namespace", "Service", "Pod"]);
    assert_eq!(objects[2]["spec"]["containers"][0]["image"], "registry/thane:1");
    let namespace = objects[0]["metadata"]["name"].as_str().unwrap();
    let commands = std::fs::read_to_string(folder.path().join("commands")).unwrap();
    assert!(
        commands.lines().last().unwrap().starts_with(&format!("delete namespace {namespace}")),
        "{commands}"
    );
}

#[test]
fn scenarios_that_pods_can_not_play_are_named_and_no_cluster_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["run", "loss-5", "--backend=kubernetes", "--nodes=3"], &[]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("not run loss-5"), "{said}");
    let output = run(folder.path(), &["run", "crash", "--backend=kubernetes"], &[("NO_CLUSTER", "1")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("no Kubernetes cluster answers"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
