//! User events in all directions: payloads arrive as they were sent, once everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::agent::{Agent, Kind, Record};
use super::cluster::{Cluster, Variant, in_each_variant, run};
use super::rpc::RpcConnection;

in_each_variant!(events_arrive_once, 20);
in_each_variant!(bursts_coalesce, 23);
in_each_variant!(newcomers_may_ask_for_replay, 64);

/// The names that handlers listen to; each matches exactly.
const HANDLED: [&str; 8] = ["bytes", "lines", "text", "empty", "full", "zeros", "calm", "end"];
/// Name and payload together may be 512 bytes long before encoding, and the encoded message too.
const FULL_BYTES: usize = 470;

/// Agents of both kinds send every sort of payload, coalesced or not; every agent's handlers see each exactly once.
fn events_arrive_once(cluster: &mut Cluster) {
    // The names of coalesced events differ by origin: of one name only the newest would be delivered.
    let mut names: Vec<String> = HANDLED.iter().map(|&name| name.to_owned()).collect();
    names.extend(["s1", "t1", "s2", "t2"].map(|origin| format!("calm-{origin}")));
    cluster.start_pairs(2, |_| vec![record_flag(&names)]);
    let mut sent = Vec::new();
    for origin in cluster.agents() {
        let mut payloads = payloads(origin);
        payloads.push(("unheard", b"no handler has this name".to_vec()));
        for (name, payload) in payloads {
            send(origin, name, &payload, false);
            sent.push((name.to_owned(), payload));
        }
        let calm = format!("calm-{}", origin.name);
        send(origin, &calm, b"take your time", true);
        sent.push((calm, b"take your time".to_vec()));

        let zeros = format!("{}\0\0end\0", origin.name).into_bytes();
        RpcConnection::open(origin.rpc_addr()).event("zeros", &zeros, false);
        sent.push(("zeros".to_owned(), zeros));
    }
    wait_delivered(cluster, &sent);
    // What comes twice comes before what was sent later.
    for origin in cluster.agents() {
        send(origin, "end", origin.name.as_bytes(), false);
        sent.push(("end".to_owned(), origin.name.clone().into_bytes()));
    }
    wait_delivered(cluster, &sent);
}

/// Of a burst of coalescing events with one name each handler sees the newest, and none twice.
fn bursts_coalesce(cluster: &mut Cluster) {
    const BURST: u8 = 10;
    cluster.start_pairs(1, |_| vec![record_flag(&["burst-s1".to_owned(), "burst-t1".to_owned()])]);
    for origin in cluster.agents() {
        let name = format!("burst-{}", origin.name);
        // In one write: between two of them the agent has nothing to wait for, least of all the quiet period of a
        // second.
        let payloads = (1..=BURST).map(|number| vec![b'a' + number]);
        RpcConnection::open(origin.rpc_addr()).burst(&name, payloads, true);
        for agent in cluster.agents() {
            let seen = cluster.wait_for(&format!("the end of {name} at {}", agent.name), || {
                let seen: Vec<Vec<u8>> = records(agent, &name).map(|record| record.stdin).collect();
                let ended = seen.contains(&vec![b'a' + BURST, b'\n']);
                if ended { Ok(seen) } else { Err(format!("{seen:?}")) }
            });
            // Elsewhere the burst comes by gossip, in several rounds.
            if agent.name == origin.name {
                assert_eq!(seen.len(), 1, "{name} was not coalesced: {seen:?}\n{}", agent.dump());
            }
            let distinct: BTreeSet<&Vec<u8>> = seen.iter().collect();
            assert_eq!(distinct.len(), seen.len(), "{name} twice at {}: {seen:?}", agent.name);
        }
    }
}

#[test]
fn handlers_see_the_events_of_each_sender_in_sending_order() {
    run("events::order", Variant::Plain, 120, each_senders_order_is_kept);
}

/// Agents of both kinds send 60 events each, in bursts that share packets, all at the same time; all names and payloads
/// have the same length, because packets list longer ones first and Serf handles a packet from its end.
fn each_senders_order_is_kept(cluster: &mut Cluster) {
    const BURSTS: u32 = 10;
    const BURST: u32 = 6;
    cluster.start_pairs(2, |_| vec![record_flag(&["e-s1", "e-t1", "e-s2", "e-t2"].map(str::to_owned))]);
    let mut connections: Vec<_> = cluster
        .agents()
        .iter()
        .map(|agent| (format!("e-{}", agent.name), RpcConnection::open(agent.rpc_addr())))
        .collect();
    for burst in 0..BURSTS {
        let numbers = || burst * BURST..(burst + 1) * BURST;
        for (name, connection) in &mut connections {
            // In one write: gossip promises no order for what travels in different packets, here or in Serf.
            connection.burst(name, numbers().map(|number| format!("{number:03}").into_bytes()), false);
        }
        for agent in cluster.agents() {
            for (name, _) in &connections {
                let seen = cluster.wait_for(&format!("burst {burst} of {name} at {}", agent.name), || {
                    let seen: Vec<Vec<u8>> = records(agent, name).map(|record| record.stdin).collect();
                    if seen.len() as u32 == (burst + 1) * BURST { Ok(seen) } else { Err(format!("{seen:?}")) }
                });
                let sent = (0..(burst + 1) * BURST).map(|number| format!("{number:03}\n").into_bytes());
                assert_eq!(seen, sent.collect::<Vec<_>>(), "{name} at {}\n{}", agent.name, agent.dump());
            }
        }
    }
}

