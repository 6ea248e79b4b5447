//! Scenarios in virtual time: join, tags, crash, refutation, leave, partition; and the same seed gives the
//! same trace. No test sleeps.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use thane_engine::command::{JoinTarget, Ticket};
use thane_engine::config::RawConfig;
use thane_engine::context::NodeId;
use thane_engine::event::{Completion, Event, Notice};
use thane_engine::sim::{Network, World};
use thane_engine::view::{MemberStatus, SwimState};
use thane_engine::wire::DropReason;

type Change = fn(&mut RawConfig);

const SECOND: Duration = Duration::from_secs(1);

fn names(ids: &[NodeId]) -> Vec<String> {
    ids.iter().map(|id| format!("n{}", id.0 + 1)).collect()
}

fn target(world: &World, id: NodeId) -> JoinTarget {
    let addr = world.node(id).unwrap().config().advertise;
    JoinTarget { label: addr.to_string(), node: None, addr }
}

/// A cluster in which everybody sees everybody.
fn cluster(seed: u64, n: u32, network: Network, change: impl Fn(&mut RawConfig)) -> (World, Vec<NodeId>) {
    let mut world = World::new(seed, network);
    let ids: Vec<NodeId> = (0..n).map(|_| world.add(&change)).collect();
    for &id in &ids[1..] {
        let seed_node = target(&world, ids[0]);
        world.with(id, |node, ctx| node.join(ctx, Ticket(1), vec![seed_node])).unwrap();
        world.run(Duration::from_millis(5));
    }
    let all = names(&ids);
    let took = world.run_until(120 * SECOND, |w| w.all_hold(&ids, &all, SwimState::Alive));
    assert!(took.is_some(), "full view never reached");
    (world, ids)
}

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
    let nobody =
        JoinTarget { label: "127.9.9.9".into(), node: None, addr: "127.9.9.9:7946".parse().unwrap() };
    world.with(id, |node, ctx| node.join(ctx, Ticket(5), vec![nobody])).unwrap();
    world.run(SECOND);
    let errors = vec!["Failed to join 127.9.9.9: connection refused".to_owned()];
    assert_eq!(world.completions(), &[(id, Ticket(5), Completion::Joined { contacted: 0, errors })]);
}

#[test]
fn another_key_or_label_keeps_nodes_apart() {
    let cases: [(Change, Change, DropReason); 4] = [
        (|raw| raw.keys.push(vec![1; 16]), |raw| raw.keys.push(vec![2; 16]), DropReason::WrongKey),
        (|_| {}, |raw| raw.keys.push(vec![2; 16]), DropReason::Encrypted),
        (|raw| raw.keys.push(vec![1; 16]), |_| {}, DropReason::NotEncrypted),
        (|raw| raw.label = b"a".to_vec(), |raw| raw.label = b"b".to_vec(), DropReason::LabelMismatch),
    ];
    for (one, two, reason) in cases {
        let mut world = World::new(1, Network::default());
        let (a, b) = (world.add(one), world.add(two));
        let seed_node = target(&world, a);
        world.with(b, |node, ctx| node.join(ctx, Ticket(1), vec![seed_node])).unwrap();
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
    world.with(right[0], |node, ctx| node.join(ctx, Ticket(2), vec![seed_node])).unwrap();
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

fn status_everywhere(world: &World, ids: &[NodeId], name: &str, status: MemberStatus) -> bool {
    ids.iter().filter(|&&id| world.node(id).is_some()).all(|&id| world.status(id, name) == status)
}

#[test]
fn whoever_announced_it_has_left_and_whoever_did_not_failed() {
    let (mut world, ids) = cluster(20, 12, Network::default(), |_| {});
    world.with(ids[2], |node, ctx| node.leave(ctx, Ticket(9))).unwrap();
    world.crash(ids[5]);
    let others: Vec<NodeId> = ids.iter().copied().filter(|id| *id != ids[2] && *id != ids[5]).collect();
    let told = |w: &World| {
        status_everywhere(w, &others, "n3", MemberStatus::Left)
            && status_everywhere(w, &others, "n6", MemberStatus::Failed)
    };
    world.run_until(90 * SECOND, told).expect("left and failed are told apart");
    // A force-leave turns failed into left; a prune erases it.
    world.with(ids[0], |node, ctx| node.force_leave(ctx, "n6", false));
    let left = |w: &World| status_everywhere(w, &others, "n6", MemberStatus::Left);
    world.run_until(20 * SECOND, left).expect("force-leave spreads");
    world.with(ids[1], |node, ctx| node.force_leave(ctx, "n6", true));
    let erased = |w: &World| status_everywhere(w, &others, "n6", MemberStatus::None);
    world.run_until(20 * SECOND, erased).expect("prune spreads");
}

#[test]
fn a_forced_leave_of_a_living_member_is_refuted() {
    let (mut world, ids) = cluster(21, 8, Network::default(), |_| {});
    world.with(ids[0], |node, ctx| node.force_leave(ctx, "n4", false));
    world.run(30 * SECOND);
    assert!(status_everywhere(&world, &ids, "n4", MemberStatus::Alive));
}

#[test]
fn a_user_event_reaches_everybody_once_and_a_late_joiner_not_at_all() {
    let network = Network { loss: 0.05, duplication: 0.1, ..Network::default() };
    let (mut world, ids) = cluster(22, 20, network, |_| {});
    let payload = bytes::Bytes::from_static(b"v1.2.3");
    world.with(ids[3], |node, ctx| node.user_event(ctx, "deploy", &payload, false)).unwrap();
    world.run(60 * SECOND);
    let got = |world: &World, id: NodeId| {
        let deploy = |event: &Event| matches!(event, Event::User { name, payload, .. } if name == "deploy" && payload[..] == b"v1.2.3"[..]);
        world.events().iter().filter(|(node, event)| *node == id && deploy(event)).count()
    };
    for &id in &ids {
        assert_eq!(got(&world, id), 1, "{id:?}");
    }
    let late = world.add(|_| {});
    let seed_node = target(&world, ids[0]);
    world.with(late, |node, ctx| node.join(ctx, Ticket(1), vec![seed_node])).unwrap();
    world.run(60 * SECOND);
    assert_eq!(got(&world, late), 0);
}
