//! Rules of SWIM, Lifeguard and Serf, each named after its section. More of them stand as unit tests beside
//! the code: suspicion timeouts, the health score's bounds, the probe permutation, Lamport clocks.

use std::time::Duration;

use thane_engine::command::Ticket;
use thane_engine::context::NodeId;
use thane_engine::event::Notice;
use thane_engine::sim::{Link, Network, Play, World, catalog};
use thane_engine::time::Time;
use thane_engine::view::{MemberStatus, SwimState};

const SECOND: Duration = Duration::from_secs(1);

fn cluster(seed: u64, n: u32) -> (World, Vec<NodeId>) {
    let world = World::converged(seed, Network::default(), n, |_| {});
    let ids = world.ids();
    (world, ids)
}

fn count(world: &World, fits: impl Fn(NodeId, &Notice) -> bool) -> usize {
    world.notices().iter().filter(|(_, id, notice)| fits(*id, notice)).count()
}

fn name(id: NodeId) -> String {
    format!("n{}", id.0 + 1)
}

#[test]
fn swim_3_1_a_member_that_others_reach_is_not_accused() {
    let (mut world, ids) = cluster(1, 6);
    // Neither direction between the first two, streams neither: only the others can vouch.
    world.block(ids[0], ids[1]);
    world.block(ids[1], ids[0]);
    world.run(120 * SECOND);
    assert!(world.node(ids[0]).unwrap().stats().probes >= 100);
    assert_eq!(count(&world, |_, notice| matches!(notice, Notice::SuspectNoAck { .. })), 0);
    assert_eq!(world.state(ids[0], "n2"), SwimState::Alive);
}

#[test]
fn swim_3_1_a_silent_member_is_suspected_within_a_period_of_its_probe() {
    let (mut world, ids) = cluster(2, 6);
    let crashed = world.now();
    world.crash(ids[3]);
    world.run(60 * SECOND);
    let suspected = world
        .notices()
        .iter()
        .find(|(_, _, notice)| matches!(notice, Notice::SuspectNoAck { name } if name == "n4"))
        .map(|(at, ..)| at.since(crashed));
    // Five probers of five members each: the round of one prober is five periods, its end one more.
    assert!(suspected.is_some_and(|after| after <= 6 * SECOND), "{suspected:?}");
}

#[test]
fn swim_3_2_news_travels_on_pings_and_acks() {
    // Without gossip rounds and push/pulls there is nothing else that it could travel on.
    let quiet = |raw: &mut thane_engine::config::RawConfig| {
        raw.gossip_interval = 1_000_000 * SECOND;
        raw.push_pull_interval = 1_000_000 * SECOND;
    };
    let mut world = World::converged(3, Network::default(), 8, quiet);
    let ids = world.ids();
    let payload = bytes::Bytes::from_static(b"x");
    world.with(ids[0], |node, ctx| node.user_event(ctx, "e", &payload, false)).unwrap();
    let everybody = |w: &World| ids.iter().all(|&id| w.node(id).unwrap().clocks()[1].0 == 2);
    assert!(world.run_until(30 * SECOND, everybody).is_some());
}

#[test]
fn swim_4_1_each_member_sends_news_a_logarithmic_number_of_times() {
    for (n, copies) in [(9, 4.0), (10, 8.0), (99, 8.0), (100, 12.0)] {
        let mut scenario = catalog::named("event").unwrap();
        scenario.nodes = n;
        // What gossip has not brought within a second a Thane node gets by reconciliation, and does not pass on.
        scenario.settings.serf_share = 1.0;
        let outcome = Play::new(&scenario, 1).run(|_, _| true);
        // Each sends it 4 ceil(log10(n + 1)) times.
        let per_node = outcome.measures.event_copies as f64 / f64::from(n);
        assert_eq!(per_node, copies, "{n} nodes");
    }
}

#[test]
fn swim_4_2_the_accused_refutes_with_a_higher_incarnation() {
    let (mut world, ids) = cluster(4, 6);
    world.pause(ids[2], 5 * SECOND);
    world.run(60 * SECOND);
    let refutes = |id, notice: &Notice| id == ids[2] && matches!(notice, Notice::Refuting { .. });
    assert!(count(&world, refutes) > 0);
    for &id in &ids {
        assert_eq!(world.state(id, "n3"), SwimState::Alive);
        assert!(world.incarnation(id, "n3").unwrap() > 1);
    }
}

#[test]
fn swim_4_2_nobody_but_the_owner_raises_an_incarnation() {
    let (mut world, ids) = cluster(5, 6);
    world.crash(ids[2]);
    world.run(60 * SECOND);
    for &id in ids.iter().filter(|&&id| id != ids[2]) {
        assert_eq!(world.incarnation(id, "n3"), Some(1), "accused under the incarnation it had");
    }
}

