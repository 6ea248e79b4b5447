//! Which address a name belongs to: a member that comes back elsewhere has it, one that only claims it has not.

use std::net::SocketAddr;

use thane_engine::drop_reason::DropReason;
use thane_engine::event::{Event, MemberEventKind, Notice};
use thane_engine::wire::serf::{JoinIntent, LeaveIntent};
use thane_engine::wire::{Alive, Dead, Incarnation, LamportTime};

use super::*;

/// Adds a node that calls itself `n2` and joins through n1.
fn claim(world: &mut World, ids: &[NodeId], change: impl FnOnce(&mut RawConfig)) -> NodeId {
    let claimant = world.add(|raw| {
        raw.node_name = "n2".to_owned();
        change(raw);
    });
    let seed_node = target(world, ids[0]);
    world.with(claimant, |node, ctx| node.join(ctx, Ticket(1), vec![seed_node], true)).unwrap();
    claimant
}

fn votes(world: &World, id: NodeId) -> Vec<bool> {
    let kept = |notice: &Notice| match notice {
        Notice::NameVote { kept, .. } => Some(*kept),
        _ => None,
    };
    world
        .notices()
        .iter()
        .filter(|(_, node, _)| *node == id)
        .filter_map(|(_, _, notice)| kept(notice))
        .collect()
}

/// The address to which a node lost its name.
fn lost_to(world: &World, id: NodeId) -> Option<SocketAddr> {
    world.notices().iter().find_map(|(_, node, notice)| match notice {
        Notice::NameTaken { name, addr } if *node == id && name == "n2" => Some(*addr),
        _ => None,
    })
}

/// Whether all of these list `n2` as alive at that address.
fn all_have(world: &World, ids: &[NodeId], addr: SocketAddr) -> bool {
    ids.iter()
        .filter(|&&id| world.node(id).is_some())
        .all(|&id| world.status(id, "n2") == MemberStatus::Alive && world.address(id, "n2") == Some(addr))
}

fn config_of(world: &World, id: NodeId) -> RawConfig {
    RawConfig::clone(world.node(id).unwrap().config())
}

/// Starts `n2` again at another address; it joins through n1.
fn move_away(world: &mut World, ids: &[NodeId], old: RawConfig) -> (NodeId, SocketAddr) {
    let back = world.add(|raw| {
        let advertise = SocketAddr::new(raw.advertise.ip(), 7946);
        *raw = old;
        raw.advertise = advertise;
    });
    let seed_node = target(world, ids[0]);
    world.with(back, |node, ctx| node.join(ctx, Ticket(2), vec![seed_node], true)).unwrap();
    (back, target(world, back))
}

const NOBODY: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 99, 0, 1)), 7946);

/// One datagram for each member but `n2`, as gossip would bring it: that `n2` left, if `departs`, and is alive at `addr`.
fn forge(world: &mut World, ids: &[NodeId], departs: bool, addr: SocketAddr, incarnation: u32) {
    let std::net::IpAddr::V4(ip) = addr.ip() else { panic!("the World has IPv4 addresses") };
    let ip = ip.octets();
    let alive = Alive {
        incarnation: Incarnation(incarnation),
        node: "n2",
        addr: ip[..].into(),
        port: addr.port(),
        meta: b"\xff\x80"[..].into(),
        versions: [1, 5, 2, 2, 5, 5][..].into(),
    };
    let mut messages: Vec<Vec<u8>> = Vec::new();
    let mut add = |encode: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        messages.push(bytes);
    };
    if departs {
        add(&|out| Dead { incarnation: Incarnation(5), node: "n2", from: "n2" }.encode(out));
        add(&|out| {
            out.push(thane_engine::wire::message::USER);
            LeaveIntent { ltime: LamportTime(900), node: "n2", prune: false }.encode(out);
        });
    }
    add(&|out| alive.encode(out));
    add(&|out| {
        out.push(thane_engine::wire::message::USER);
        JoinIntent { ltime: LamportTime(901), node: "n2" }.encode(out);
    });
    for &id in ids.iter().filter(|&&id| id != ids[1]) {
        for message in &messages {
            world.inject(id, addr, message);
        }
    }
}

fn is_whole(world: &World, ids: &[NodeId]) -> bool {
    all_have(world, ids, target(world, ids[1]))
        && ids.iter().all(|&id| status_everywhere(world, ids, &names(&[id])[0], MemberStatus::Alive))
}

