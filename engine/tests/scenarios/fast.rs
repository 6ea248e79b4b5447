//! Detection of crashes: profile `fast`, and nodes whose own timers run late.

use thane_engine::event::Notice;
use thane_engine::wire::{Incarnation, Suspect};

use super::*;

fn fast(raw: &mut RawConfig) {
    *raw = RawConfig::fast(std::mem::take(&mut raw.node_name), raw.advertise);
}

/// A cluster with settled views and measured round trips.
fn settled(seed: u64, n: u32, change: impl Fn(&mut RawConfig)) -> (World, Vec<NodeId>) {
    let mut world = World::converged(seed, Network::default(), n, change);
    world.run(10 * SECOND);
    let ids = world.ids();
    (world, ids)
}

/// A datagram in which `from` accuses a member, as `observer` knows it.
fn accusation(world: &World, observer: NodeId, node: &str, from: &str) -> Vec<u8> {
    let incarnation = Incarnation(world.incarnation(observer, node).unwrap());
    let mut message = Vec::new();
    Suspect { incarnation, node, from }.encode(&mut message);
    message
}

fn failures(world: &World, ids: &[NodeId], names: &[String]) -> usize {
    let failed = |&(id, name): &(NodeId, &String)| world.status(id, name) == MemberStatus::Failed;
    let pairs = ids.iter().flat_map(|&id| names.iter().map(move |name| (id, name)));
    pairs.filter(|&(id, _)| world.node(id).is_some()).filter(failed).count()
}

#[test]
fn a_crash_is_known_everywhere_within_three_seconds() {
    for seed in 300..310 {
        let (mut world, ids) = settled(seed, 60, fast);
        world.crash(ids[17]);
        let known = |w: &World| status_everywhere(w, &ids, "n18", MemberStatus::Failed);
        let took = world.run_until(60 * SECOND, known).expect("everybody learns of it");
        assert!(took < 3 * SECOND, "seed {seed}: {took:?}");
        let others: Vec<String> = names(&ids).into_iter().filter(|name| name != "n18").collect();
        assert_eq!(failures(&world, &ids, &others), 0, "nobody else");
    }
}

#[test]
fn a_crash_in_a_cluster_too_small_for_confirmations_is_known_too() {
    for n in 2..6 {
        let (mut world, ids) = settled(311, n, fast);
        world.crash(ids[1]);
        let known = |w: &World| status_everywhere(w, &ids, "n2", MemberStatus::Failed);
        let took = world.run_until(60 * SECOND, known).expect("everybody learns of it");
        assert!(took < 5 * SECOND, "{n} members: {took:?}");
    }
}

#[test]
fn eight_members_probe_a_suspect_at_once_and_no_more() {
    let probes_of = |world: &World, ids: &[NodeId]| -> u64 {
        ids.iter().map(|&id| world.node(id).unwrap().stats().probes).sum()
    };
    for (profile, wanted) in [(fast as fn(&mut RawConfig), 8), (|_: &mut RawConfig| {}, 0)] {
        let (mut world, ids) = settled(312, 100, profile);
        // The suspect's links are cut, so that it can't refute; nobody probes in these milliseconds but for this.
        let suspect = ids[41];
        world.move_to_island(&[suspect], 1);
        let datagram = accusation(&world, ids[0], "n42", "n7");
        let before = probes_of(&world, &ids);
        let unforged: u64 = {
            let (mut twin, ids) = settled(312, 100, profile);
            twin.move_to_island(&[ids[41]], 1);
            let before = probes_of(&twin, &ids);
            twin.run(Duration::from_millis(30));
            probes_of(&twin, &ids) - before
        };
        for &id in ids.iter().filter(|&&id| id != suspect) {
            world.inject(id, target(&world, ids[6]), &datagram);
        }
        world.run(Duration::from_millis(30));
        let probes = probes_of(&world, &ids) - before;
        assert_eq!(probes - unforged, wanted);
    }
}

#[test]
fn a_forged_suspicion_is_refuted_before_it_is_confirmed() {
    let (mut world, ids) = settled(313, 100, fast);
    for (from, n) in [("n2", 50), ("n3", 51), ("n4", 52)] {
        let datagram = accusation(&world, ids[0], "n42", from);
        world.inject(ids[n], target(&world, ids[6]), &datagram);
    }
    world.run(30 * SECOND);
    assert_eq!(failures(&world, &ids, &names(&ids)), 0);
    assert!(world.incarnation(ids[0], "n42").unwrap() > 1, "it refuted");
}

#[test]
fn a_node_that_stood_still_accuses_nobody_and_lowers_its_pace() {
    for (seed, profile) in [(314, fast as fn(&mut RawConfig)), (315, |_: &mut RawConfig| {})] {
        let (mut world, ids) = settled(seed, 20, profile);
        // Pings are lost, and what asks others and pings over a stream comes due while the node stands still.
        world.set_network(Network { loss: 0.5, ..Network::default() });
        for _ in 0..20 {
            world.pause(ids[3], Duration::from_millis(1_600));
            world.run(Duration::from_millis(1_700));
            world.run(10 * SECOND);
        }
        assert_eq!(world.node(ids[3]).unwrap().stats().probes_failed, 0);
    }
}

#[test]
fn a_suspicion_that_ran_out_while_the_node_stood_still_waits_for_unread_news() {
    let (mut world, ids) = settled(316, 20, |_| {});
    // n4 suspects n9, alone, for 31 s. It stands still for longer.
    let datagram = accusation(&world, ids[3], "n9", "n4");
    world.move_to_island(&[ids[3]], 1);
    world.inject(ids[3], target(&world, ids[6]), &datagram);
    world.run(Duration::from_millis(1));
    assert_eq!(world.state(ids[3], "n9"), SwimState::Suspect);
    world.heal();
    world.pause(ids[3], 40 * SECOND);
    // n9 refutes after the suspicion ran out, and n4 has that among what it has not read.
    world.run(35 * SECOND);
    world.inject(ids[8], target(&world, ids[3]), &datagram);
    world.run(60 * SECOND);
    let marks = |notice: &Notice| matches!(notice, Notice::MarkingFailed { name, .. } if name == "n9");
    let marked = world.notices().iter().any(|(_, id, notice)| *id == ids[3] && marks(notice));
    assert!(!marked, "the refutation was waiting");
    assert_eq!(world.state(ids[3], "n9"), SwimState::Alive);
}
