//! Joins through many addresses, and agents that take the place of a killed one.

use std::process::Command;

use crate::process::{Agent, THANE};

fn join(addresses: &[&str]) -> String {
    let output =
        Command::new(THANE).args(["join", "-rpc-addr=127.83.6.2:7373"]).args(addresses).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_join_tries_every_address_however_many_while_others_join() {
    let _seed = Agent::start(THANE, "127.83.6.1", &["-node=seed"]);
    let agent = Agent::start(THANE, "127.83.6.2", &["-node=n"]);
    // Nobody listens on these; the seed is the last of 1,001.
    let mut addresses: Vec<String> =
        (0..1000).map(|n| format!("127.83.7.{}:{}", n % 250 + 1, 2000 + n)).collect();
    addresses.push("127.83.6.1".to_owned());
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    std::thread::scope(|scope| {
        let long = scope.spawn(|| join(&addresses));
        // Other joins of the same agent have room meanwhile.
        for _ in 0..10 {
            let text = join(&["127.83.6.1"]);
            assert!(text.contains("Successfully joined cluster by contacting 1 nodes."), "{text}");
        }
        let text = long.join().unwrap();
        assert!(text.contains("Successfully joined cluster by contacting 1 nodes."), "{text}");
    });
    assert!(agent.rpc(THANE, "members", &[]).contains("seed"));
}

#[test]
fn a_successor_starts_at_once_after_its_predecessor_was_killed() {
    let flags = ["-node=n", "-log-level=debug"];
    let mut agent = Agent::start(THANE, "127.83.6.9", &flags);
    for _ in 0..10 {
        agent.signal("KILL");
        // The predecessor may not have ended yet.
        agent = Agent::start(THANE, "127.83.6.9", &flags);
    }
}
