//! A key is exchanged while events are sent; a node that was away finds back in with the new key.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::agent::Kind;
use super::cluster::{Cluster, Variant, run};

const OTHER_KEY: &str = "TmV3IGtleXMgYXJlIG5vIGJldHRlci4gMTIzNDU2Nzg=";
const RECORD: &str = "-event-handler=user=sh {dir}/record.sh {dir}/events";

#[test]
fn no_event_is_lost_meanwhile() {
    run(concat!(module_path!(), "::no_event_is_lost_meanwhile"), Variant::Sealed, 110, |cluster| {
        cluster.start_pairs(2, |_| vec![RECORD.to_owned()]);
        let cluster = &*cluster;
        let done = AtomicBool::new(false);
        let sent = thread::scope(|scope| {
            let stream = scope.spawn(|| {
                let mut sent = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    let origin = &cluster.agents()[sent.len() % 4];
                    let name = format!("event-{}", sent.len());
                    origin.serf_ok(&["event", "-coalesce=false", &name]);
                    sent.push(name);
                }
                sent
            });
            // There from one kind, back from the other.
            for (origin, old, new) in [("s1", Variant::KEY, OTHER_KEY), ("t1", OTHER_KEY, Variant::KEY)] {
                exchange(cluster, origin, old, new);
            }
            done.store(true, Ordering::Relaxed);
            stream.join().expect("the events are sent")
        });
        assert!(sent.len() > 20, "a stream of {}", sent.len());
        for agent in cluster.agents() {
            cluster.wait_for(&format!("{} events at {}", sent.len(), agent.name), || {
                let mut counts: BTreeMap<String, usize> = BTreeMap::new();
                agent
                    .records("events")
                    .into_iter()
                    .for_each(|record| *counts.entry(record.name).or_default() += 1);
                let missing: Vec<&String> =
                    sent.iter().filter(|name| counts.get(*name) != Some(&1)).collect();
                if missing.is_empty() { Ok(()) } else { Err(format!("not once: {missing:?}")) }
            });
        }
        cluster.wait_all_alive();
    });
}

fn exchange(cluster: &Cluster, origin: &str, old: &str, new: &str) {
    for flag in [format!("-install={new}"), format!("-use={new}"), format!("-remove={old}")] {
        // A gossiped query may miss a node, and an answer may get lost; then an operator asks again.
        cluster.wait_for(&format!("keys {flag} by {origin}"), || {
            let output = cluster.agent(origin).serf(&["keys", &flag]);
            if output.status.success() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&output.stdout).into_owned())
            }
        });
    }
}

#[test]
fn a_node_that_was_away_needs_the_new_key() {
    for (place, kind) in Kind::BOTH.into_iter().enumerate() {
        let test = concat!(module_path!(), "::a_node_that_was_away_needs_the_new_key");
        run(test, Variant::Plain, 111 + place as u8, |cluster| comes_back(cluster, kind));
    }
}

fn comes_back(cluster: &mut Cluster, kind: Kind) {
    cluster.refusals_expected = true;
    let keyring = "-keyring-file={dir}/keys";
    for (kind, name) in [(Kind::Serf, "s1"), (Kind::Thane, "t1"), (kind, "away")] {
        let agent = cluster.add(kind, name);
        write_keys(agent.file("keys"), &[Variant::KEY]);
    }
    cluster.start("s1", &[keyring]);
    cluster.start("t1", &[keyring, &cluster.join_flag("s1")]);
    cluster.start("away", &[keyring, &cluster.join_flag("t1")]);
    cluster.wait_all_alive();
    cluster.agent("away").serf_ok(&["leave"]);
    assert!(cluster.agent("away").wait_exit().success());
    cluster.wait_statuses(&[("s1", "alive"), ("t1", "alive"), ("away", "left")]);
    exchange(cluster, "t1", Variant::KEY, OTHER_KEY);

    // With the old key alone it stays outside, whomever it asks.
    cluster.start("away", &[keyring]);
    for member in ["s1", "t1"] {
        let output = cluster.agent("away").serf(&["join", &cluster.agent(member).bind_addr().to_string()]);
        assert!(!output.status.success(), "{output:?}");
    }
    cluster.agent("away").kill();
    // What a member of the cluster keeps on disk lets it in, whichever kind wrote it.
    let written = fs::read(cluster.agent(if kind == Kind::Serf { "t1" } else { "s1" }).file("keys"));
    fs::write(cluster.agent("away").file("keys"), written.expect("the keyring is kept"))
        .expect("it is taken over");
    cluster.start("away", &[keyring, &cluster.join_flag("s1")]);
    cluster.wait_all_alive();
    for name in ["s1", "t1", "away"] {
        let listed = cluster.agent(name).serf_ok(&["keys", "-list"]);
        assert!(
            listed.contains(&format!("{OTHER_KEY}  [3/3]")) && !listed.contains(Variant::KEY),
            "{listed}"
        );
    }
}

fn write_keys(path: std::path::PathBuf, keys: &[&str]) {
    fs::write(path, serde_json::to_string(keys).expect("keys are text")).expect("the keyring is written");
}