fn held(world: &World, ids: &[NodeId]) -> u64 {
    let drops = |&id: &NodeId| world.node(id).unwrap().stats().drops(DropReason::NameHeld);
    ids.iter().map(drops).sum()
}

#[test]
fn a_forged_departure_ends_nobody() {
    let (mut world, ids) = cluster(97, 8, Network::default(), |_| {});
    world.check();
    for &id in ids.iter().filter(|&&id| id != ids[1]) {
        let mut bytes = Vec::new();
        Dead { incarnation: Incarnation(1), node: "n2", from: "n2" }.encode(&mut bytes);
        world.inject(id, NOBODY, &bytes);
    }
    world.run(Duration::from_millis(2));
    let left = |event: &Event| matches!(event, Event::Member { kind: MemberEventKind::Leave, members } if members.iter().any(|m| m.name == "n2"));
    let believed = world.events().iter().filter(|(_, event)| left(event)).count();
    assert_eq!(believed, 7, "a departure is believed at first");
    world.run_until(2 * SECOND, |w| is_whole(w, &ids)).expect("it refutes");
    assert_eq!(world.violations(), []);
}

/// Said at once or after the departure is known, and with or without somebody there who answers to the name.
#[test]
fn a_name_is_not_given_away_while_its_owner_answers() {
    for (case, departs) in [(0, true), (1, true), (2, false), (3, false)] {
        let (mut world, ids) = cluster(98, 6, Network::default(), |_| {});
        let thief = world.add(|raw| raw.node_name = "n2".to_owned());
        let addr = if case % 2 == 0 { target(&world, thief) } else { NOBODY };
        let at = target(&world, ids[1]);
        forge(&mut world, &ids, departs, addr, 50);
        for _ in 0..2000 {
            world.run(Duration::from_millis(10));
            let given = ids.iter().find(|&&id| world.address(id, "n2") != Some(at));
            assert_eq!(given, None, "case {case}");
        }
        assert!(is_whole(&world, &ids), "case {case}");
        assert!(held(&world, &ids) > 0, "case {case}: it is counted");
        assert!(votes(&world, ids[1]).is_empty(), "case {case}: there is nothing to vote about");
    }
}

#[test]
fn a_member_that_was_killed_is_back_at_another_address_within_two_seconds() {
    // At once, while it is suspected, when it has failed, and when SWIM has dropped it.
    for (case, wait) in [1, 2500, 15_000, 90_000].into_iter().enumerate() {
        for n in [3, 20] {
            let (mut world, ids) = cluster(120 + case as u64, n, Network::default(), |_| {});
            let old = config_of(&world, ids[1]);
            world.crash(ids[1]);
            world.run(Duration::from_millis(wait));
            let (back, addr) = move_away(&mut world, &ids, old);
            let took = world.run_until(2 * SECOND, |w| all_have(w, &ids, addr));
            assert!(took.is_some(), "{wait} ms, {n} nodes");
            world.run(60 * SECOND);
            assert!(world.node(back).is_some() && all_have(&world, &ids, addr), "{wait} ms, {n} nodes");
            assert!(votes(&world, back).iter().all(|kept| *kept), "old news may still start a vote");
        }
    }
}

#[test]
fn a_member_that_left_is_back_at_another_address_within_two_seconds() {
    for wait in [0, 20, 90] {
        let (mut world, ids) = cluster(130, 6, Network::default(), |_| {});
        let old = config_of(&world, ids[1]);
        world.with(ids[1], |node, ctx| node.leave(ctx, Ticket(7))).unwrap();
        world.run_until(10 * SECOND, |w| w.node(ids[1]).unwrap().has_left()).unwrap();
        world.run(wait * SECOND);
        let (_, addr) = move_away(&mut world, &ids, old);
        let others = [&ids[..1], &ids[2..]].concat();
        let took = world.run_until(2 * SECOND, |w| all_have(w, &others, addr));
        assert!(took.is_some(), "{wait} s later, and the process that left still runs");
    }
}

/// The old address still reaches the machine: a laptop that is docked, a virtual network that came up.
#[test]
fn a_member_that_has_its_old_address_too_may_announce_another_one() {
    for leaves in [true, false] {
        let (mut world, ids) = cluster(131, 5, Network::default(), |_| {});
        let old = config_of(&world, ids[1]);
        let before = old.advertise;
        if leaves {
            world.with(ids[1], |node, ctx| node.leave(ctx, Ticket(7))).unwrap();
            world.run(10 * SECOND);
        }
        world.crash(ids[1]);
        let (back, addr) = move_away(&mut world, &ids, old);
        world.add_address(back, before);
        let others = [&ids[..1], &ids[2..]].concat();
        world.run_until(10 * SECOND, |w| all_have(w, &others, addr)).expect("it is one and the same");
        world.run(60 * SECOND);
        assert!(world.node(back).is_some() && all_have(&world, &others, addr));
    }
}

