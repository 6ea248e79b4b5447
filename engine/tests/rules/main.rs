//! Single rules of SWIM and Serf, shown on one node that is handed messages: what it believes, sends and passes
//! on.
#![allow(clippy::unwrap_used)]

mod coalescing;
mod gossip;
mod helpers;
mod keys;
mod labels;
mod members;
mod probes;
mod queries;
mod reconnects;

use std::net::SocketAddr;
use std::time::Duration;

use thane_engine::config::RawConfig;
use thane_engine::context::{StreamId, StreamInput};
use thane_engine::drop_reason::DropReason;
use thane_engine::event::Event;
use thane_engine::fixtures::{Lone, PEER, envelope};
use thane_engine::time::Time;
use thane_engine::timers::TimerKind;
use thane_engine::view::{MemberStatus, SwimState};
use thane_engine::wire::keyring::Keyring;
use thane_engine::wire::message::IndirectPing;
use thane_engine::wire::packet::{self, Scratch};
use thane_engine::wire::serf::{
    FLAG_ACK, FLAG_NO_BROADCAST, Filter, JoinIntent, LeaveIntent, Query, UserEvent,
};
use thane_engine::wire::stream::encode_push_pull_header;
use thane_engine::wire::{
    Ack, Alive, Coordinate, Incarnation, LamportTime, Message, NodeState, SeqNo, SerfMessage, Suspect,
    WireState,
};

/// The node `n1`.
fn lone() -> Lone {
    lone_with(|_| {})
}

fn lone_with(change: impl FnOnce(&mut RawConfig)) -> Lone {
    Lone::new(|raw| {
        raw.node_name = "n1".to_owned();
        change(raw);
    })
}

/// What these tests do with a node and ask it.
trait Watched {
    fn hear_serf(&mut self, encode: impl FnOnce(&mut Vec<u8>));
    /// Passes time, millisecond by millisecond.
    fn wait(&mut self, span: Duration);
    /// What it sent since the last call: where to, and each message as text.
    fn sent(&mut self) -> Vec<(SocketAddr, String)>;
    fn status(&self, name: &str) -> MemberStatus;
    fn state(&self, name: &str) -> (SwimState, u32);
    fn user_events(&mut self) -> Vec<(String, bool)>;
}

impl Watched for Lone {
    fn hear_serf(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        self.hear(|out| {
            out.push(8);
            encode(out);
        });
    }

    fn wait(&mut self, span: Duration) {
        (0..span.as_millis()).for_each(|_| self.pass(Duration::from_millis(1)));
    }

    fn sent(&mut self) -> Vec<(SocketAddr, String)> {
        let mut sent = Vec::new();
        let envelope = envelope(None);
        for datagram in std::mem::take(&mut self.ctx.out.datagrams) {
            let mut bytes = self.ctx.out.send_buffer[datagram.range.clone()].to_vec();
            let plain = envelope.open(&mut bytes).unwrap();
            packet::for_each_message(plain, &mut Scratch::default(), &mut |message| {
                let text = match message.unwrap() {
                    Message::Ack(ack) => format!("ack {} with {}", ack.seq.0, ack.payload.len()),
                    Message::Nack(nack) => format!("nack {}", nack.seq.0),
                    Message::Ping(ping) => format!("ping {} {}", ping.seq.0, ping.node),
                    Message::Suspect(suspect) => format!("suspect {}", suspect.node),
                    Message::User(bytes) => match SerfMessage::decode(bytes).unwrap() {
                        SerfMessage::Join(join) => format!("join {} {}", join.ltime.0, join.node),
                        SerfMessage::Leave(leave) => format!("leave {} {}", leave.ltime.0, leave.node),
                        _ => return,
                    },
                    _ => return,
                };
                sent.push((datagram.to, text));
            });
        }
        sent
    }

    fn status(&self, name: &str) -> MemberStatus {
        self.node.view().by_name(&self.ctx.roster, name).unwrap().1.status
    }

    fn state(&self, name: &str) -> (SwimState, u32) {
        let (member, known) = self.node.view().by_name(&self.ctx.roster, name).unwrap();
        (known.swim, self.node.view().incarnation(&self.ctx.roster, member).unwrap().0)
    }

    fn user_events(&mut self) -> Vec<(String, bool)> {
        let events = std::mem::take(&mut self.ctx.out.events).into_iter();
        let user = |(_, event)| match event {
            Event::User { name, coalesce, .. } => Some((name, coalesce)),
            _ => None,
        };
        events.filter_map(user).collect()
    }
}

