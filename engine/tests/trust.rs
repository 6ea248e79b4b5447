//! What one datagram of a stranger must not do (DESIGN section 8, SECURITY.md).
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use thane_engine::config::RawConfig;
use thane_engine::drop_reason::DropReason;
use thane_engine::fixtures::{Lone, PEER, envelope};
use thane_engine::view::MemberStatus;
use thane_engine::wire::message::{IndirectPing, USER};
use thane_engine::wire::packet::{self, Scratch};
use thane_engine::wire::serf::{FLAG_ACK, KeyRequest, LeaveIntent, Query, QueryResponse, Relay};
use thane_engine::wire::{
    Ack, Alive, Dead, Incarnation, LamportTime, Message, Ping, SeqNo, SerfMessage, Suspect,
};

const STRANGER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 13, 0, 66)), 9);
const KEY: [u8; 16] = *b"secret-key-of-16";

fn lone(change: impl FnOnce(&mut RawConfig)) -> Lone {
    let mut lone = Lone::new(|raw| {
        raw.node_name = "n1".to_owned();
        change(raw);
    });
    hear_from(&mut lone, PEER, |out| alive("n2", 1, PEER).encode(out));
    lone.clear();
    lone
}

fn hear_from(lone: &mut Lone, from: SocketAddr, encode: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    lone.node.handle_datagram(&mut lone.ctx, from, &mut bytes);
}

fn octets(addr: SocketAddr) -> Vec<u8> {
    let std::net::IpAddr::V4(ip) = addr.ip() else { panic!("{addr} is IPv4") };
    ip.octets().to_vec()
}

fn alive(name: &str, incarnation: u32, at: SocketAddr) -> Alive<'_> {
    Alive {
        incarnation: Incarnation(incarnation),
        node: name,
        addr: octets(at).into(),
        port: at.port(),
        meta: b"\xff\x80"[..].into(),
        versions: vec![1, 5, 2, 2, 5, 5].into(),
    }
}

/// Destinations of what the node sent since the last call, with the first byte of each message.
fn sent(lone: &mut Lone) -> Vec<(SocketAddr, String)> {
    let mut sent = Vec::new();
    for datagram in std::mem::take(&mut lone.ctx.out.datagrams) {
        let mut bytes = lone.ctx.out.send_buffer[datagram.range.clone()].to_vec();
        let Ok(plain) = envelope(None).open(&mut bytes) else {
            sent.push((datagram.to, "sealed".to_owned()));
            continue;
        };
        packet::for_each_message(plain, &mut Scratch::default(), &mut |message| {
            let text = match message {
                Ok(Message::Ping(ping)) => format!("ping {}", ping.seq.0),
                Ok(Message::Ack(ack)) => format!("ack {}", ack.seq.0),
                Ok(Message::Nack(nack)) => format!("nack {}", nack.seq.0),
                Ok(Message::Alive(alive)) => format!("alive {} {}", alive.node, alive.incarnation.0),
                Ok(Message::Dead(dead)) => format!("dead {} {}", dead.node, dead.incarnation.0),
                Ok(Message::User(bytes)) => match SerfMessage::decode(bytes) {
                    Ok(SerfMessage::QueryResponse(_)) => "answer".to_owned(),
                    Ok(SerfMessage::Query(_)) => "query".to_owned(),
                    _ => "serf".to_owned(),
                },
                _ => "other".to_owned(),
            };
            sent.push((datagram.to, text));
        });
    }
    lone.ctx.out.send_buffer.clear();
    sent
}

fn drops(lone: &Lone, reason: DropReason) -> u64 {
    lone.node.stats().drops(reason)
}

fn query<'a>(name: &'a str, asker: &'a str, addr: SocketAddr, payload: &'a [u8]) -> Query<'a> {
    Query {
        ltime: LamportTime(7),
        id: 9,
        addr: octets(addr).into(),
        port: addr.port(),
        source_node: asker,
        flags: FLAG_ACK,
        timeout: 1_000_000_000,
        name,
        payload: payload.into(),
        ..Query::default()
    }
}

