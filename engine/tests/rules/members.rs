//! Accusations, refutations and probes: SWM-6, 9, 10, 11 and 23.

use std::collections::BTreeSet;

use thane_engine::command::Ticket;

use super::helpers::{Driven, addr_of, announced, quiet};
use super::*;

/// The incarnation that the node has for itself.
fn own_incarnation(lone: &Lone) -> u32 {
    lone.state("n1").1
}

/// The incarnations under which the node announced itself since the last call.
fn announcements(lone: &mut Lone) -> BTreeSet<u32> {
    let mut own = BTreeSet::new();
    lone.each_sent(|_, message| match message {
        Message::Alive(alive) if alive.node == "n1" => {
            own.insert(alive.incarnation.0);
        }
        _ => {}
    });
    own
}

#[test]
fn swm_10_a_refutation_exceeds_the_accused_incarnation() {
    let mut lone = quiet(|_| {});
    lone.meet([2]);
    // Accused incarnation, and the own one afterwards. An accusation older than the own incarnation is no news.
    for (accused, after) in [(1, 2), (2, 3), (40, 41), (7, 41), (41, 42), (100, 101)] {
        lone.accuse("n1", accused, "n2");
        assert_eq!(lone.state("n1"), (SwimState::Alive, after), "suspected at {accused}");
    }
    lone.bury("n1", 300, "n2");
    assert_eq!(lone.state("n1"), (SwimState::Alive, 301), "declared dead at 300");
    lone.idle(Duration::from_secs(2));
    let last = announcements(&mut lone).into_iter().next_back();
    assert_eq!(last, Some(301), "the others hear of it");
}

#[test]
fn swm_11_the_own_name_at_the_same_incarnation_with_other_meta_or_versions_is_refuted() {
    let own = || announced(1, "n1", 1);
    let cases = [
        ("the same", own(), 1),
        ("other meta", Alive { meta: b"\xff\x81\xa1a\xa1b"[..].into(), ..own() }, 2),
        ("other versions", Alive { versions: vec![1, 5, 2, 2, 5, 4].into(), ..own() }, 2),
        (
            "other meta at an older incarnation",
            Alive { incarnation: Incarnation(0), meta: b"\xff\x81\xa1a\xa1b"[..].into(), ..own() },
            1,
        ),
        ("the same at a newer incarnation", announced(1, "n1", 5), 6),
    ];
    for (what, alive, after) in cases {
        let mut lone = quiet(|_| {});
        lone.meet([2]);
        lone.hear(|out| alive.encode(out));
        assert_eq!(own_incarnation(&lone), after, "{what}");
        assert_eq!(lone.node.stats().refutations, u64::from(after > 1), "{what}");
        let tags = &lone.node.members(&lone.ctx)[0].tags;
        assert!(tags.is_empty(), "{what}: only the node itself sets its tags");
    }
}

#[test]
fn swm_23_a_node_that_announced_its_departure_does_not_refute_any_more() {
    let mut lone = quiet(|_| {});
    lone.meet([2, 3]);
    let Lone { node, ctx } = &mut lone;
    node.leave(ctx, Ticket(1)).unwrap();
    let mut steps = 0;
    while !lone.node.has_left() {
        lone.idle(Duration::from_millis(100));
        if lone.swim("n1") == SwimState::Left {
            steps += 1;
            // Gossip from before the departure, and a forged life.
            lone.hear(|out| announced(1, "n1", 1).encode(out));
            lone.hear(|out| announced(1, "n1", 50).encode(out));
            lone.accuse("n1", 60, "n2");
            lone.bury("n1", 70, "n2");
        }
    }
    assert!(steps > 1, "the departure takes time");
    lone.hear(|out| announced(1, "n1", 80).encode(out));
    assert_eq!(lone.state("n1"), (SwimState::Left, 1));
    assert_eq!(lone.node.stats().refutations, 0);
    let newest = announcements(&mut lone).into_iter().next_back();
    assert!(newest <= Some(1), "{newest:?}: gossip about its start may still go out, nothing newer");
}

