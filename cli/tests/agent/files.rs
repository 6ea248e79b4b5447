//! Files that can't be written: the answer says so and nothing has changed. A snapshot belongs to one agent.

use std::process::Command;

use crate::process::{Agent, THANE, run_to_end};

const ADDR: &str = "127.89.1.1";
const OLD: &str = "pUqJrVyVRj5jsiYEkM/tFQ==";
const NEW: &str = "T9jncgl9mbLus+baTTa7q7nPSUrXwbDi2dhbtqir37s=";

/// A command against the agent: whether it succeeded, and all that it printed.
fn command(name: &str, arguments: &[&str]) -> (bool, String) {
    let rpc_addr = format!("-rpc-addr={ADDR}:7373");
    let output = Command::new(THANE).args([name, &rpc_addr]).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn what_can_not_be_written_is_not_changed_and_the_answer_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (keyring, tags, snapshot) = (path("keyring"), path("tags"), path("snapshot"));
    std::fs::write(&keyring, format!("[\"{OLD}\"]")).unwrap();
    std::fs::write(&tags, "{\"a\": \"1\"}").unwrap();
    let file_flags =
        [format!("-keyring-file={keyring}"), format!("-tags-file={tags}"), format!("-snapshot={snapshot}")];
    let flags = [&["-node=n"], &file_flags.each_ref().map(String::as_str)[..]].concat();
    let agent = Agent::start(THANE, ADDR, &flags);

    let (done, text) = command("keys", &[&format!("-install={NEW}")]);
    assert!(done, "{text}");
    assert!(std::fs::read_to_string(&keyring).unwrap().contains(NEW), "written before it was answered");
    let (done, text) = command("tags", &["-set", "b=2"]);
    assert!(done && std::fs::read_to_string(&tags).unwrap().contains("\"b\": \"2\""), "{text}");

    // A second agent gets a snapshot of its own.
    let second = ["-node=m", "-bind=127.89.1.2", "-rpc-addr=127.89.1.2:7373"];
    let output = run_to_end(THANE, &[&second[..], &[&file_flags[2]]].concat());
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(!output.status.success() && said.contains("another agent has it open"), "{said}");
    assert!(said.contains(&snapshot), "{said}");

    // Neither beside the files nor in their place.
    std::fs::remove_dir_all(folder.path()).unwrap();
    for operation in [format!("-use={NEW}"), format!("-remove={NEW}")] {
        let (done, text) = command("keys", &[&operation]);
        let reason = format!("Failed to write keyring file {keyring}: ");
        assert!(!done && text.contains(&reason), "{operation}: {text}");
    }
    let (_, listed) = command("keys", &["-list"]);
    assert!(listed.contains(NEW) && listed.contains(OLD), "both keys are still there: {listed}");
    let (done, text) = command("tags", &["-set", "c=3"]);
    assert!(!done && text.contains(&format!("Failed to write tags file: {tags}")), "{text}");
    let (_, members) = command("members", &[]);
    assert!(members.contains("b=2") && !members.contains("c=3"), "{members}");
    drop(agent);
}
