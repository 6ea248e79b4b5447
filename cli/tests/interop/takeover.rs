//! One kind goes on where the other stopped: the same name, the same address, the same snapshot file.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

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
                // Serf writes when something new comes after the last write. One agent sends all events: of two that send at
                // one moment, one may count as from before a start.
                cluster.agent("s1").serf_ok(&["event", "-coalesce=false", "nudge"]);
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
            wait_for_port(agent);
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

/// Serf's file lags behind what its handlers were told: nobody who starts on it may be told that again. Thane's own
/// file does not lag, so what was sent while the agent was down still comes.
#[test]
fn what_was_handled_before_a_kill_is_not_handled_again_by_the_other_kind() {
    let test =
        concat!(module_path!(), "::what_was_handled_before_a_kill_is_not_handled_again_by_the_other_kind");
    run(test, Variant::Plain, 191, |cluster| {
        cluster.refusals_expected = true;
        cluster.add(Kind::Thane, "t1");
        cluster.start("t1", &[]);
        let [serf, thane] =
            [Kind::Serf, Kind::Thane].map(|kind| Agent::new(kind, "moved", Ipv4Addr::new(127, 14, 191, 9)));
        let mut handled: BTreeMap<String, usize> = BTreeMap::new();
        // Serf's file is Thane's after its first run, and Serf's again after the next.
        for (round, (agent, next)) in
            [(&serf, &thane), (&thane, &thane), (&thane, &serf), (&serf, &thane)].into_iter().enumerate()
        {
            let before = fs::read(agent.file("snapshot")).unwrap_or_default();
            let join = if round == 0 { vec![cluster.join_flag("t1")] } else { Vec::new() };
            agent.start(&[FLAGS.map(str::to_owned).as_slice(), &join].concat());
            cluster.wait_statuses(&[("t1", "alive"), ("moved", "alive")]);
            // Serf leaves no trace before it writes, half a second after its start at the earliest.
            let mut sent = 0;
            wait_for("a write to the snapshot", &[agent], || {
                sent += 1;
                cluster.agent("t1").serf_ok(&["event", "-coalesce=false", &format!("early-{round}-{sent}")]);
                let bytes = fs::read(agent.file("snapshot")).unwrap_or_default();
                if bytes == before { Err(format!("{} bytes", bytes.len())) } else { Ok(()) }
            });
            cluster.agent("t1").serf_ok(&["event", "-coalesce=false", &format!("late-{round}")]);
            wait_for("the late event", &[agent], || {
                if told(agent).contains_key(&format!("late-{round}")) {
                    Ok(())
                } else {
                    Err("not yet".to_owned())
                }
            });
            agent.kill();
            cluster.agent("t1").serf_ok(&["event", "-coalesce=false", &format!("down-{round}")]);
            add(&mut handled, told(agent));
            hand_over(agent, next);
        }
        thane.start(&FLAGS.map(str::to_owned));
        cluster.agent("t1").serf_ok(&["event", "-coalesce=false", "last"]);
        wait_for("the last event", &[&thane], || {
            if told(&thane).contains_key("last") { Ok(()) } else { Err("not yet".to_owned()) }
        });
        add(&mut handled, told(&thane));
        let twice: Vec<_> = handled.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "handled more than once: {twice:?}\n{}", thane.dump());
        // What was sent while nobody ran: after Thane's own end it comes.
        assert!(handled.contains_key("down-1"), "{handled:?}\n{}", thane.dump());
    });
}

/// How often the handlers of the agent were told of each event since the last look at them.
fn told(agent: &Agent) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for record in agent.records("events") {
        *told.entry(record.name).or_default() += 1;
    }
    told
}

fn add(sum: &mut BTreeMap<String, usize>, told: BTreeMap<String, usize>) {
    for (name, times) in told {
        *sum.entry(name).or_default() += times;
    }
}

/// The next one starts on the file of the one that was killed, and its records begin anew.
fn hand_over(agent: &Agent, next: &Agent) {
    if agent.file("snapshot") != next.file("snapshot") {
        fs::copy(agent.file("snapshot"), next.file("snapshot")).expect("the snapshot is handed over");
    }
    for records in [agent.file("events"), next.file("events")] {
        remove(&records);
    }
    wait_for_port(agent);
}

/// The kernel lets go of a killed ring's socket a moment after the process; Serf does not wait for that.
fn wait_for_port(agent: &Agent) {
    wait_for("the port to be free", &[agent], || {
        std::net::UdpSocket::bind(agent.bind_addr()).map(drop).map_err(|error| error.to_string())
    });
}

fn remove(file: &Path) {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{}: {error}", file.display()),
        _ => {}
    }
}
