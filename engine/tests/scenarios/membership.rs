//! SWIM: join, tags, crash, refutation, leave, partition; determinism.

use std::collections::BTreeMap;

use thane_engine::command::Ticket;
use thane_engine::config::RawConfig;
use thane_engine::event::{Completion, Notice};
use thane_engine::roster::MemberIndex;
use thane_engine::sim::{Network, World};
use thane_engine::view::SwimState;
use thane_engine::wire::DecodeError;

use super::*;

type Change = fn(&mut RawConfig);

#[test]
fn nodes_join_through_one_seed_and_see_each_other() {
    for key in [None, Some(vec![7; 32])] {
        let (world, ids) = cluster(1, 20, Network::default(), |raw| raw.keys.extend(key.clone()));
        let joined =
            |c: &Completion| matches!(c, Completion::Joined { contacted: 1, errors } if errors.is_empty());
        assert_eq!(world.completions().iter().filter(|(_, _, c)| joined(c)).count(), ids.len() - 1);
        for &id in &ids {
            assert_eq!(world.node(id).unwrap().stats().all_drops().count(), 0);
        }
    }
}

#[test]
fn a_join_to_nobody_fails_with_the_reason() {
    let mut world = World::new(1, Network::default());
    let id = world.add(|_| {});
    let nobody = "127.9.9.9:7946".parse().unwrap();
    world.with(id, |node, ctx| node.join(ctx, Ticket(5), vec![nobody], true)).unwrap();
    world.run(SECOND);
    let errors = vec!["Failed to join 127.9.9.9: connection refused".to_owned()];
    assert_eq!(world.completions(), &[(id, Ticket(5), Completion::Joined { contacted: 0, errors })]);
}

#[test]
fn another_key_or_label_keeps_nodes_apart() {
    let cases: [(Change, Change, DecodeError); 4] = [
        (|raw| raw.keys.push(vec![1; 16]), |raw| raw.keys.push(vec![2; 16]), DecodeError::WrongKey),
        (|_| {}, |raw| raw.keys.push(vec![2; 16]), DecodeError::Encrypted),
        (|raw| raw.keys.push(vec![1; 16]), |_| {}, DecodeError::NotEncrypted),
        (|raw| raw.label = b"a".to_vec(), |raw| raw.label = b"b".to_vec(), DecodeError::LabelMismatch),
    ];
    for (one, two, reason) in cases {
        let mut world = World::new(1, Network::default());
        let (a, b) = (world.add(one), world.add(two));
        let seed_node = target(&world, a);
        world.with(b, |node, ctx| node.join(ctx, Ticket(1), vec![seed_node], true)).unwrap();
        world.run(2 * SECOND);
        assert!(matches!(world.completions()[0].2, Completion::Joined { contacted: 0, .. }), "{reason}");
        assert_eq!(world.node(a).unwrap().stats().drops(reason), 1, "{reason}");
        assert_eq!(world.state(a, "n2"), SwimState::Absent);
    }
}

#[test]
fn a_crashed_node_is_declared_dead_by_all_within_serfs_bounds() {
    let (mut world, ids) = cluster(3, 20, Network::default(), |_| {});
    world.crash(ids[7]);
    let gone = names(&ids[7..8]);
    let took = world.run_until(120 * SECOND, |w| w.all_hold(&ids, &gone, SwimState::Dead)).unwrap();
    // Suspicion takes 4 * log10(20) = 5.2 s at least, and is found by a probe each second.
    assert!((5 * SECOND..40 * SECOND).contains(&took), "{took:?}");
    let others = names(&[&ids[..7], &ids[8..]].concat());
    assert!(world.all_hold(&ids, &others, SwimState::Alive));
}

#[test]
fn a_node_cut_off_for_a_moment_refutes() {
    let (mut world, ids) = cluster(4, 10, Network::default(), |_| {});
    world.move_to_island(&ids[3..4], 1);
    let suspected = |w: &World| ids.iter().any(|&id| id != ids[3] && w.state(id, "n4") == SwimState::Suspect);
    world.run_until(60 * SECOND, suspected).expect("n4 is suspected");
    world.move_to_island(&ids[3..4], 0);
    let all = names(&ids);
    let refuted = |w: &World| {
        w.all_hold(&ids, &all, SwimState::Alive) && ids.iter().all(|&id| w.incarnation(id, "n4") > Some(1))
    };
    world.run_until(60 * SECOND, refuted).expect("n4 refutes and all believe it");
    let refuting = |n: &Notice| matches!(n, Notice::Refuting { .. });
    assert!(world.notices().iter().any(|(_, id, notice)| *id == ids[3] && refuting(notice)));
    let failed = |n: &Notice| matches!(n, Notice::MarkingFailed { name, .. } if name == "n4");
    assert!(!world.notices().iter().any(|(_, _, notice)| failed(notice)));
}

