//! Thane nodes that differ: what one of them missed it gets by reconciliation.

use bytes::Bytes;
use thane_engine::command::QueryParams;
use thane_engine::drop_reason::DropReason;
use thane_engine::event::Event;
use thane_engine::sim::Link;

use super::*;

fn deaf(world: &mut World, id: NodeId, what: impl FnOnce(&mut World)) {
    world.set_link(id, Link { inbound_loss: 1.0, ..Link::default() });
    what(world);
    // Longer than gossip goes on, shorter than a suspicion lasts.
    world.run(3 * SECOND);
    world.heal();
}

fn push_pulls(world: &World, ids: &[NodeId]) -> u64 {
    ids.iter().map(|&id| world.node(id).unwrap().stats().push_pulls).sum()
}

/// Push/pulls would repair everything in this file, only later.
fn no_push_pulls(raw: &mut RawConfig) {
    raw.push_pull_interval = 100_000 * SECOND;
}

#[test]
fn a_missed_member_is_learnt_within_seconds_without_whole_states() {
    let (mut world, mut ids) = cluster(401, 12, Network::default(), no_push_pulls);
    world.run(30 * SECOND);
    let deaf_one = ids[5];
    let before = push_pulls(&world, &ids);
    deaf(&mut world, deaf_one, |world| {
        let newcomer = world.add(no_push_pulls);
        let through = target(world, ids[0]);
        world.with(newcomer, |node, ctx| node.join(ctx, Ticket(1), vec![through], true)).unwrap();
        ids.push(newcomer);
    });
    assert_eq!(
        world.state(deaf_one, "n13"),
        SwimState::Absent,
        "it heard of the newcomer, so this shows nothing"
    );
    let learnt = |w: &World| w.status(deaf_one, "n13") == MemberStatus::Alive;
    let took = world.run_until(20 * SECOND, learnt).expect("it learns of the newcomer");
    assert!(took < 4 * SECOND, "{took:?}");
    // Two of the join itself.
    assert_eq!(push_pulls(&world, &ids) - before, 2);
    let records: u64 = ids.iter().map(|&id| world.node(id).unwrap().stats().records_received).sum();
    assert!(records < 40, "{records} records for one difference");
}

#[test]
fn a_departure_that_was_missed_is_learnt_and_brings_nobody_back() {
    let (mut world, ids) = cluster(402, 12, Network::default(), no_push_pulls);
    world.run(30 * SECOND);
    deaf(&mut world, ids[5], |world| {
        world.with(ids[11], |node, ctx| node.leave(ctx, Ticket(1))).unwrap();
    });
    world.crash(ids[11]);
    let left = |w: &World| status_everywhere(w, &ids[..11], "n12", MemberStatus::Left);
    world.run_until(60 * SECOND, left).expect("everybody holds it for left");
    let rejoined = |event: &Event| match event {
        Event::Member { kind, members } => {
            kind.as_str() == "member-join" && members.iter().any(|member| member.name == "n12")
        }
        _ => false,
    };
    let joins = world.events().iter().filter(|(_, event)| rejoined(event)).count();
    world.run(120 * SECOND);
    let after = world.events().iter().filter(|(_, event)| rejoined(event)).count();
    assert_eq!(joins, after, "it came back somewhere");
    assert!(left(&world));
}

#[test]
fn missed_events_and_queries_come_once_and_in_order() {
    let (mut world, ids) = cluster(403, 12, Network::default(), no_push_pulls);
    world.run(30 * SECOND);
    let deaf_one = ids[5];
    deaf(&mut world, deaf_one, |world| {
        for number in 0..5 {
            let payload = Bytes::from(format!("event {number}"));
            world.with(ids[0], |node, ctx| node.user_event(ctx, "deploy", &payload, false)).unwrap();
            world.run(Duration::from_millis(100));
        }
        let params = QueryParams { name: "who".into(), timeout: Some(60 * SECOND), ..QueryParams::default() };
        world.with(ids[1], |node, ctx| node.query(ctx, Ticket(7), &params)).unwrap();
    });
    // A node that was deaf is suspected first, and refutes.
    world.run(6 * SECOND);
    for &id in &ids {
        let told = world.events().iter().filter(|(to, _)| *to == id).filter_map(|(_, event)| match event {
            Event::User { payload, .. } => Some(String::from_utf8(payload.to_vec()).unwrap()),
            Event::Query { name, .. } => Some(name.clone()),
            Event::Member { .. } => None,
        });
        let mut told: Vec<String> = told.collect();
        // Gossip may swap neighbours; what reconciliation brings is in order.
        if id != deaf_one {
            told.sort();
        }
        let mut expected: Vec<String> = (0..5).map(|number| format!("event {number}")).collect();
        expected.push("who".to_owned());
        if id == deaf_one {
            let (events, queries): (Vec<_>, Vec<_>) = told.into_iter().partition(|told| told != "who");
            assert_eq!((events.as_slice(), queries.len()), (&expected[..5], 1), "n{}", id.0 + 1);
        } else {
            assert_eq!(told, expected, "n{}", id.0 + 1);
        }
    }
}

