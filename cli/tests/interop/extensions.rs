//! The extensions between Thane nodes: real Serf on the other end of every ping, ack and stream notices nothing of them.

use std::collections::BTreeSet;

use super::agent::{Agent, Kind};
use super::cluster::{Cluster, Variant, run};

#[test]
fn serf_notices_nothing() {
    run(concat!(module_path!(), "::serf_notices_nothing"), Variant::Plain, 187, |cluster| {
        let with = talk(cluster, &[]);
        cluster.agents().iter().for_each(Agent::kill);
        run("the same without extensions", Variant::Plain, 188, |cluster| {
            let without = talk(cluster, &["-disable-extensions"]);
            // Times, addresses and names of the log lines are left out; what is left is what Serf has to say.
            let new: Vec<&String> = with.difference(&without).filter(|line| is_warning(line)).collect();
            assert!(new.is_empty(), "Serf says with extensions only: {new:?}");
        });
    });
}

/// Two agents of each kind that have pinged each other, and passed an event on. Returns the kinds of lines that Serf's
/// agents logged.
fn talk(cluster: &mut Cluster, thane_flags: &[&str]) -> BTreeSet<String> {
    cluster.start_pairs(2, |name| {
        let flags = if name.starts_with('t') { thane_flags } else { &[] };
        flags.iter().map(|&flag| flag.to_owned()).collect()
    });
    for agent in cluster.agents() {
        for other in cluster.agents().iter().filter(|other| other.name != agent.name) {
            // A round trip is known once the other has acked a ping of this agent.
            cluster.wait_for(&format!("{} to be acked by {}", agent.name, other.name), || {
                let output = agent.serf(&["rtt", &other.name]);
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                if output.status.success() { Ok(()) } else { Err(text) }
            });
        }
    }
    cluster.agent("t1").serf_ok(&["event", "deploy", "now"]);
    let members =
        cluster.wait_statuses(&[("s1", "alive"), ("s2", "alive"), ("t1", "alive"), ("t2", "alive")]);
    assert!(members.values().all(|member| member.tags.is_empty() && member.protocol == [2, 5, 5]));
    let serfs = cluster.agents().iter().filter(|agent| agent.kind == Kind::Serf);
    serfs.flat_map(Agent::log_lines).map(|line| kind_of(&line)).collect()
}

/// A log line without what differs from run to run: its words that hold a digit.
pub(super) fn kind_of(line: &str) -> String {
    let words = line.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    words.collect::<Vec<&str>>().join(" ")
}

/// Not the warning that Serf logs by chance when an agent leaves (differences.md, D-42).
pub(super) fn is_warning(line: &str) -> bool {
    (line.contains("[ERR]") || line.contains("[WARN]")) && !line.contains("Serf shutdown detected")
}