#[test]
fn a_leaving_node_is_left_everywhere_and_its_leave_completes() {
    let (mut world, ids) = cluster(5, 15, Network::default(), |_| {});
    world.with(ids[2], |node, ctx| node.leave(ctx, Ticket(9))).unwrap();
    world.run(8 * SECOND);
    assert!(world.completions().contains(&(ids[2], Ticket(9), Completion::Left)));
    let others = [&ids[..2], &ids[3..]].concat();
    assert!(world.all_hold(&others, &names(&ids[2..3]), SwimState::Left));
}

#[test]
fn new_tags_reach_everybody_under_a_new_incarnation() {
    let (mut world, ids) = cluster(6, 12, Network::default(), |_| {});
    let tags = BTreeMap::from([("role".to_owned(), "web".to_owned())]);
    world.with(ids[1], |node, ctx| node.set_tags(ctx, Ticket(3), &tags)).unwrap();
    let told = |w: &World| ids.iter().all(|&id| w.incarnation(id, "n2") > Some(1));
    world.run_until(20 * SECOND, told).expect("the update spreads");
    world.run(5 * SECOND);
    assert!(world.completions().contains(&(ids[1], Ticket(3), Completion::Broadcasted { in_time: true })));
}

#[test]
fn a_partition_is_seen_on_both_sides_and_a_join_heals_it() {
    let (mut world, ids) = cluster(7, 12, Network::default(), |_| {});
    let (left, right) = ids.split_at(6);
    world.move_to_island(right, 1);
    let apart = |w: &World| {
        w.all_hold(left, &names(right), SwimState::Dead) && w.all_hold(right, &names(left), SwimState::Dead)
    };
    world.run_until(180 * SECOND, apart).expect("both sides declare the other dead");
    world.move_to_island(right, 0);
    let seed_node = target(&world, left[0]);
    world.with(right[0], |node, ctx| node.join(ctx, Ticket(2), vec![seed_node], true)).unwrap();
    let all = names(&ids);
    world.run_until(180 * SECOND, |w| w.all_hold(&ids, &all, SwimState::Alive)).expect("it heals");
}

#[test]
fn loss_and_duplication_do_not_kill_healthy_members() {
    let network = Network { loss: 0.05, duplication: 0.05, ..Network::default() };
    let (mut world, ids) = cluster(8, 20, network, |_| {});
    world.run(300 * SECOND);
    assert!(world.all_hold(&ids, &names(&ids), SwimState::Alive));
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let run = |seed| {
        let network = Network { loss: 0.1, duplication: 0.02, ..Network::default() };
        let (mut world, ids) = cluster(seed, 10, network, |raw| raw.keys.push(vec![7; 16]));
        world.crash(ids[4]);
        world.run(60 * SECOND);
        world.trace_hash()
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}

#[test]
fn a_world_without_nodes_holds_no_facts() {
    let (mut world, ids) = cluster(9, 10, Network::default(), |_| {});
    world.crash(ids[0]);
    world.run(3 * SECOND);
    ids.iter().for_each(|&id| world.crash(id));
    assert_eq!(world.roster_counts(), (0, 0));
}

#[test]
fn a_list_in_slices_has_everybody_once() {
    let mut world = World::converged(12, Network::default(), 1300, |_| {});
    let id = NodeId(7);
    let (whole, sliced) = world.with(id, |node, ctx| {
        let (mut sliced, mut from, mut slices) = (Vec::new(), Some(MemberIndex(0)), 0);
        while let Some(start) = from {
            from = node.members_slice(ctx, start, &mut sliced);
            slices += 1;
        }
        assert_eq!(slices, 3);
        sliced.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        (node.members(ctx), sliced)
    });
    assert_eq!(whole.len(), 1300);
    assert_eq!(whole, sliced);
}

#[test]
fn coordinates_estimate_the_round_trip() {
    let delay = Duration::from_millis(5);
    let network = Network { delay_min: delay, delay_max: delay, ..Network::default() };
    let (mut world, ids) = cluster(10, 6, network, |_| {});
    world.run(600 * SECOND);
    let of = |world: &mut World, id, name| world.with(id, |node, ctx| node.coordinate(ctx, name));
    let own = of(&mut world, ids[0], "n1").expect("a node has a coordinate");
    let other = of(&mut world, ids[0], "n2").expect("and knows those of the members it probed");
    let estimate = own.round_trip_to(&other);
    assert!((0.009..0.011).contains(&estimate), "two ways of 5 ms: {estimate}");
    let quiet = |raw: &mut RawConfig| raw.coordinates = false;
    let (mut world, ids) = cluster(11, 3, Network::default(), quiet);
    world.run(60 * SECOND);
    assert_eq!(of(&mut world, ids[0], "n1"), None);
}