/// While a cluster moves to encryption, nodes take unsealed packets. Keys are not for them: no answer, no change,
/// and nothing is passed on, since others would get it sealed.
#[test]
fn an_unsealed_query_never_touches_keys() {
    for name in ["_serf_list-keys", "_serf_install-key", "_serf_use-key", "_serf_remove-key"] {
        let mut lone = lone(|raw| {
            raw.keys = vec![KEY.to_vec()];
            raw.gossip_verify_incoming = false;
        });
        let mut payload = Vec::new();
        KeyRequest { key: b"attackers-key-16"[..].into() }.encode(&mut payload);
        hear_from(&mut lone, STRANGER, |out| {
            out.push(USER);
            query(name, "n2", PEER, &payload).encode(out);
        });
        lone.pass(Duration::from_secs(1));
        let all = sent(&mut lone);
        assert!(!all.iter().any(|(_, text)| text == "answer" || text == "query"), "{name}: {all:?}");
        assert_eq!(drops(&lone, DropReason::UnsealedKeyQuery), 1, "{name}");
        assert_eq!(lone.node.keys().collect::<Vec<_>>(), [&KEY[..]], "{name}");
        assert_eq!(lone.node.queue_depths(), [0, 0, 0], "{name} is not passed on");
    }
}

#[test]
fn sequence_numbers_cannot_be_counted_on() {
    let mut lone = lone(|_| {});
    let mut seqs = Vec::new();
    while seqs.len() < 8 {
        lone.pass(Duration::from_millis(10));
        for (_, text) in sent(&mut lone) {
            if let Some(seq) = text.strip_prefix("ping ") {
                let seq: u32 = seq.parse().unwrap();
                seqs.push(seq);
                let ack = Ack { seq: SeqNo(seq), payload: b""[..].into(), ..Ack::default() };
                hear_from(&mut lone, PEER, |out| ack.encode(out));
            }
        }
    }
    let close = seqs.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 1 << 16).count();
    assert!(close <= 1, "{seqs:?}");
}

#[test]
fn replies_go_to_the_sender_or_to_the_members_own_address() {
    let ping = |source: SocketAddr, source_node: &'static str| Ping {
        seq: SeqNo(5),
        node: "n1",
        source_addr: octets(source).into(),
        source_port: source.port(),
        source_node,
        ..Ping::default()
    };
    // (the datagram's source, the source that the ping names, its name, where the ack goes)
    let cases = [
        (PEER, STRANGER, "n2", PEER),
        (PEER, STRANGER, "nobody", PEER),
        (STRANGER, PEER, "n2", PEER),
        (STRANGER, PEER, "nobody", STRANGER),
    ];
    for (from, named, name, to) in cases {
        let mut lone = lone(|_| {});
        hear_from(&mut lone, from, |out| ping(named, name).encode(out));
        let acks: Vec<_> = sent(&mut lone).into_iter().filter(|(_, text)| text == "ack 5").collect();
        assert_eq!(acks, [(to, "ack 5".to_owned())], "{from} names {named} as {name}");
    }
}

#[test]
fn no_ping_is_sent_to_an_address_that_only_the_requester_knows() {
    let request = |node: &'static str, target: SocketAddr| IndirectPing {
        seq: SeqNo(5),
        target: octets(target).into(),
        port: target.port(),
        node,
        nack: true,
        source_addr: octets(PEER).into(),
        source_port: PEER.port(),
        source_node: "n2",
    };
    for (node, target) in [("nobody", STRANGER), ("n2", STRANGER)] {
        let mut lone = lone(|_| {});
        hear_from(&mut lone, PEER, |out| request(node, target).encode(out));
        let all = sent(&mut lone);
        assert!(all.iter().all(|(to, _)| *to == PEER), "{node}: {all:?}");
        assert_eq!(all[0].1, "nack 5", "{node}: the requester learns that this node is alive");
        assert_eq!(drops(&lone, DropReason::NotAMember), 1);
    }
}