#[test]
fn a_newcomer_whose_name_is_taken_ends_and_says_by_whom() {
    for n in [1, 2, 6] {
        let (mut world, ids) = cluster(95, n + 1, Network::default(), |_| {});
        let owner = target(&world, ids[1]);
        let seed_node = if n == 1 {
            // The owner alone: nobody could vote.
            world.crash(ids[0]);
            world.run(60 * SECOND);
            owner
        } else {
            target(&world, ids[0])
        };
        let claimant = world.add(|raw| raw.node_name = "n2".to_owned());
        world.with(claimant, |node, ctx| node.join(ctx, Ticket(1), vec![seed_node], true)).unwrap();
        world.run_until(SECOND, |w| w.node(claimant).is_none()).expect("it gives up");
        assert_eq!(lost_to(&world, claimant), Some(owner));
        world.run(60 * SECOND);
        assert!(world.node(ids[1]).is_some(), "who had the name keeps it");
        assert!(status_everywhere(&world, &ids, "n2", MemberStatus::Alive));
        assert!(ids.iter().all(|&id| world.node(id).is_none() || world.address(id, "n2") == Some(owner)));
    }
}

#[test]
fn two_clusters_that_meet_vote_about_a_name_that_both_have() {
    let (mut world, ids) = cluster(140, 6, Network::default(), |_| {});
    let first = world.add(|raw| raw.node_name = "other".to_owned());
    let second = world.add(|raw| raw.node_name = "n2".to_owned());
    let (one, two) = (target(&world, first), target(&world, ids[0]));
    world.with(second, |node, ctx| node.join(ctx, Ticket(1), vec![one], true)).unwrap();
    world.run(10 * SECOND);
    world.with(first, |node, ctx| node.join(ctx, Ticket(1), vec![two], true)).unwrap();
    world.run_until(60 * SECOND, |w| w.node(second).is_none()).expect("the smaller side loses the vote");
    assert_eq!(lost_to(&world, second), Some(target(&world, ids[1])));
    assert_eq!(votes(&world, second), [false]);
    world.run(60 * SECOND);
    assert!(world.node(ids[1]).is_some());
}

/// It does not answer, so that its name goes to the other address. When it is back, it ends where somebody else has the
/// name, and has its name back where nobody has.
#[test]
fn an_owner_that_does_not_answer_loses_its_name_to_one_that_does() {
    let (mut world, ids) = cluster(141, 6, Network::default(), |_| {});
    let old = config_of(&world, ids[1]);
    world.pause(ids[1], 20 * SECOND);
    let (_, addr) = move_away(&mut world, &ids, old);
    let others = [&ids[..1], &ids[2..]].concat();
    world.run_until(2 * SECOND, |w| all_have(w, &others, addr)).expect("nobody answered");
    world.run_until(120 * SECOND, |w| w.node(ids[1]).is_none()).expect("the name is somebody else's");
    assert_eq!(lost_to(&world, ids[1]), Some(addr));
    assert!(all_have(&world, &others, addr));
}

#[test]
fn an_owner_that_was_paused_during_a_forgery_has_its_name_back() {
    for departs in [true, false] {
        let (mut world, ids) = cluster(142, 6, Network::default(), |_| {});
        world.pause(ids[1], 4 * SECOND);
        forge(&mut world, &ids, departs, NOBODY, 50);
        world.run(4 * SECOND);
        world.run_until(40 * SECOND, |w| is_whole(w, &ids)).expect("nobody else answers to the name");
    }
}

#[test]
fn without_resolution_both_go_on() {
    let (mut world, ids) = cluster(96, 4, Network::default(), |_| {});
    let claimant = claim(&mut world, &ids, |raw| raw.resolve_name_conflicts = false);
    world.run(60 * SECOND);
    assert!(world.node(claimant).is_some());
    let warned = |n: &Notice| matches!(n, Notice::AddressConflict { name, .. } if name == "n2");
    assert!(world.notices().iter().any(|(_, _, notice)| warned(notice)));
}
