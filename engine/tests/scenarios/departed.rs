//! Members that left or were pruned stay away, whatever older news says, until they come back themselves.

use thane_engine::drop_reason::DropReason;
use thane_engine::event::{Completion, Event, MemberEventKind};
use thane_engine::sim::Link;
use thane_engine::wire::serf::LeaveIntent;
use thane_engine::wire::stream::encode_push_pull_header;
use thane_engine::wire::{Alive, Dead, Incarnation, NodeState, WireState};

use super::*;

/// Sends a node an alive message about a member with that incarnation, as gossip would.
fn announce(world: &mut World, at: NodeId, name: &str, addr: std::net::SocketAddr, incarnation: u32) {
    let std::net::IpAddr::V4(ip) = addr.ip() else { panic!("the World has IPv4 addresses") };
    let ip = ip.octets();
    let alive = Alive {
        incarnation: Incarnation(incarnation),
        node: name,
        addr: ip[..].into(),
        port: addr.port(),
        meta: b"\xff\x80"[..].into(),
        versions: [1, 5, 2, 2, 5, 5][..].into(),
    };
    let mut bytes = Vec::new();
    alive.encode(&mut bytes);
    world.with(at, |node, ctx| node.handle_datagram(ctx, addr, &mut bytes));
}

fn drops(world: &World, id: NodeId) -> u64 {
    world.node(id).unwrap().stats().drops(DropReason::Departed)
}

#[test]
fn older_news_does_not_bring_a_left_member_back_but_it_may_return() {
    let (mut world, ids) = cluster(95, 5, Network::default(), |_| {});
    let (rest, leaver) = (&ids[..4], ids[4]);
    let config = RawConfig::clone(world.node(leaver).unwrap().config());
    let addr = config.advertise;
    world.with(leaver, |node, ctx| node.leave(ctx, Ticket(1))).unwrap();
    world.run(5 * SECOND);
    world.crash(leaver);
    // Longer than gossip goes to the dead: SWIM has dropped it, Serf still lists it.
    world.run(60 * SECOND);
    assert_eq!(world.state(ids[0], "n5"), SwimState::Absent);
    announce(&mut world, ids[0], "n5", addr, 1);
    assert_eq!(drops(&world, ids[0]), 1);
    world.run(60 * SECOND);
    assert!(status_everywhere(&world, rest, "n5", MemberStatus::Left));
    // After a restart it has incarnation 1 again, and no push/pull tells it otherwise.
    let back = world.add(|raw| *raw = config);
    let seed = target(&world, ids[1]);
    world.with(back, |node, ctx| node.join(ctx, Ticket(2), vec![seed], true)).unwrap();
    let alive = |w: &World| status_everywhere(w, rest, "n5", MemberStatus::Alive);
    world.run_until(10 * SECOND, alive).expect("it refutes its own tombstone");
    assert!(world.incarnation(ids[0], "n5") > Some(1));
}

/// The member that is joined has a tombstone of the joiner, and nobody else tells the joiner of it.
#[test]
fn a_join_is_done_when_the_member_that_was_contacted_has_the_joiner() {
    for prune in [false, true] {
        let (mut world, ids) = cluster(94, 5, Network::default(), |_| {});
        let (contacted, leaver) = (ids[1], ids[4]);
        let config = RawConfig::clone(world.node(leaver).unwrap().config());
        world.with(leaver, |node, ctx| node.leave(ctx, Ticket(1))).unwrap();
        world.run(5 * SECOND);
        world.crash(leaver);
        world.run(60 * SECOND);
        if prune {
            world.with(ids[0], |node, ctx| node.force_leave(ctx, Ticket(1), "n5", true)).unwrap();
            world.run(10 * SECOND);
        }
        assert_eq!(world.state(contacted, "n5"), SwimState::Absent);
        let back = world.add(|raw| *raw = config);
        let at = target(&world, contacted);
        world.with(back, |node, ctx| node.join(ctx, Ticket(2), vec![at], true)).unwrap();
        let joined = Completion::Joined { contacted: 1, errors: Vec::new() };
        let is_done = |w: &World| w.completions().contains(&(back, Ticket(2), joined.clone()));
        world.run_until(10 * SECOND, is_done).expect("the join ends");
        assert_eq!(world.state(contacted, "n5"), SwimState::Alive, "pruned: {prune}");
        assert_eq!(world.state(back, "n2"), SwimState::Alive);
    }
}