fn alive<'a>(name: &'a str, incarnation: u32, port: u16) -> Alive<'a> {
    Alive {
        incarnation: Incarnation(incarnation),
        node: name,
        addr: vec![127, 13, 0, 2].into(),
        port,
        meta: b"\xff\x80"[..].into(),
        versions: vec![1, 5, 2, 2, 5, 5].into(),
    }
}

#[test]
fn an_indirect_ping_is_relayed_and_its_ack_comes_back_without_payload_or_else_a_nack() {
    let target = SocketAddr::from(([127, 13, 0, 9], 7946));
    for answered in [true, false] {
        let mut lone = lone_with(|raw| raw.probe_interval = Duration::from_secs(86_400));
        lone.hear(|out| Alive { addr: vec![127, 13, 0, 9].into(), ..alive("n9", 1, 7946) }.encode(out));
        lone.clear();
        lone.hear(|out| {
            let request = IndirectPing {
                seq: SeqNo(77),
                target: vec![127, 13, 0, 9].into(),
                port: 7946,
                node: "n9",
                nack: true,
                source_addr: vec![127, 13, 0, 2].into(),
                source_port: 7946,
                source_node: "n2",
            };
            request.encode(out);
        });
        let sent = lone.sent();
        let [(to, ping)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(*to, target);
        let seq: u32 = ping.strip_prefix("ping ").unwrap().strip_suffix(" n9").unwrap().parse().unwrap();
        assert_ne!(seq, 77, "it has a number of its own");
        if answered {
            let mut ack = Vec::new();
            Ack { seq: SeqNo(seq), payload: b"\x01coordinate"[..].into(), ..Ack::default() }.encode(&mut ack);
            lone.node.handle_datagram(&mut lone.ctx, target, &mut ack);
            assert_eq!(lone.sent(), [(PEER, "ack 77 with 0".to_owned())]);
            lone.wait(Duration::from_secs(2));
            assert_eq!(lone.sent(), [], "no nack after an ack");
        } else {
            lone.wait(Duration::from_millis(499));
            assert_eq!(lone.sent(), []);
            lone.wait(Duration::from_millis(20));
            assert_eq!(lone.sent(), [(PEER, "nack 77".to_owned())]);
        }
    }
}

#[test]
fn nonsense_for_a_coordinate_is_dropped_and_the_ack_counts_all_the_same() {
    let sane = Coordinate::default();
    let payload = |coordinate: &Coordinate| {
        let mut out = Vec::new();
        coordinate.encode(&mut out);
        out
    };
    let mut payloads: Vec<Vec<u8>> = Vec::new();
    for nonsense in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut vec = sane.vec;
        vec[3] = nonsense;
        payloads.push(payload(&Coordinate { vec, ..sane }));
        payloads.push(payload(&Coordinate { error: nonsense, ..sane }));
        payloads.push(payload(&Coordinate { height: nonsense, ..sane }));
        payloads.push(payload(&Coordinate { adjustment: nonsense, ..sane }));
    }
    // Seven dimensions, another version, half of one.
    let good = payload(&sane);
    let fewer: Vec<u8> = good.iter().map(|&byte| if byte == 0x98 { 0x97 } else { byte }).collect();
    payloads.extend([fewer, [&[9], &good[1..]].concat(), good[..good.len() / 2].to_vec()]);
    for (place, payload) in payloads.into_iter().enumerate() {
        let mut lone = lone();
        lone.hear(|out| alive("n2", 1, 7946).encode(out));
        let probed = (0..110).find_map(|_| {
            lone.wait(Duration::from_millis(10));
            lone.sent().into_iter().find_map(|(_, text)| text.strip_prefix("ping ").map(str::to_owned))
        });
        let seq: u32 = probed.unwrap().split(' ').next().unwrap().parse().unwrap();
        lone.hear(|out| Ack { seq: SeqNo(seq), payload: payload.into(), ..Ack::default() }.encode(out));
        assert_eq!(lone.node.stats().all_drops().count(), 1, "case {place}");
        assert_eq!(lone.node.coordinate(&lone.ctx, "n2"), None, "case {place}");
        assert_eq!(lone.node.coordinate(&lone.ctx, "n1"), Some(sane), "case {place}");
        // The end of this probe, and not yet that of the next.
        lone.wait(Duration::from_millis(1500));
        assert_eq!(lone.node.stats().probes_failed, 0, "case {place}: it was an ack");
    }
}

