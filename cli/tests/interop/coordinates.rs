//! Network coordinates: each kind learns from the other's acks, and both come to believe in short round trips.

use super::agent::Agent;
use super::cluster::{Cluster, Variant, run};

/// Far above a round trip on the loopback device, far below two newcomers' first guess of each other after an error.
const CLOSE_MS: f64 = 50.0;

#[test]
fn both_kinds_converge() {
    run(concat!(module_path!(), "::both_kinds_converge"), Variant::Plain, 108, |cluster| {
        cluster.start_pairs(2, |_| Vec::new());
        for agent in cluster.agents() {
            for other in cluster.agents().iter().filter(|other| other.name != agent.name) {
                wait_close(cluster, agent, &other.name);
            }
            let info = agent.info();
            assert_eq!(info["serf"]["coordinate_resets"], "0", "{}", agent.name);
        }
    });
}

fn wait_close(cluster: &Cluster, agent: &Agent, other: &str) {
    cluster.wait_for(&format!("{} to know the way to {other}", agent.name), || {
        let text = String::from_utf8_lossy(&agent.serf(&["rtt", other]).stdout).into_owned();
        let estimate: Option<f64> =
            text.trim_end().strip_suffix(" ms").and_then(|text| text.rsplit(' ').next()?.parse().ok());
        match estimate {
            Some(ms) if ms > 0.0 && ms < CLOSE_MS => Ok(()),
            _ => Err(text),
        }
    });
}