#[test]
fn a_pruned_member_stays_away_for_the_tombstone_timeout() {
    let timeout = 300 * SECOND;
    let (mut world, ids) = cluster(96, 5, Network::default(), |raw| raw.tombstone_timeout = timeout);
    let (rest, addr) = (&ids[..4], world.node(ids[4]).unwrap().config().advertise);
    world.crash(ids[4]);
    let failed = |w: &World| status_everywhere(w, rest, "n5", MemberStatus::Failed);
    world.run_until(120 * SECOND, failed).expect("it fails");
    world.run(60 * SECOND);
    world.with(ids[1], |node, ctx| node.force_leave(ctx, Ticket(1), "n5", true)).unwrap();
    world.run(10 * SECOND);
    assert!(status_everywhere(&world, rest, "n5", MemberStatus::None));
    for &id in rest {
        assert_eq!(world.node(id).unwrap().view().members_count(), 4, "it is not counted");
        announce(&mut world, id, "n5", addr, 1);
        assert_eq!(drops(&world, id), 1);
    }
    world.run(60 * SECOND);
    assert!(status_everywhere(&world, rest, "n5", MemberStatus::None));
    // In the end it is forgotten, name and all.
    world.run(timeout);
    let (names, facts) = world.roster_counts();
    assert_eq!((names, facts), (4, 4));
    announce(&mut world, ids[0], "n5", addr, 1);
    assert_eq!(world.status(ids[0], "n5"), MemberStatus::Alive);
}

#[test]
fn a_stale_list_causes_few_datagrams() {
    let mut world = World::new(97, Network::default());
    let id = world.add(|_| {});
    let addr = |n: u32| std::net::SocketAddr::from(([127, 3, (n >> 8) as u8, n as u8], 7946));
    for n in 0..200 {
        announce(&mut world, id, &format!("gone{n}"), addr(n), 1);
    }
    for n in 0..200 {
        let name = format!("gone{n}");
        let mut bytes = Vec::new();
        Dead { incarnation: Incarnation(1), node: &name, from: &name }.encode(&mut bytes);
        world.with(id, |node, ctx| node.handle_datagram(ctx, addr(n), &mut bytes));
    }
    world.run(120 * SECOND);
    let sent = |w: &World| w.node(id).unwrap().stats().datagrams_sent;
    let before = sent(&world);
    for n in 0..200 {
        announce(&mut world, id, &format!("gone{n}"), addr(n), 1);
    }
    assert_eq!(drops(&world, id), 200);
    assert_eq!(sent(&world) - before, 32);
}

/// A node that was cut off while another left comes back with its old list, before it finds out itself.
#[test]
fn an_exchange_with_somebody_who_was_away_brings_nobody_back() {
    let mut stale = 0;
    for seed in 0..3 {
        let short = |raw: &mut RawConfig| raw.gossip_to_the_dead = 2 * SECOND;
        let (mut world, ids) = cluster(200 + seed, 12, Network::default(), short);
        let (leaver, away) = (ids[4], ids[11]);
        world.move_to_island(&[away], 1);
        world.with(leaver, |node, ctx| node.leave(ctx, Ticket(1))).unwrap();
        world.run(3 * SECOND);
        world.crash(leaver);
        let dropped = |w: &World| ids.iter().all(|&id| id == away || w.state(id, "n5") == SwimState::Absent);
        world
            .run_until(60 * SECOND, |w| ids[..4].iter().all(|&id| w.state(id, "n5") == SwimState::Absent))
            .unwrap();
        let before = world.events().len();
        world.move_to_island(&[away], 0);
        let seed_node = target(&world, ids[0]);
        world.with(away, |node, ctx| node.join(ctx, Ticket(2), vec![seed_node], true)).unwrap();
        world.run(100 * SECOND);
        assert!(dropped(&world) && status_everywhere(&world, &ids, "n5", MemberStatus::Left), "seed {seed}");
        let back = |event: &Event| matches!(event, Event::Member { kind: MemberEventKind::Join, members } if members.iter().any(|m| m.name == "n5"));
        assert!(!world.events()[before..].iter().any(|(_, event)| back(event)), "seed {seed}");
        stale += ids.iter().filter(|&&id| id != leaver).map(|&id| drops(&world, id)).sum::<u64>();
    }
    assert!(stale > 0, "nobody had old news, so this shows nothing");
}

