//! Policy `eager` in clusters of which half are real Serf agents.

use std::collections::BTreeSet;

use super::agent::{Agent, Kind};
use super::cluster::{Cluster, Variant, run};
use super::events::{record_flag, send, wait_delivered};
use super::extensions::{is_warning, kind_of};

#[test]
fn ten_and_ten_agents_hear_everything_and_serf_has_nothing_new_to_say() {
    run(concat!(module_path!(), "::ten_and_ten"), Variant::Plain, 189, |cluster| {
        let eager = talk(cluster, 10, "-dissemination=eager");
        cluster.agents().iter().for_each(Agent::kill);
        run("the same with classic", Variant::Plain, 190, |cluster| {
            let classic = talk(cluster, 3, "-dissemination=classic");
            let new: Vec<&String> = eager.difference(&classic).collect();
            assert!(new.is_empty(), "Serf says with eager only: {new:?}");
        });
    });
}

/// So many agents of each kind join one by one, each sends an event, and every agent's handler sees each once; then one of
/// each kind leaves. Returns the kinds of warnings and errors that Serf's agents logged.
fn talk(cluster: &mut Cluster, pairs: usize, policy: &str) -> BTreeSet<String> {
    cluster.start_pairs(pairs, |name| {
        let thane = name.starts_with('t').then(|| policy.to_owned());
        thane.into_iter().chain([record_flag(&["deploy".to_owned()])]).collect()
    });
    let mut sent = Vec::new();
    for origin in cluster.agents() {
        let payload = format!("from {}", origin.name).into_bytes();
        send(origin, "deploy", &payload, false);
        sent.push(("deploy".to_owned(), payload));
    }
    wait_delivered(cluster, &sent);
    for name in ["s2", "t2"] {
        cluster.agent(name).serf_ok(&["leave"]);
    }
    let expected: Vec<(&str, &str)> = cluster
        .agents()
        .iter()
        .map(|agent| (&*agent.name, if agent.name.ends_with("2") { "left" } else { "alive" }))
        .collect();
    cluster.wait_statuses(&expected);
    let serfs = cluster.agents().iter().filter(|agent| agent.kind == Kind::Serf);
    serfs.flat_map(Agent::log_lines).filter(|line| is_warning(line)).map(|line| kind_of(&line)).collect()
}