/// Members of memberlist protocol 1 seal with the older envelope, which has padding.
#[test]
fn both_versions_of_the_envelope_are_opened() {
    for version in [0, 1] {
        let mut lone = lone_with(|raw| raw.keys = vec![vec![5; 16]]);
        lone.hear(|bytes| {
            alive("n2", 1, 7946).encode(bytes);
            Keyring::new(&[vec![5; 16]]).unwrap().seal(version, [9; 12], b"", bytes, 0);
        });
        let Lone { node, ctx } = &lone;
        assert_eq!(node.members(ctx).len(), 2, "version {version}");
        assert_eq!(node.stats().all_drops().count(), 0);
    }
}

#[test]
fn news_needs_a_larger_incarnation_and_port_0_is_the_own_one() {
    let mut lone = lone();
    lone.hear(|out| alive("n2", 3, 0).encode(out));
    assert_eq!(lone.state("n2"), (SwimState::Alive, 3));
    assert_eq!(lone.node.members(&lone.ctx)[1].port, 7946);
    lone.hear(|out| Alive { meta: b"\xff\x81\xa1a\xa1b"[..].into(), ..alive("n2", 3, 7946) }.encode(out));
    assert!(lone.node.members(&lone.ctx)[1].tags.is_empty(), "the same incarnation says nothing new");
    lone.hear(|out| Alive { meta: b"\xff\x81\xa1a\xa1b"[..].into(), ..alive("n2", 4, 7946) }.encode(out));
    assert_eq!(lone.node.members(&lone.ctx)[1].tags.len(), 1);
    lone.hear(|out| alive("n2", 9, 7000).encode(out));
    assert_eq!(lone.state("n2"), (SwimState::Alive, 4), "another address is a conflict");
    assert_eq!(lone.node.stats().drops(DropReason::AddressConflict), 1);
}

#[test]
fn serf_intents_who_is_said_to_leave_and_does_not_says_so_even_at_the_time_of_its_own_join() {
    let mut lone = lone();
    lone.hear(|out| alive("n2", 1, 7946).encode(out));
    lone.wait(Duration::from_secs(20));
    let said = |lone: &mut Lone, ltime: u64| {
        lone.sent();
        lone.hear_serf(|out| LeaveIntent { ltime: LamportTime(ltime), node: "n1", prune: false }.encode(out));
        lone.wait(Duration::from_secs(1));
        lone.sent().into_iter().any(|(_, text)| text == format!("join {} n1", ltime + 1))
    };
    assert!(said(&mut lone, 5));
    assert!(said(&mut lone, 6), "whoever hears of the leave first takes no join of the same time for news");
    assert!(!said(&mut lone, 6), "its newer join is out already");
}

#[test]
fn serf_intents_for_a_member_not_known_yet_wait_for_it_and_the_newest_counts() {
    let leave = |ltime| (ltime, true);
    let join = |ltime| (ltime, false);
    for (intents, expected) in [
        (vec![leave(5)], MemberStatus::Leaving),
        (vec![leave(5), join(6)], MemberStatus::Alive),
        (vec![leave(6), join(5)], MemberStatus::Leaving),
        (vec![join(5), leave(6)], MemberStatus::Leaving),
    ] {
        let mut lone = lone();
        for &(ltime, leaves) in &intents {
            let (ltime, node) = (LamportTime(ltime), "n2");
            lone.hear_serf(|out| match leaves {
                true => LeaveIntent { ltime, node, prune: false }.encode(out),
                false => JoinIntent { ltime, node }.encode(out),
            });
        }
        lone.hear(|out| alive("n2", 1, 7946).encode(out));
        assert_eq!(lone.status("n2"), expected, "{intents:?}");
    }
}

#[test]
fn lifeguard_4_3_a_ping_to_a_suspect_carries_the_accusation_if_the_buddy_system_is_on() {
    for buddy_system in [true, false] {
        let mut lone = lone_with(|raw| raw.buddy_system = buddy_system);
        lone.hear(|out| alive("n2", 1, 7946).encode(out));
        lone.hear(|out| Suspect { incarnation: Incarnation(1), node: "n2", from: "n3" }.encode(out));
        // Until gossip has sent it as often as it may.
        lone.wait(Duration::from_millis(1_500));
        lone.sent();
        lone.wait(Duration::from_millis(1_500));
        let sent = lone.sent();
        let has = |what: &str| sent.iter().any(|(to, text)| *to == PEER && text.starts_with(what));
        assert!(has("ping"), "{sent:?}");
        assert_eq!(has("suspect n2"), buddy_system, "{sent:?}");
    }
}

