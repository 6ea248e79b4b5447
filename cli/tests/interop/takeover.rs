//! One kind goes on where the other stopped: the same name, the same address, the same snapshot file.

use std::fs;
use std::net::Ipv4Addr;

use super::agent::{Agent, Kind, wait_for};
use super::cluster::{Variant, run};

const FLAGS: [&str; 2] = ["-snapshot={dir}/snapshot", "-event-handler=user=sh {dir}/record.sh {dir}/events"];

#[test]
fn snapshots_are_taken_over_and_given_back() {
    let test = concat!(module_path!(), "::snapshots_are_taken_over_and_given_back");
    run(test, Variant::Plain, 113, |cluster| {
        cluster.refusals_expected = true;
        cluster.add(Kind::Serf, "s1");
        cluster.add(Kind::Thane, "t1");
        cluster.start("s1", &[]);
        cluster.start("t1", &[&cluster.join_flag("s1")]);
        let [serf, thane] =
            [Kind::Serf, Kind::Thane].map(|kind| Agent::new(kind, "moved", Ipv4Addr::new(127, 14, 113, 9)));
        let start = |agent: &Agent, join: &[String]| {
            agent.start(&[FLAGS.map(str::to_owned).as_slice(), join].concat());
        };
        start(&serf, &[cluster.join_flag("t1")]);
        let mut sent = 0;
        // Each in turn; the last one is the first kind again.
        for (agent, next) in [(&serf, &thane), (&thane, &serf), (&serf, &thane)] {
            let all = [("s1", "alive"), ("t1", "alive"), ("moved", "alive")];
            cluster.wait_statuses(&all);
            let seen = wait_for("its own member list", &[agent], || {
                let members = agent.members()?;
                if members.len() == 3 { Ok(members) } else { Err(format!("{members:?}")) }
            });
            assert!(seen.values().all(|member| member.status == "alive"), "{seen:?}");
            sent += 1;
            let event = format!("event-{sent}");
            cluster.agent("s1").serf_ok(&["event", "-coalesce=false", &event]);
            wait_for(&format!("{event}, and nothing again"), &[agent], || {
                let records = agent.records("events").into_iter().map(|record| record.name);
                let names: Vec<String> = records.filter(|name| *name != "nudge").collect();
                if names.last() == Some(&event) { Ok(()) } else { Err(format!("{names:?}")) }
            });
            wait_for("the event's time on disk", &[agent], || {
                // Serf writes when something new comes after the last write.
                cluster.agent("t1").serf_ok(&["event", "-coalesce=false", "nudge"]);
                let text = fs::read_to_string(agent.file("snapshot")).unwrap_or_default();
                let alive = ["s1", "t1"].iter().all(|name| text.contains(&format!("alive: {name} ")));
                let clocks =
                    text.lines().filter_map(|line| line.strip_prefix("event-clock: ")?.parse::<u64>().ok());
                let newest = clocks.max().unwrap_or_default();
                let heard = |record: &super::agent::Record| record.name == event && record.ltime <= newest;
                if alive && agent.records("events").iter().any(heard) { Ok(()) } else { Err(text) }
            });
            agent.kill();
            fs::copy(agent.file("snapshot"), next.file("snapshot")).expect("the snapshot is handed over");
            // The kernel lets go of a killed ring's socket a moment after the process; Serf does not wait for that.
            wait_for("the port to be free", &[agent], || {
                std::net::UdpSocket::bind(agent.bind_addr()).map(drop).map_err(|error| error.to_string())
            });
            start(next, &[]);
            wait_for("a rejoin by the snapshot alone", &[next], || {
                let rejoined =
                    next.log_lines().iter().any(|line| line.contains("Re-joined to previously known node"));
                if rejoined { Ok(()) } else { Err("not yet".to_owned()) }
            });
            let skipped =
                next.log_lines().into_iter().filter(|line| line.contains("Unrecognized snapshot line"));
            assert_eq!(skipped.collect::<Vec<_>>(), Vec::<String>::new());
            let again = next.records("events").iter().filter(|record| record.name == event).count();
            assert_eq!(again, 0, "what the one had heard the other does not hear again");
        }
    });
}
