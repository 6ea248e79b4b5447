//! Probes when datagrams don't get through, and what a probe leaves behind.

use thane_engine::event::{Event, Notice};

use super::*;

#[test]
fn a_member_that_answers_over_streams_only_is_not_suspected() {
    let mut world = World::new(110, Network { loss: 1.0, ..Network::default() });
    let ids: Vec<NodeId> = (0..3).map(|_| world.add(|_| {})).collect();
    for &id in &ids[1..] {
        let seed = target(&world, ids[0]);
        world.with(id, |node, ctx| node.join(ctx, Ticket(1), vec![seed], true)).unwrap();
    }
    world.run(180 * SECOND);
    let all = names(&ids);
    assert!(all.iter().all(|name| status_everywhere(&world, &ids, name, MemberStatus::Alive)));
    let stats = world.node(ids[0]).unwrap().stats();
    assert!(stats.probes > 20 && stats.probes_failed == 0, "{} of {}", stats.probes_failed, stats.probes);
    let told = |n: &Notice| matches!(n, Notice::TcpFallbackOnly { .. });
    assert!(world.notices().iter().any(|(_, _, notice)| told(notice)), "and the log says so");
    // The same without streams: all members seem dead.
    let mut world = World::new(110, Network { loss: 1.0, ..Network::default() });
    let ids: Vec<NodeId> = (0..3).map(|_| world.add(|raw| raw.tcp_pings = false)).collect();
    let seed = target(&world, ids[0]);
    world.with(ids[1], |node, ctx| node.join(ctx, Ticket(1), vec![seed], true)).unwrap();
    let failed = |w: &World| w.status(ids[0], "n2") == MemberStatus::Failed;
    world.run_until(180 * SECOND, failed).expect("nothing tells otherwise");
}

#[test]
fn the_coordinate_of_a_reaped_member_is_forgotten() {
    let (mut world, ids) = cluster(111, 3, Network::default(), |raw| raw.reconnect_timeout = 60 * SECOND);
    world.run(60 * SECOND);
    let known = |w: &mut World| w.with(ids[0], |node, ctx| node.coordinate(ctx, "n3").is_some());
    assert!(known(&mut world));
    world.crash(ids[2]);
    world.run(180 * SECOND);
    assert_eq!(world.status(ids[0], "n3"), MemberStatus::None);
    assert!(!known(&mut world));
}

#[test]
fn what_is_replayed_may_not_be_coalesced_any_more() {
    let (mut world, ids) = cluster(112, 2, Network::default(), |_| {});
    world.with(ids[0], |node, ctx| node.user_event(ctx, "deploy", &bytes::Bytes::new(), true)).unwrap();
    world.run(5 * SECOND);
    let late = world.add(|_| {});
    let seed = target(&world, ids[1]);
    world.with(late, |node, ctx| node.join(ctx, Ticket(1), vec![seed], false)).unwrap();
    world.run(5 * SECOND);
    let heard: Vec<(bool, bool)> = world
        .events()
        .iter()
        .filter_map(|(id, event)| match event {
            Event::User { coalesce, .. } => Some((*id == late, *coalesce)),
            _ => None,
        })
        .collect();
    assert_eq!(heard, [(false, true), (false, true), (true, false)]);
}