#[test]
fn answers_and_relays_go_to_members_only() {
    let mut lone = lone(|_| {});
    hear_from(&mut lone, STRANGER, |out| {
        out.push(USER);
        query("who", "n2", STRANGER, b"").encode(out);
    });
    let answers = |all: &[(SocketAddr, String)]| all.iter().filter(|(_, text)| text == "answer").count();
    assert_eq!(answers(&sent(&mut lone)), 0, "n2 has another address");
    // Askers that are not known yet are answered, a few a second.
    for id in 0..40 {
        hear_from(&mut lone, STRANGER, |out| {
            out.push(USER);
            Query { id: 100 + id, ..query("who", "newcomer", STRANGER, b"") }.encode(out);
        });
    }
    assert_eq!(answers(&sent(&mut lone)), 4);
    let mut answer = Vec::new();
    QueryResponse { ltime: LamportTime(1), id: 1, from: "n2", flags: 0, payload: b"x"[..].into() }
        .encode(&mut answer);
    for (name, to, relayed) in [("n2", PEER, 1), ("n2", STRANGER, 0), ("nobody", STRANGER, 0)] {
        let relay =
            Relay { dest_addr: octets(to).into(), dest_port: to.port(), dest_name: name, inner: &answer };
        hear_from(&mut lone, STRANGER, |out| {
            out.push(USER);
            relay.encode(out);
        });
        assert_eq!(answers(&sent(&mut lone)), relayed, "{name} at {to}");
    }
}

/// A departure can be forged. What it must not do is end a member that is still there.
#[test]
fn a_pruned_member_that_pings_is_sent_its_departure_and_comes_back_when_it_refutes() {
    let mut lone = lone(|_| {});
    hear_from(&mut lone, STRANGER, |out| {
        Dead { incarnation: Incarnation(7), node: "n2", from: "n2" }.encode(out)
    });
    hear_from(&mut lone, STRANGER, |out| {
        out.push(USER);
        LeaveIntent { ltime: LamportTime(9), node: "n2", prune: true }.encode(out);
    });
    let status = |lone: &Lone| lone.node.view().by_name(&lone.ctx.roster, "n2").unwrap().1.status;
    assert_eq!(status(&lone), MemberStatus::None);
    let all = sent(&mut lone);
    assert!(all.contains(&(PEER, "dead n2 7".to_owned())), "the member is sent its departure: {all:?}");
    hear_from(&mut lone, PEER, |out| alive("n2", 1, PEER).encode(out));
    assert_eq!(status(&lone), MemberStatus::None, "old news does not bring it back");
    sent(&mut lone);
    let ping = Ping {
        seq: SeqNo(5),
        node: "n1",
        source_addr: octets(PEER).into(),
        source_port: PEER.port(),
        source_node: "n2",
        ..Ping::default()
    };
    hear_from(&mut lone, PEER, |out| ping.encode(out));
    assert!(
        sent(&mut lone).contains(&(PEER, "dead n2 7".to_owned())),
        "its ping is answered with the departure"
    );
    hear_from(&mut lone, PEER, |out| alive("n2", 8, PEER).encode(out));
    assert_eq!(status(&lone), MemberStatus::Alive);
}

#[test]
fn a_refutation_goes_straight_to_an_accuser_that_gossip_does_not_reach() {
    let mut lone = lone(|_| {});
    hear_from(&mut lone, STRANGER, |out| {
        Dead { incarnation: Incarnation(7), node: "n2", from: "n2" }.encode(out)
    });
    sent(&mut lone);
    hear_from(&mut lone, PEER, |out| {
        Dead { incarnation: Incarnation(7), node: "n1", from: "n1" }.encode(out)
    });
    assert!(sent(&mut lone).contains(&(PEER, "alive n1 8".to_owned())));
}

