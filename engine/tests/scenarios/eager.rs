//! The dissemination policy `eager`: forwarding at first sight, and its repair.

use std::collections::BTreeMap;

use bytes::Bytes;
use thane_engine::config::DisseminationPolicy;
use thane_engine::event::{Event, MemberEventKind};

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

fn eager(raw: &mut RawConfig) {
    raw.dissemination = DisseminationPolicy::Eager;
    // Gossip alone has to bring what is sent.
    raw.push_pull_interval = 10_000 * SECOND;
}

/// A cluster that has been together for a while.
fn settled(seed: u64, loss: f64, n: u32, change: impl FnMut(&mut RawConfig)) -> World {
    let mut world = World::converged(seed, Network { loss, ..Network::default() }, n, change);
    world.run(3 * SECOND);
    world
}

fn send(world: &mut World, from: NodeId, number: u32) {
    let payload = Bytes::from(number.to_string());
    world.with(from, |node, ctx| node.user_event(ctx, "deploy", &payload, false)).unwrap();
}

/// How often each node delivered a user event.
fn deliveries(world: &World) -> BTreeMap<NodeId, usize> {
    let mut deliveries: BTreeMap<NodeId, usize> = world.running().map(|id| (id, 0)).collect();
    for (id, event) in world.events() {
        if let (Event::User { .. }, Some(count)) = (event, deliveries.get_mut(id)) {
            *count += 1;
        }
    }
    deliveries
}

#[test]
fn without_loss_everybody_hears_an_event_within_milliseconds_and_no_round() {
    for n in [2, 5, 40, 300] {
        let mut world = settled(1, 0.0, n, eager);
        // One after the other, so that each of the graphs is used.
        for place in 0..20 {
            send(&mut world, NodeId(place % n), place);
            world.run(6 * MILLISECOND);
            let heard = deliveries(&world);
            assert!(heard.values().all(|&count| count == place as usize + 1), "{n} nodes: {heard:?}");
            world.run(SECOND);
        }
    }
}

#[test]
fn an_event_costs_at_most_seven_packets_a_node() {
    let sent = |policy| {
        let mut world = settled(2, 0.05, 200, |raw| {
            eager(raw);
            raw.dissemination = policy;
            raw.probe_interval = 10_000 * SECOND;
        });
        let total = |world: &World| -> u64 {
            world.running().map(|id| world.node(id).unwrap().stats().datagrams_sent).sum()
        };
        let before = total(&world);
        send(&mut world, NodeId(0), 0);
        world.run(10 * SECOND);
        assert!(deliveries(&world).values().all(|&count| count == 1));
        (total(&world) - before) as f64 / 200.0
    };
    let (eager, classic) = (sent(DisseminationPolicy::Eager), sent(DisseminationPolicy::Classic));
    assert!(eager <= 7.0 && classic >= 12.0, "{eager} packets a node, classic {classic}");
}

#[test]
fn repair_reaches_those_that_the_graph_misses() {
    let (mut late, mut missed, mut heard) = (0, 0, 0);
    for seed in 0..10 {
        let mut world = settled(seed, 0.2, 200, eager);
        // Not known to be gone when the event is sent.
        (0..10).for_each(|n| world.crash(NodeId(10 + 17 * n)));
        send(&mut world, NodeId(3), 0);
        world.run(6 * MILLISECOND);
        late += deliveries(&world).values().filter(|&&count| count == 0).count();
        world.run(SECOND);
        let counts = deliveries(&world);
        assert!(counts.values().all(|&count| count <= 1), "{counts:?}");
        missed += counts.values().filter(|&&count| count == 0).count();
        heard += counts.len();
    }
    assert!(late > 0, "there was something to repair");
    assert!(missed <= heard / 1_000, "{missed} of {heard}");
}

#[test]
fn among_classic_nodes_every_event_reaches_everybody_once() {
    let number = std::cell::Cell::new(0);
    let mut world = settled(4, 0.05, 60, |raw| {
        eager(raw);
        number.set(number.get() + 1);
        if number.get() % 2 == 0 {
            raw.dissemination = DisseminationPolicy::Classic;
        }
    });
    for place in 0..20 {
        send(&mut world, NodeId(place * 3), place);
        world.run(50 * MILLISECOND);
    }
    world.run(10 * SECOND);
    let heard = deliveries(&world);
    assert!(heard.values().all(|&count| count == 20), "{heard:?}");
}

#[test]
fn a_hundred_events_a_second_reach_everybody_once_whatever_forwarding_and_repair_miss() {
    let mut world = settled(5, 0.1, 60, eager);
    for place in 0..1_200 {
        send(&mut world, NodeId(place % 60), place);
        world.run(10 * MILLISECOND);
    }
    world.run(5 * SECOND);
    let heard = deliveries(&world);
    assert!(heard.values().all(|&count| count == 1_200), "{heard:?}");
}

#[test]
fn members_join_leave_and_fail_as_with_the_classic_policy() {
    let network = Network { loss: 0.05, ..Network::default() };
    let (mut world, ids) = cluster(6, 30, network, |raw| {
        raw.dissemination = DisseminationPolicy::Eager;
    });
    world.run(10 * SECOND);
    world.with(ids[2], |node, ctx| node.leave(ctx, Ticket(9))).unwrap();
    world.run(20 * SECOND);
    world.crash(ids[5]);
    let others: Vec<NodeId> = ids.iter().copied().filter(|id| ![ids[2], ids[5]].contains(id)).collect();
    let failed = |w: &World| status_everywhere(w, &others, "n6", MemberStatus::Failed);
    world.run_until(60 * SECOND, failed).expect("the crash is noticed everywhere");
    assert!(status_everywhere(&world, &others, "n3", MemberStatus::Left));
    let told_failed = world.events().iter().any(|(_, event)| {
        matches!(event, Event::Member { kind: MemberEventKind::Failed, members }
            if members.iter().any(|member| member.name != "n6"))
    });
    assert!(!told_failed, "nobody else was declared failed");
}

#[test]
fn a_thousand_events_at_once_stay_within_the_budgets() {
    let mut world = settled(7, 0.0, 20, |raw| {
        eager(raw);
        raw.probe_interval = 10_000 * SECOND;
    });
    let bytes = |world: &World| world.node(NodeId(0)).unwrap().stats().bytes_sent;
    let before = bytes(&world);
    let payload = Bytes::from(vec![b'x'; 400]);
    for _ in 0..1_000 {
        world.with(NodeId(0), |node, ctx| node.user_event(ctx, "deploy", &payload, false)).unwrap();
    }
    // Two gossip intervals may have begun, each with 256 KiB for forwards and four rounds of three packets.
    world.run(150 * MILLISECOND);
    let sent = bytes(&world) - before;
    assert!(sent > 100_000, "{sent}");
    assert!(sent < 2 * (256 * 1024 + 12 * 1_400 + 1_400), "{sent}");
}