/// Seconds from the first accusation of n2 to its death. All members ack the node's own probes, so that it accuses
/// nobody itself.
fn seconds_to_death(accusers: &[&str]) -> f64 {
    let mut lone = quiet(|raw| raw.probe_interval = Duration::from_secs(1));
    lone.meet(2..=8);
    let start = lone.ctx.now;
    for accuser in accusers {
        lone.accuse("n2", 1, accuser);
    }
    while lone.swim("n2") == SwimState::Suspect {
        lone.idle(Duration::from_millis(10));
        let mut pings = Vec::new();
        lone.each_sent(|to, message| {
            if let Message::Ping(ping) = message {
                pings.push((to, ping.seq));
            }
        });
        for (from, seq) in pings {
            let mut ack = Vec::new();
            Ack { seq, ..Ack::default() }.encode(&mut ack);
            lone.node.handle_datagram(&mut lone.ctx, from, &mut ack);
        }
    }
    assert_eq!((lone.swim("n2"), lone.node.stats().probes_failed), (SwimState::Dead, 0));
    lone.ctx.now.since(start).as_secs_f64()
}

#[test]
fn swm_9_each_accuser_counts_once() {
    let one = seconds_to_death(&["n3"]);
    let two = seconds_to_death(&["n3", "n4"]);
    let three = seconds_to_death(&["n3", "n4", "n5"]);
    // Serf's defaults in a cluster of up to ten: six times the minimum, which is 4 s.
    assert_eq!((one.round(), three.round()), (24.0, 4.0));
    assert!(one > two && two > three, "{one} {two} {three}");
    assert_eq!(seconds_to_death(&["n3", "n3", "n3"]), one, "the first accuser again");
    assert_eq!(seconds_to_death(&["n3", "n4", "n4", "n3", "n4"]), two, "the second one again");
}

/// What the node answers to a request to ping n9, which stays silent.
fn answers_to_indirect_ping(nack: bool) -> Vec<(SocketAddr, u32)> {
    let mut lone = quiet(|_| {});
    lone.meet([2, 9]);
    lone.hear(|out| {
        let request = IndirectPing {
            seq: SeqNo(77),
            target: vec![127, 13, 0, 9].into(),
            port: 7946,
            node: "n9",
            nack,
            source_addr: vec![127, 13, 0, 2].into(),
            source_port: 7946,
            source_node: "n2",
        };
        request.encode(out);
    });
    lone.idle(Duration::from_secs(3));
    let (mut pings, mut nacks) = (0, Vec::new());
    lone.each_sent(|to, message| match message {
        Message::Ping(_) => pings += usize::from(to == addr_of(9)),
        Message::Nack(answer) => nacks.push((to, answer.seq.0)),
        _ => {}
    });
    assert_eq!(pings, 1);
    nacks
}

#[test]
fn swm_6_a_nack_is_sent_once_and_only_if_the_request_asks_for_it() {
    assert_eq!(answers_to_indirect_ping(true), [(PEER, 77)]);
    assert_eq!(answers_to_indirect_ping(false), []);
}

#[test]
fn swm_6_only_members_that_are_alive_are_asked_to_ping() {
    // n2 to n5 are alive, n6 to n13 suspect, n14 and n15 dead, n16 left. Nobody answers.
    for seed in 1..=5 {
        let mut lone = Lone::seeded(seed, |raw| {
            raw.node_name = "n1".to_owned();
            raw.push_pull_interval = Duration::from_secs(86_400);
        });
        lone.meet(2..=16);
        for n in 6..=13 {
            lone.accuse(&format!("n{n}"), 1, "n2");
        }
        for n in 14..=15 {
            lone.bury(&format!("n{n}"), 1, "n2");
        }
        lone.bury("n16", 1, "n16");
        let mut asked = 0;
        for _ in 0..300 {
            lone.pass(Duration::from_millis(10));
            let mut requests = Vec::new();
            lone.each_sent(|to, message| {
                if let Message::IndirectPing(request) = message {
                    requests.push((to, request.node.to_owned()));
                }
            });
            for (to, target) in requests {
                asked += 1;
                let SocketAddr::V4(helper) = to else { panic!("{to}") };
                let helper = format!("n{}", helper.ip().octets()[3]);
                assert_eq!(lone.swim(&helper), SwimState::Alive, "{helper}, seed {seed}");
                assert_ne!(helper, target, "a member is not asked to ping itself");
                assert_ne!(helper, "n1", "nor is this node");
            }
        }
        assert!(asked >= 3, "{asked} requests, seed {seed}");
    }
}
