//! A live cluster moves from plain to sealed gossip, step by step, while real Serf is in it.

use std::fs;

use super::agent::{Agent, Kind};
use super::cluster::{Cluster, Variant, run};

/// Takes both, sends plain; takes both, sends sealed; takes and sends sealed only.
const STEPS: [(&str, &str); 3] = [("false", "false"), ("false", "true"), ("true", "true")];

#[test]
fn a_cluster_moves_to_encryption() {
    run(concat!(module_path!(), "::a_cluster_moves_to_encryption"), Variant::Plain, 109, |cluster| {
        for (kind, name) in [(Kind::Thane, "t1"), (Kind::Thane, "t2"), (Kind::Serf, "s1")] {
            cluster.add(kind, name);
        }
        cluster.start("t1", &[]);
        cluster.start("t2", &[&cluster.join_flag("t1")]);
        cluster.start("s1", &[&cluster.join_flag("t1")]);
        assert_connected(cluster, "plain");
        for (place, (incoming, outgoing)) in STEPS.into_iter().enumerate() {
            for (name, other) in [("t1", "t2"), ("t2", "t1")] {
                // Serf takes one of both only: it changes over while everybody else takes both and some seal.
                if place == 1 && name == "t2" {
                    restart(cluster, "s1", &[format!("-encrypt={}", Variant::KEY), cluster.join_flag("t1")]);
                }
                let json = format!(
                    r#"{{"encrypt_key": "{}", "encrypt_verify_incoming": {incoming}, "encrypt_verify_outgoing": {outgoing}}}"#,
                    Variant::KEY
                );
                fs::write(cluster.agent(name).file("step.json"), json).expect("the step is written");
                restart(
                    cluster,
                    name,
                    &["-config-file={dir}/step.json".to_owned(), cluster.join_flag(other)],
                );
            }
            assert_connected(cluster, &format!("step-{place}"));
        }
        // Half way Serf could not read what was not meant for it; nobody was lost over it.
        cluster.refusals_expected = true;
    });
}

fn restart(cluster: &Cluster, name: &str, flags: &[String]) {
    let agent: &Agent = cluster.agent(name);
    agent.serf_ok(&["leave"]);
    assert!(agent.wait_exit().success());
    agent.start(flags);
}

/// All list all, and everybody hears an event from everybody.
fn assert_connected(cluster: &Cluster, step: &str) {
    cluster.wait_all_alive();
    for origin in cluster.agents() {
        let name = format!("{step}-{}", origin.name);
        origin.serf_ok(&["event", "-coalesce=false", &name]);
        for agent in cluster.agents() {
            cluster.wait_for(&format!("{name} at {}", agent.name), || {
                let heard =
                    agent.log_lines().iter().any(|line| line.ends_with(&format!("user-event: {name}")));
                if heard { Ok(()) } else { Err("not yet".to_owned()) }
            });
        }
    }
}