#[test]
fn a_remotes_dead_is_only_suspected_and_its_left_has_left() {
    let mut lone = lone();
    for name in ["dead", "left", "suspect"] {
        lone.hear(|out| alive(name, 1, 7946).encode(out));
    }
    let mut bytes = Vec::new();
    encode_push_pull_header(3, 0, false, &mut bytes);
    for (name, state) in
        [("dead", WireState::Dead), ("left", WireState::Left), ("suspect", WireState::Suspect)]
    {
        NodeState {
            name,
            addr: vec![127, 13, 0, 2].into(),
            port: 7946,
            incarnation: Incarnation(1),
            state,
            versions: vec![1, 5, 2, 2, 5, 5].into(),
            ..NodeState::default()
        }
        .encode(&mut bytes);
    }
    let id = StreamId::accepted(0);
    lone.node.handle_stream(&mut lone.ctx, id, StreamInput::Accepted(PEER));
    lone.node.handle_stream(&mut lone.ctx, id, StreamInput::Bytes(bytes[..].into()));
    lone.wait(Duration::from_millis(10));
    assert_eq!(lone.state("dead").0, SwimState::Suspect);
    assert_eq!(lone.state("suspect").0, SwimState::Suspect);
    assert_eq!(lone.state("left").0, SwimState::Left);
}

fn query(ltime: u64, flags: u32) -> Query<'static> {
    Query {
        ltime: LamportTime(ltime),
        id: 9,
        addr: vec![127, 13, 0, 2].into(),
        port: 7946,
        flags,
        timeout: 1_000_000_000,
        name: "q",
        ..Query::default()
    }
}

#[test]
fn events_and_queries_beyond_the_buffer_are_too_old() {
    let mut lone = lone();
    let event =
        |ltime| UserEvent { ltime: LamportTime(ltime), name: "e", payload: b""[..].into(), coalesce: true };
    lone.hear_serf(|out| event(1000).encode(out));
    lone.hear_serf(|out| event(1000 - 511).encode(out));
    assert_eq!(lone.user_events().len(), 2);
    lone.hear_serf(|out| event(1000 - 512).encode(out));
    lone.hear_serf(|out| event(1).encode(out));
    assert_eq!(lone.user_events().len(), 0);
    lone.hear_serf(|out| query(1000, 0).encode(out));
    lone.hear_serf(|out| query(2, 0).encode(out));
    let drops = |reason| lone.node.stats().drops(reason);
    assert_eq!((drops(DropReason::EventTooOld), drops(DropReason::QueryTooOld)), (2, 1));
}

#[test]
fn a_query_goes_on_even_where_it_is_filtered_out_unless_it_says_not_to() {
    for (flags, queued) in [(FLAG_ACK, 1), (FLAG_ACK | FLAG_NO_BROADCAST, 0)] {
        let mut lone = lone();
        let filters = vec![Filter::Nodes(vec!["somebody"]).encode().into()];
        lone.hear_serf(|out| Query { filters, ..query(5, flags) }.encode(out));
        assert_eq!(lone.node.queue_depths(), [0, queued, 0]);
        assert!(lone.sent().iter().all(|(_, text)| !text.starts_with("ack")));
        // Once is enough.
        lone.hear_serf(|out| query(5, flags).encode(out));
        assert_eq!(lone.node.queue_depths(), [0, queued, 0]);
    }
}

#[test]
fn nodes_started_together_probe_at_different_moments() {
    let firsts: std::collections::BTreeSet<u64> = (0..20)
        .map(|seed| {
            let Lone { mut ctx, .. } = Lone::seeded(seed, |_| {});
            let mut due = |millis: u64| {
                let end = Time::from_nanos(millis * 1_000_000);
                std::iter::from_fn(|| ctx.timers.pop_due(end)).any(|(_, key)| key.kind == TimerKind::Probe)
            };
            (0..=1001).find(|&millis| due(millis)).expect("within the probe interval")
        })
        .collect();
    assert!(firsts.len() > 15, "{firsts:?}");
}