/// Who joins sees what is sent from then on, and with `-replay` what was sent before, too.
fn newcomers_may_ask_for_replay(cluster: &mut Cluster) {
    const LATE: [(Kind, &str, bool); 4] = [
        (Kind::Serf, "t1", false),
        (Kind::Thane, "s1", false),
        (Kind::Serf, "t1", true),
        (Kind::Thane, "s1", true),
    ];
    let record = record_flag(&["old-s1", "old-t1", "new"].map(str::to_owned));
    cluster.start_pairs(1, |_| vec![record.clone()]);
    for agent in cluster.agents() {
        send(agent, &format!("old-{}", agent.name), b"before anybody came", agent.name == "s1");
    }
    for agent in cluster.agents() {
        wait_names(cluster, &agent.name, &["old-s1", "old-t1"]);
    }
    for (kind, member, replay) in LATE {
        let name = format!("late-{kind:?}-{replay}");
        let join = cluster.join_flag(member);
        cluster.add(kind, &name);
        let flags = [&*record, &join, "-replay"];
        cluster.start(&name, if replay { &flags } else { &flags[..2] });
    }
    cluster.wait_all_alive();
    send(cluster.agent("t1"), "new", b"", false);
    for (kind, _, replay) in LATE {
        let expected = ["new", "old-s1", "old-t1"];
        wait_names(
            cluster,
            &format!("late-{kind:?}-{replay}"),
            if replay { &expected } else { &expected[..1] },
        );
    }
}

/// Waits until the handlers of an agent ran for exactly these events.
fn wait_names(cluster: &Cluster, name: &str, expected: &[&str]) {
    cluster.wait_for(&format!("{expected:?} at {name}"), || {
        let mut seen: Vec<String> =
            cluster.agent(name).records("events").into_iter().map(|record| record.name).collect();
        seen.sort_unstable();
        if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
    });
}

/// A payload of each sort, different for each origin.
fn payloads(origin: &Agent) -> Vec<(&'static str, Vec<u8>)> {
    let name = origin.name.as_bytes();
    // No zero: these travel through the arguments of a command line.
    let bytes = [name, &(1..=255).collect::<Vec<u8>>()].concat();
    let mut payloads = vec![
        ("bytes", bytes),
        ("lines", [name, b"\none\n\n two\t\r\nlast\n"].concat()),
        ("text", [name, " zażółć 🦀 <&> \"'\\".as_bytes()].concat()),
        ("full", name.iter().copied().cycle().take(FULL_BYTES).collect()),
    ];
    if origin.name == "s2" {
        payloads.push(("empty", Vec::new()));
    }
    payloads
}

pub(super) fn record_flag(names: &[String]) -> String {
    let filters: Vec<String> = names.iter().map(|name| format!("user:{name}")).collect();
    format!("-event-handler={}=sh {{dir}}/record.sh {{dir}}/events", filters.join(","))
}

/// Dispatches an event with the command line of the other kind than the agent's.
pub(super) fn send(origin: &Agent, name: &str, payload: &[u8], coalesce: bool) {
    let flag = format!("-coalesce={coalesce}");
    let args = [OsStr::new("event"), flag.as_ref(), name.as_ref(), OsStr::from_bytes(payload)];
    let said = origin.cross_ok(&args);
    assert_eq!(said, format!("Event '{name}' dispatched! Coalescing enabled: {coalesce}\n"));
}

/// Waits until every agent's handlers were run for exactly the events in `sent`, with the same Lamport times everywhere.
pub(super) fn wait_delivered(cluster: &Cluster, sent: &[(String, Vec<u8>)]) {
    let mut expected: BTreeMap<(String, Vec<u8>), usize> = BTreeMap::new();
    for (name, payload) in sent.iter().filter(|(name, _)| name != "unheard") {
        *expected.entry((name.clone(), on_stdin(payload))).or_default() += 1;
    }
    let mut times: Option<Vec<Record>> = None;
    for agent in cluster.agents() {
        let mut records = cluster.wait_for(&format!("all events at {}", agent.name), || {
            let records = agent.records("events");
            let mut seen: BTreeMap<(String, Vec<u8>), usize> = BTreeMap::new();
            for record in &records {
                assert_eq!(record.event, "user");
                *seen.entry((record.name.clone(), record.stdin.clone())).or_default() += 1;
            }
            if seen == expected { Ok(records) } else { Err(difference(&seen, &expected)) }
        });
        records.sort();
        match &times {
            Some(first) => assert_eq!(records, *first, "{} against the first agent", agent.name),
            None => times = Some(records),
        }
    }
}

/// A handler gets a newline after a payload that is not empty and does not end with one.
fn on_stdin(payload: &[u8]) -> Vec<u8> {
    let mut stdin = payload.to_vec();
    if !matches!(payload.last(), None | Some(b'\n')) {
        stdin.push(b'\n');
    }
    stdin
}

fn difference(
    seen: &BTreeMap<(String, Vec<u8>), usize>,
    expected: &BTreeMap<(String, Vec<u8>), usize>,
) -> String {
    let mut text = String::new();
    for (event, count) in expected {
        let times = seen.get(event).copied().unwrap_or(0);
        if times != *count {
            text += &format!("{times} of {count} times {}; ", show(event));
        }
    }
    for event in seen.keys().filter(|event| !expected.contains_key(event)) {
        text += &format!("unexpected {}; ", show(event));
    }
    text
}

fn show((name, stdin): &(String, Vec<u8>)) -> String {
    format!("{name} with \"{}\"", stdin.escape_ascii())
}

fn records(agent: &Agent, name: &str) -> impl Iterator<Item = Record> {
    agent.records("events").into_iter().filter(move |record| record.name == name)
}
