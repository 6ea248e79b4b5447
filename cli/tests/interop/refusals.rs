//! Where an agent of either kind shows that it could not use what came in.

use std::net::UdpSocket;

use super::agent::{Agent, Kind, wait_for};
use super::cluster::{Cluster, Variant, run};

/// Serf's words for it in its log, in lower case.
const REFUSALS: [&str; 15] = [
    "failed to decode",
    "error decoding",
    "failed to decompress",
    "decrypt packet failed",
    "invalid checksum",
    "truncated messages",
    "not supported",
    "unknown type",
    "invalid msgtype",
    "bad type prefix",
    "remote state is zero bytes",
    "failed push/pull merge",
    "unhandled internal query",
    "unsupported ping version",
    "rejected coordinate",
];

/// Drop reasons that happen between healthy agents: an ack after its probe ended, a stream cut by a kill, a response that
/// a relay brings a second time or too late, an event from before an agent's time in a push/pull, news from before a leave.
const HARMLESS_DROPS: [&str; 6] =
    ["unknown_seq", "stream_cut", "duplicate_response", "query_unknown", "event_too_old", "departed"];

/// Fails if the agent could not use something that its peers sent, as far as it can still be asked.
pub(crate) fn assert_nothing_refused(agent: &Agent) {
    let refusals = match agent.kind {
        Kind::Serf => refusals_logged(agent),
        Kind::Thane if agent.is_running() => drops_counted(agent),
        Kind::Thane => Vec::new(),
    };
    assert!(refusals.is_empty(), "{} refused what a peer sent: {refusals:#?}\n{}", agent.name, agent.dump());
}

/// The lines of a Serf's log that tell of refused bytes. Its RPC server uses the same words for commands cut short.
fn refusals_logged(agent: &Agent) -> Vec<String> {
    let refusal = |line: &String| {
        let lower = line.to_lowercase();
        !lower.contains(" agent.ipc: ") && REFUSALS.iter().any(|refusal| lower.contains(refusal))
    };
    agent.log_lines().into_iter().filter(refusal).collect()
}

/// The counters that are not zero in the section `drops` of a Thane's `info`.
fn drops_counted(agent: &Agent) -> Vec<String> {
    let info = agent.info();
    let drops = info["drops"].as_object().into_iter().flatten();
    let counted = drops.filter(|(reason, count)| *count != "0" && !HARMLESS_DROPS.contains(&&***reason));
    counted.map(|(reason, count)| format!("{reason}: {count}")).collect()
}

/// Packets that nobody can use, for an agent without a key.
const GARBAGE: [&[u8]; 7] = [
    b"\xffno such type",
    b"\x0cCRC?not this one",
    b"\x00\xc1not a ping",
    b"\x09\x82\xa4Algo\x00\xa3Buf\xa3???",
    b"\x07\x02\x00\x05\x00\x05\x01",
    b"\x08\x63no such Serf message",
    b"\x08\x03\xc1not an event",
];
/// The same for an agent with one.
const NOT_SEALED_BY_US: [&[u8]; 1] = [b"\x01no nonce, no text, no tag, but long enough"];

#[test]
fn serf_logs_garbage() {
    let test = concat!(module_path!(), "::serf_logs_garbage");
    run(test, Variant::Plain, 67, |cluster| shows_garbage(cluster, Kind::Serf, &GARBAGE));
    run(test, Variant::Sealed, 68, |cluster| shows_garbage(cluster, Kind::Serf, &NOT_SEALED_BY_US));
}

#[test]
fn thane_counts_garbage() {
    let test = concat!(module_path!(), "::thane_counts_garbage");
    run(test, Variant::Plain, 69, |cluster| shows_garbage(cluster, Kind::Thane, &GARBAGE));
    run(test, Variant::Sealed, 70, |cluster| shows_garbage(cluster, Kind::Thane, &NOT_SEALED_BY_US));
}

/// What [`assert_nothing_refused`] looks at shows each of these packets.
fn shows_garbage(cluster: &mut Cluster, kind: Kind, packets: &[&[u8]]) {
    cluster.refusals_expected = true;
    cluster.add(kind, "target");
    cluster.start("target", &[]);
    let agent = cluster.agent("target");
    let refusals = || match kind {
        Kind::Serf => refusals_logged(agent),
        Kind::Thane => drops_counted(agent),
    };
    for packet in packets {
        let before = refusals();
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.send_to(packet, agent.bind_addr()).expect("the packet is sent");
        wait_for(&format!("\"{}\" to be noticed", packet.escape_ascii()), &[agent], || {
            let after = refusals();
            if after == before { Err(format!("{after:#?}")) } else { Ok(()) }
        });
    }
}