#[test]
fn swim_4_3_every_member_is_probed_once_in_two_rounds() {
    let (mut world, ids) = cluster(6, 8);
    // The first node reaches no other: it accuses every member that it probes.
    for &id in &ids[1..] {
        world.block(ids[0], id);
    }
    // Two rounds of seven, each period stretched by the health score that its misses raise to 8 at most.
    world.run(2 * 7 * 8 * SECOND);
    for &id in &ids[1..] {
        let accused = |by, notice: &Notice| {
            by == ids[0] && matches!(notice, Notice::SuspectNoAck { name: accused } if *accused == name(id))
        };
        assert!(count(&world, accused) > 0, "{} was never probed", name(id));
    }
}

#[test]
fn lifeguard_4_1_who_misses_nacks_doubts_itself_and_slows_down() {
    let (mut world, ids) = cluster(7, 8);
    world.set_link(ids[0], Link { inbound_loss: 1.0, ..Link::default() });
    world.run(20 * SECOND);
    let sick = world.node(ids[0]).unwrap();
    assert_eq!(sick.health_score(), 7, "the highest score");
    let probes = sick.stats().probes;
    world.run(40 * SECOND);
    let later = world.node(ids[0]).unwrap().stats().probes - probes;
    assert!((3..=7).contains(&later), "one probe in eight seconds, not in one: {later}");
    world.heal();
    world.run(120 * SECOND);
    assert_eq!(world.node(ids[0]).unwrap().health_score(), 0, "acks restore it");
}

#[test]
fn lifeguard_4_1_who_has_to_refute_doubts_itself() {
    let (mut world, ids) = cluster(12, 6);
    world.pause(ids[2], 3 * SECOND);
    let refutes = |w: &World| {
        w.notices().iter().any(|(_, id, notice)| *id == ids[2] && matches!(notice, Notice::Refuting { .. }))
    };
    world.run_until(20 * SECOND, refutes).expect("it was accused");
    assert!(world.node(ids[2]).unwrap().health_score() > 0);
}

#[test]
fn lifeguard_4_2_a_suspicion_that_nobody_confirms_takes_longer() {
    let (mut world, ids) = cluster(8, 20);
    world.crash(ids[5]);
    world.run(60 * SECOND);
    let declared = world.notices().iter().find_map(|(at, _, notice)| match notice {
        Notice::MarkingFailed { confirmations, .. } => Some((at.since(Time::ZERO), *confirmations)),
        _ => None,
    });
    let (after, confirmations) = declared.unwrap();
    assert_eq!(confirmations, 2, "all that are wanted");
    assert!(after < 12 * SECOND, "probed, then near the minimum of 5.2 s: {after:?}");
    // Suspicions of one node alone: no other confirms them.
    let (mut world, ids) = cluster(9, 20);
    world.move_to_island(&ids[..1], 1);
    world.run(25 * SECOND);
    let alone = |id, notice: &Notice| id == ids[0] && matches!(notice, Notice::MarkingFailed { .. });
    assert_eq!(count(&world, alone), 0, "unconfirmed, it waits 31 s");
}

#[test]
fn lifeguard_4_3_the_ping_tells_a_suspect_that_it_is_accused() {
    let (mut world, ids) = cluster(10, 3);
    world.pause(ids[2], 3 * SECOND);
    world.run(30 * SECOND);
    // It refutes although only pings and their answers go between three members that have nothing to gossip.
    let refutes = |id, notice: &Notice| id == ids[2] && matches!(notice, Notice::Refuting { .. });
    assert!(count(&world, refutes) > 0);
    assert_eq!(world.status(ids[0], "n3"), MemberStatus::Alive);
}

#[test]
fn serf_intents_a_leave_beats_the_failure_that_it_precedes() {
    for seed in 0..10 {
        let mut world = World::converged(seed, Network { loss: 0.2, ..Network::default() }, 8, |_| {});
        let ids = world.ids();
        world.check();
        world.with(ids[4], |node, ctx| node.leave(ctx, Ticket(1))).unwrap();
        world.run(5 * SECOND);
        world.crash(ids[4]);
        world.run(60 * SECOND);
        assert_eq!(world.violations(), &[]);
        for &id in ids.iter().filter(|&&id| id != ids[4]) {
            assert_eq!(world.status(id, "n5"), MemberStatus::Left, "seed {seed}");
        }
    }
}

#[test]
fn serf_lamport_clocks_are_past_everything_heard() {
    let (mut world, ids) = cluster(11, 6);
    for _ in 0..20 {
        let payload = bytes::Bytes::from_static(b"x");
        world.with(ids[1], |node, ctx| node.user_event(ctx, "e", &payload, false)).unwrap();
    }
    world.run(20 * SECOND);
    for &id in &ids {
        assert_eq!(world.node(id).unwrap().clocks()[1].0, 21);
    }
}
