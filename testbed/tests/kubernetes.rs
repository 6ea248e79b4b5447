//! The Kubernetes backend without a cluster: with a `kubectl` that only records what it is asked, and with one whose
//! pods are processes of this machine.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A cluster of one machine: a pod is a real Serf agent at a loopback address of its own, and a service is a list of
/// addresses. Has no network policies.
#[cfg(feature = "containers")]
const CLUSTER: &str = r#"#!/bin/sh
echo "$*" >> "$RECORD/commands"
[ "$1" != -n ] || shift 2
stop() {
  read -r pid ip < "$1" && rm "$1" && kill "-$2" "$pid" 2>/dev/null || return 0
  while [ -e "/proc/$pid/exe" ]; do sleep 0.05; done
}
case "$*" in
  "apply -f -")
    object=$(cat)
    case "$object" in *'"kind":"Pod"'*) ;; *) exit 0 ;; esac
    name=$(printf %s "$object" | sed 's/.*"name":"\(n[0-9]*\)".*/\1/')
    echo "$name" >> "$RECORD/started"
    ip=$NET.$(wc -l < "$RECORD/started")
    case "$object" in *'"thane-testbed-seed":"true"'*) echo "-retry-join=$ip" >> "$RECORD/seeds" ;; esac
    args=$(printf %s "$object" | sed 's/.*"args":\[\([^]]*\)\].*/\1/; s/"//g; s/,/ /g; s/0\.0\.0\.0/'"$ip/")
    args=$(printf %s "$args" | sed "s/-retry-join=seeds/$(tr '\n' ' ' < "$RECORD/seeds")/")
    "$SERF" $args "-bind=$ip" < /dev/null > "$RECORD/$name.log" 2>&1 &
    echo "$! $ip" > "$RECORD/$name.pod" ;;
  "get pod"*)
    read -r pid ip < "$RECORD/$3.pod"
    [ -e "/proc/$pid/exe" ] && phase=Running || phase=Succeeded
    case "$*" in *podIP*) echo "$phase/$ip" ;; *) echo "$phase" ;; esac ;;
  "port-forward"*)
    read -r pid ip < "$RECORD/${3#pod/}.pod"
    echo "Forwarding from $ip:7373 -> 7373"
    exec sleep 600 ;;
  "logs"*) cat "$RECORD/$2.log" ;;
  "delete pod"*--force) stop "$RECORD/$3.pod" KILL ;;
  "delete pod"*) stop "$RECORD/$3.pod" TERM ;;
  "delete namespace"*) for pod in "$RECORD"/*.pod; do stop "$pod" KILL; done ;;
esac
"#;

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

fn run(folder: &Path, script: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let kubectl = folder.join("kubectl");
    std::fs::write(&kubectl, script).unwrap();
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
    let output = run(folder.path(), KUBECTL, &arguments, &[]);
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
    let output = run(folder.path(), KUBECTL, &["run", "loss-5", "--backend=kubernetes", "--nodes=3"], &[]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("not run loss-5"), "{said}");
    let output =
        run(folder.path(), KUBECTL, &["run", "crash", "--backend=kubernetes"], &[("NO_CLUSTER", "1")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("no Kubernetes cluster answers"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
#[cfg(feature = "containers")]
fn agents_are_started_watched_killed_and_left_through_kubectl() {
    let folder = tempfile::tempdir().unwrap();
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/testbed/packages/serf/usr/bin/serf");
    let serf = [unpacked, "/usr/bin/serf".into()].into_iter().find(|path| path.is_file());
    let serf = serf.expect("real Serf is installed, or was unpacked by `thane-testbed images`");
    let scenario = folder.path().join("pods.toml");
    let steps = "name = \"pods\"\nabout = \"an event, a query, a crash, a join, a leave\"\nlasts = \"30s\"\n\
                 [[step]]\nat = \"0s\"\ndo = \"event\"\n[[step]]\nat = \"1s\"\ndo = \"query\"\n\
                 [[step]]\nat = \"2s\"\ndo = \"crash\"\n[[step]]\nat = \"22s\"\ndo = \"join\"\n\
                 [[step]]\nat = \"25s\"\ndo = \"leave\"\n\
                 [pass]\nevents_lost = 0\nquery_acks = 1.0\ncrash_known = \"20s\"\nleave_known = \"10s\"\n\
                 false_failures = 0\nwhole = \"20s\"\nconflicts = 0\n";
    std::fs::write(&scenario, steps).unwrap();
    let net = format!("127.104.{}", std::process::id() % 250 + 1);
    let arguments =
        ["run", scenario.to_str().unwrap(), "--backend=kubernetes", "--against=serf", "--nodes=5"];
    let variables = [("SERF", serf.to_str().unwrap()), ("NET", net.as_str())];
    let output = run(folder.path(), CLUSTER, &arguments, &variables);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("passed pods"), "{output:?}");
    let started = std::fs::read_to_string(folder.path().join("started")).unwrap();
    assert_eq!(started.lines().collect::<Vec<_>>(), ["n01", "n02", "n03", "n04", "n05", "n06"]);
    let left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.filter(|name| name.to_string_lossy().ends_with(".pod")).count() == 0);
}