/// For three seconds a node hears nothing, so that gossip about `what` misses it.
fn unheard_by(world: &mut World, deaf: NodeId, what: impl FnOnce(&mut World)) {
    world.set_link(deaf, Link { inbound_loss: 1.0, ..Link::default() });
    what(world);
    world.run(3 * SECOND);
    world.heal();
}

#[test]
fn a_member_said_to_leave_that_goes_on_answering_is_asked_and_says_that_it_is_in() {
    let (mut world, ids) = cluster(98, 5, Network::default(), |_| {});
    unheard_by(&mut world, ids[4], |world| {
        world.with(ids[0], |node, ctx| node.force_leave(ctx, Ticket(1), "n5", true)).unwrap();
    });
    assert!(status_everywhere(&world, &ids[..4], "n5", MemberStatus::Leaving));
    let reap = world.node(ids[0]).unwrap().config().reap_interval;
    world.run(reap + 3 * SECOND);
    assert!(status_everywhere(&world, &ids, "n5", MemberStatus::Alive));
}

#[test]
fn a_prune_that_gossip_did_not_bring_is_told_after_a_push_pull() {
    let (mut world, ids) = cluster(99, 5, Network::default(), |_| {});
    world.crash(ids[4]);
    let failed = |w: &World| status_everywhere(w, &ids[..4], "n5", MemberStatus::Failed);
    world.run_until(120 * SECOND, failed).expect("it fails");
    // SWIM drops members that gossip does not go to any longer.
    world.run(60 * SECOND);
    unheard_by(&mut world, ids[3], |world| {
        world.with(ids[0], |node, ctx| node.force_leave(ctx, Ticket(1), "n5", true)).unwrap();
    });
    assert!(status_everywhere(&world, &ids[..3], "n5", MemberStatus::None));
    assert_eq!(world.status(ids[3], "n5"), MemberStatus::Failed);
    let erased = |w: &World| status_everywhere(w, &ids[..4], "n5", MemberStatus::None);
    let interval = world.node(ids[0]).unwrap().config().push_pull_interval;
    world.run_until(interval * 3, erased).expect("everybody exchanges states three times");
}