#[test]
fn a_node_without_the_extensions_is_sent_none() {
    let plain = |raw: &mut RawConfig| raw.extensions = raw.node_name != "n1";
    let (mut world, ids) = cluster(404, 6, Network::default(), plain);
    world.run(120 * SECOND);
    let stats = world.node(ids[0]).unwrap().stats().clone();
    assert_eq!(stats.all_drops().count(), 0, "{:?}", stats.all_drops().collect::<Vec<_>>());
    assert_eq!((stats.reconciliations, stats.records_received), (0, 0));
    assert!(stats.push_pulls > 0, "it exchanges states as Serf does");
}

#[test]
fn a_step_from_a_stranger_is_not_answered() {
    use thane_engine::wire::reconcile::{PointRange, Reconcile, ReconcileSet, ReconcileWriter};
    let (mut world, ids) = cluster(405, 4, Network::default(), |_| {});
    for (from, addr) in [("n2", "127.9.9.9:7946"), ("stranger", "127.0.0.2:7946"), ("n1", "127.0.0.1:7946")] {
        let head = Reconcile::head(ReconcileSet::Members, 0, 7, from, [0; 2]);
        let mut writer = ReconcileWriter::new(Vec::new(), 1000, &head);
        writer.list(PointRange::ALL, &[]);
        let mut bytes = writer.finish();
        let before = world.node(ids[0]).unwrap().stats().clone();
        world.with(ids[0], |node, ctx| node.handle_datagram(ctx, addr.parse().unwrap(), &mut bytes));
        let after = world.node(ids[0]).unwrap().stats();
        assert_eq!(after.datagrams_sent, before.datagrams_sent, "{from} at {addr} is answered");
        let refused = |stats: &thane_engine::stats::Stats| stats.drops(DropReason::UnknownSender);
        assert_eq!(refused(after), refused(&before) + 1, "{from} at {addr}");
    }
}

#[test]
fn many_joiners_get_referrals_and_full_views_all_the_same() {
    let mut world = World::new(406, Network::default());
    let seed_node = world.add(|_| {});
    let through = target(&world, seed_node);
    let mut ids = vec![seed_node];
    for _ in 0..149 {
        let id = world.add(|_| {});
        world.with(id, |node, ctx| node.join(ctx, Ticket(1), vec![through], true)).unwrap();
        ids.push(id);
        world.run(Duration::from_micros(700));
    }
    let full =
        |w: &World| ids.iter().all(|&id| w.node(id).unwrap().view().swim_count(SwimState::Alive) == 150);
    let took = world.run_until(30 * SECOND, full).expect("all views are full");
    assert!(took < 4 * SECOND, "{took:?}");
    let stats = world.node(seed_node).unwrap().stats();
    assert!(stats.referrals > 30, "{} referrals", stats.referrals);
    world.run(10 * SECOND);
    let sent = |w: &World| ids.iter().map(|&id| w.node(id).unwrap().stats().bytes_sent).sum::<u64>();
    let before = sent(&world);
    world.run(10 * SECOND);
    let idle = (sent(&world) - before) as f64 / 150.0 / 10.0;
    assert!(idle < 450.0, "{idle} bytes a second per node after the bootstrap");
}

#[test]
fn an_event_that_no_packet_has_room_for_comes_over_a_stream() {
    let (mut world, ids) = cluster(407, 5, Network::default(), |raw| {
        no_push_pulls(raw);
        raw.user_event_size_limit = 9216;
    });
    world.run(30 * SECOND);
    let payload = Bytes::from(vec![b'x'; 3000]);
    world.with(ids[0], |node, ctx| node.user_event(ctx, "large", &payload, false)).unwrap();
    let heard = |w: &World, id: NodeId| {
        let events = w.events().iter().filter(|(to, _)| *to == id);
        events.filter(|(_, event)| matches!(event, Event::User { name, .. } if name == "large")).count()
    };
    world.run_until(60 * SECOND, |w| ids.iter().all(|&id| heard(w, id) == 1)).expect("everybody hears it");
    world.run(30 * SECOND);
    assert!(ids.iter().all(|&id| heard(&world, id) == 1), "heard twice");
}