/// No accusation takes a member to an incarnation that it cannot outbid, or that others refuse.
#[test]
fn a_huge_incarnation_is_refused_and_the_next_refutation_is_believed() {
    let mut lone = lone(|_| {});
    for incarnation in [u32::MAX - 1, u32::MAX / 2 + 1, 1 << 21] {
        let incarnation = Incarnation(incarnation);
        hear_from(&mut lone, STRANGER, |out| Suspect { incarnation, node: "n1", from: "n2" }.encode(out));
        hear_from(&mut lone, STRANGER, |out| Dead { incarnation, node: "n2", from: "n3" }.encode(out));
    }
    assert_eq!(drops(&lone, DropReason::IncarnationRefused), 6);
    assert_eq!(lone.node.stats().refutations, 0);
    let known = lone.node.view().by_name(&lone.ctx.roster, "n2").unwrap().1;
    assert_eq!(known.status, MemberStatus::Alive);
}

/// Each claim on a name costs pings and memory for a while.
#[test]
fn claims_on_names_are_capped_and_only_the_address_in_question_is_asked() {
    let mut lone = lone(|_| {});
    let names: Vec<String> = (0..400).map(|n| format!("m{n}")).collect();
    let at = |n: usize| SocketAddr::from(([127, 14, (n >> 8) as u8, n as u8], 7946));
    for (n, name) in names.iter().enumerate() {
        hear_from(&mut lone, PEER, |out| alive(name, 1, at(n)).encode(out));
    }
    for name in &names {
        hear_from(&mut lone, STRANGER, |out| {
            Dead { incarnation: Incarnation(1), node: name, from: name }.encode(out)
        });
    }
    sent(&mut lone);
    for name in names.iter().cycle().take(1000) {
        hear_from(&mut lone, STRANGER, |out| alive(name, 2, STRANGER).encode(out));
    }
    let pings: Vec<_> = sent(&mut lone).into_iter().filter(|(_, text)| text.starts_with("ping")).collect();
    assert_eq!(pings.len(), 128);
    assert!(pings.iter().enumerate().all(|(n, (to, _))| *to == at(n)), "{pings:?}");
    assert_eq!(drops(&lone, DropReason::QueueFull), (400 - 128) + (400 - 128) + (200 - 128));
}

#[test]
fn an_answer_with_the_right_number_keeps_the_name_and_one_with_another_does_not() {
    for answers in [true, false] {
        let mut lone = lone(|_| {});
        hear_from(&mut lone, STRANGER, |out| {
            Dead { incarnation: Incarnation(1), node: "n2", from: "n2" }.encode(out)
        });
        sent(&mut lone);
        hear_from(&mut lone, STRANGER, |out| alive("n2", 2, STRANGER).encode(out));
        let asked = sent(&mut lone);
        let seq = asked.iter().find_map(|(to, text)| (*to == PEER).then(|| text.strip_prefix("ping "))?);
        let seq: u32 = seq.expect("the old address is asked").parse().unwrap();
        let seq = SeqNo(if answers { seq } else { seq.wrapping_add(1) });
        hear_from(&mut lone, PEER, |out| Ack { seq, ..Ack::default() }.encode(out));
        let taken = |lone: &Lone| {
            lone.node
                .members(&lone.ctx)
                .into_iter()
                .find(|member| member.name == "n2")
                .map(|member| (member.status, SocketAddr::new(member.addr, member.port)))
        };
        assert_eq!(taken(&lone), Some((MemberStatus::Left, PEER)), "nothing is given away yet");
        for _ in 0..60 {
            lone.pass(Duration::from_millis(10));
        }
        let expected = if answers { (MemberStatus::Left, PEER) } else { (MemberStatus::Alive, STRANGER) };
        assert_eq!(taken(&lone), Some(expected));
        assert_eq!(drops(&lone, DropReason::NameHeld), u64::from(answers));
    }
}
