//! An agent with a snapshot finds its cluster, which is of the other kind, again.

use std::fs;

use super::agent::{Agent, Kind};
use super::cluster::{Cluster, in_each_variant, member_name};

in_each_variant!(serf_rejoins_thane, 36);
in_each_variant!(thane_rejoins_serf, 39);

const HANDLER: &str = "-event-handler=user:before,user:missed,user:after=sh {dir}/record.sh {dir}/events";
const SNAPSHOT: &str = "-snapshot={dir}/snapshot";

fn serf_rejoins_thane(cluster: &mut Cluster) {
    rejoins(cluster, Kind::Serf);
}

fn thane_rejoins_serf(cluster: &mut Cluster) {
    rejoins(cluster, Kind::Thane);
}

/// After a crash, after a leave with `-rejoin`, and not after a leave without it.
fn rejoins(cluster: &mut Cluster, kind: Kind) {
    let [first, second] = [1, 2].map(|number| member_name(kind.other(), number));
    cluster.add(kind.other(), &first);
    cluster.add(kind.other(), &second);
    cluster.add(kind, "saved");
    cluster.start(&first, &[]);
    cluster.start(&second, &[&cluster.join_flag(&first)]);
    cluster.start("saved", &[SNAPSHOT, HANDLER, &cluster.join_flag(&first)]);
    cluster.wait_all_alive();
    let cluster = &*cluster;
    let (saved, statuses) =
        (cluster.agent("saved"), |status| [(&*first, "alive"), (&*second, "alive"), ("saved", status)]);

    send(cluster.agent(&first), "before");
    wait_events(cluster, &["before"]);
    wait_saved(cluster, &first, &second);
    saved.kill();
    cluster.wait_statuses(&statuses("failed"));
    send(cluster.agent(&second), "missed");
    cluster.start("saved", &[SNAPSHOT, HANDLER]);
    cluster.wait_all_alive();
    // What it missed arrives with the rejoin, what it had seen does not come again.
    send(cluster.agent(&first), "after");
    wait_events(cluster, &["after", "before", "missed"]);

    leave(cluster);
    cluster.wait_statuses(&statuses("left"));
    cluster.start("saved", &[SNAPSHOT, HANDLER, "-rejoin"]);
    cluster.wait_all_alive();

    leave(cluster);
    cluster.wait_statuses(&statuses("left"));
    let joins = own_joins(saved);
    cluster.start("saved", &[SNAPSHOT, HANDLER]);
    // It tells its handlers of its own join a quiet second after it: by then it would have rejoined, as that comes first.
    cluster.wait_for("the agent's own join", || {
        if own_joins(saved) > joins { Ok(()) } else { Err("not yet".to_owned()) }
    });
    let known: Vec<String> = saved.members().expect("the agent answers").into_keys().collect();
    assert_eq!(known, ["saved"], "it had left and was not told to rejoin\n{}", saved.dump());
    saved.serf_ok(&["join", &cluster.agent(&second).bind_addr().to_string()]);
    cluster.wait_all_alive();
    wait_events(cluster, &["after", "before", "missed"]);
}

fn own_joins(saved: &Agent) -> usize {
    saved.log_lines().iter().filter(|line| line.contains("Received event: member-join")).count()
}

fn leave(cluster: &Cluster) {
    cluster.agent("saved").serf_ok(&["leave"]);
    assert!(cluster.agent("saved").wait_exit().success());
}

fn send(origin: &Agent, name: &str) {
    origin.serf_ok(&["event", "-coalesce=false", name]);
}

/// Waits until the handler of the agent with the snapshot ran for exactly these events, once for each.
fn wait_events(cluster: &Cluster, expected: &[&str]) {
    cluster.wait_for(&format!("the events {expected:?}"), || {
        let mut seen: Vec<String> = records(cluster).into_iter().map(|(name, _)| name).collect();
        seen.sort_unstable();
        if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
    });
}

fn records(cluster: &Cluster) -> Vec<(String, u64)> {
    let records = cluster.agent("saved").records("events");
    records.into_iter().map(|record| (record.name, record.ltime)).collect()
}

/// Waits until the snapshot on disk has both members and the time of the last event that was delivered. Serf writes to
/// disk only when something new comes half a second after the last write, so something new is sent.
fn wait_saved(cluster: &Cluster, first: &str, second: &str) {
    let (_, delivered) = records(cluster).into_iter().max_by_key(|(_, ltime)| *ltime).expect("an event came");
    cluster.wait_for("the snapshot on disk", || {
        let text =
            fs::read_to_string(cluster.agent("saved").file("snapshot")).map_err(|error| error.to_string())?;
        let alive =
            |name: &str| text.contains(&format!("alive: {name} {}\n", cluster.agent(name).bind_addr()));
        let clock =
            text.lines().filter_map(|line| line.strip_prefix("event-clock: ")?.parse::<u64>().ok()).max();
        if alive(first) && alive(second) && clock >= Some(delivered) {
            return Ok(());
        }
        send(cluster.agent(second), "something-new");
        Err(text)
    });
}