/// A member comes back under another address, and the answer to its join is lost: the cluster knows it, but it
/// never announces its join. A node that was away then reports its departure.
#[test]
fn a_member_back_without_a_join_intent_does_not_stay_leaving() {
    let mut shown = 0;
    for seed in 300..304 {
        let (mut world, ids) = cluster(seed, 6, Network::default(), |_| {});
        let (first, away, leaver) = (ids[0], ids[4], ids[5]);
        let mut config = RawConfig::clone(world.node(leaver).unwrap().config());
        world.with(leaver, |node, ctx| node.leave(ctx, Ticket(1))).unwrap();
        world.run(5 * SECOND);
        world.crash(leaver);
        // Longer than SWIM lists members that left.
        world.run(45 * SECOND);
        world.move_to_island(&[away], 1);
        let old = config.advertise;
        config.advertise.set_port(old.port() + 1);
        let port = config.advertise.port();
        let back = world.add(|raw| *raw = config);
        let std::net::IpAddr::V4(ip) = old.ip() else { panic!("the World has IPv4 addresses") };
        let ip = ip.octets();
        let record = NodeState {
            name: "n6",
            addr: ip[..].into(),
            port,
            meta: b"\xff\x80"[..].into(),
            incarnation: Incarnation(1),
            state: WireState::Alive,
            versions: [1, 5, 2, 2, 5, 5][..].into(),
        };
        let mut frame = Vec::new();
        encode_push_pull_header(1, 0, true, &mut frame);
        record.encode(&mut frame);
        world.inject_stream(first, old, frame, true);
        world.run(2 * SECOND);
        assert_eq!(world.status(first, "n6"), MemberStatus::Alive);
        world.move_to_island(&[away], 0);
        let leaving = |w: &World| ids[..5].iter().any(|&id| w.status(id, "n6") == MemberStatus::Leaving);
        shown += u32::from(world.run_until(90 * SECOND, leaving).is_some());
        world.run(120 * SECOND);
        let all = [&ids[..5], &[back]].concat();
        assert!(status_everywhere(&world, &all, "n6", MemberStatus::Alive), "seed {seed}");
    }
    assert!(shown > 0, "nobody ever took it for leaving, so this shows nothing");
}

/// Forged departures with a prune, one for each pair of members, which all still run: `cases/pruned-alive.py`. The
/// members get theirs at about the same time, so that some answer before others have theirs.
#[test]
fn members_that_were_pruned_while_they_run_find_each_other_again() {
    for seed in 0..200_u64 {
        let n = [3, 3, 3, 8][seed as usize % 4];
        let (mut world, ids) = cluster(seed, n, Network::default(), |_| {});
        let all = names(&ids);
        let between = Duration::from_micros(seed / 4 * 50);
        for &id in &ids {
            forge_departures(&mut world, id, &ids);
            world.run(between);
        }
        let whole = |w: &World| all.iter().all(|name| status_everywhere(w, &ids, name, MemberStatus::Alive));
        assert!(!between.is_zero() || !whole(&world), "they are apart");
        let took = world.run_until(10 * SECOND, whole);
        assert!(took.is_some(), "{n} members stay apart, seed {seed}: {:?}", world.disagreement());
    }
}

#[test]
fn members_that_were_pruned_across_a_partition_find_each_other_when_it_ends() {
    for seed in 0..8 {
        let (mut world, ids) = cluster(seed, 4, Network::default(), |_| {});
        let all = names(&ids);
        world.move_to_island(&ids[2..], 1);
        ids.iter().for_each(|&id| forge_departures(&mut world, id, &ids));
        world.run(40 * SECOND);
        world.move_to_island(&ids[2..], 0);
        let whole = |w: &World| all.iter().all(|name| status_everywhere(w, &ids, name, MemberStatus::Alive));
        assert!(!whole(&world), "they are apart");
        // The distance between two of their departures by then.
        let took = world.run_until(70 * SECOND, whole);
        assert!(took.is_some(), "they stay apart, seed {seed}: {:?}", world.disagreement());
    }
}

/// Tells a node that all the others left and are pruned.
fn forge_departures(world: &mut World, at: NodeId, ids: &[NodeId]) {
    let stranger: SocketAddr = "127.0.0.250:7946".parse().unwrap();
    for &other in ids.iter().filter(|&&other| other != at) {
        let name = &names(&[other])[0];
        let mut bytes = Vec::new();
        Dead { incarnation: Incarnation(7), node: name, from: name }.encode(&mut bytes);
        world.with(at, |node, ctx| node.handle_datagram(ctx, stranger, &mut bytes));
        let mut bytes = vec![thane_engine::wire::message::USER];
        let ltime = thane_engine::wire::LamportTime(900);
        LeaveIntent { ltime, node: name, prune: true }.encode(&mut bytes);
        world.with(at, |node, ctx| node.handle_datagram(ctx, stranger, &mut bytes));
    }
}
