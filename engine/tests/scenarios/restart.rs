//! Coming back: reconnecting to failed members, rejoining from the snapshot, clocks restored.

use thane_engine::config::Restored;
use thane_engine::event::{Event, Notice, SnapshotRecord};

use super::*;

#[test]
fn after_a_partition_failed_members_are_found_again() {
    let (mut world, ids) = cluster(80, 10, Network::default(), |_| {});
    let (left, right) = ids.split_at(5);
    world.move_to_island(right, 1);
    let apart = |w: &World| {
        left.iter().all(|&id| names(right).iter().all(|name| w.status(id, name) == MemberStatus::Failed))
    };
    world.run_until(180 * SECOND, apart).expect("the others fail");
    world.run(120 * SECOND);
    world.move_to_island(right, 0);
    let all = names(&ids);
    world
        .run_until(300 * SECOND, |w| {
            all.iter().all(|name| status_everywhere(w, &ids, name, MemberStatus::Alive))
        })
        .expect("reconnecting heals it without a join");
    assert!(world.notices().iter().any(|(_, _, notice)| matches!(notice, Notice::Reconnecting { .. })));
}

/// What a snapshot with these records would restore.
fn restored(world: &World, id: NodeId) -> Restored {
    let mut restored = Restored::default();
    for (_, record) in world.records().iter().filter(|(node, _)| *node == id) {
        match record.clone() {
            SnapshotRecord::Alive { name, addr } => restored.alive.push((name, addr)),
            SnapshotRecord::NotAlive { name } => restored.alive.retain(|(known, _)| *known != name),
            SnapshotRecord::Clock(time) => restored.clock = time.0,
            SnapshotRecord::EventClock(time) => restored.event_clock = time.0,
            SnapshotRecord::QueryClock(time) => restored.query_clock = time.0,
            SnapshotRecord::Leave => restored = Restored::default(),
        }
    }
    restored
}

#[test]
fn a_restarted_node_rejoins_from_its_snapshot_and_hears_no_old_events() {
    let (mut world, ids) = cluster(81, 6, Network::default(), |raw| raw.snapshot = true);
    let payload = bytes::Bytes::from_static(b"x");
    for name in ["one", "two"] {
        world.with(ids[1], |node, ctx| node.user_event(ctx, name, &payload, false)).unwrap();
        world.run(5 * SECOND);
    }
    let kept = restored(&world, ids[4]);
    assert_eq!((kept.alive.len(), kept.event_clock), (6, 2));
    let config = world.node(ids[4]).unwrap().config().clone();
    world.crash(ids[4]);
    world.with(ids[1], |node, ctx| node.user_event(ctx, "three", &payload, false)).unwrap();
    world.run(60 * SECOND);
    let events_before = world.events().len();
    let back = world.add(|raw| {
        *raw = (*config).clone();
        raw.restored = kept;
    });
    let alive = |w: &World| status_everywhere(w, &ids[..4], "n5", MemberStatus::Alive);
    world.run_until(30 * SECOND, alive).expect("it is back");
    world.run(30 * SECOND);
    let rejoined = |n: &Notice| matches!(n, Notice::Rejoined { name: Some(_) });
    assert!(world.notices().iter().any(|(_, id, notice)| *id == back && rejoined(notice)));
    let heard: Vec<&str> = world.events()[events_before..]
        .iter()
        .filter(|(id, _)| *id == back)
        .filter_map(|(_, event)| match event {
            Event::User { name, .. } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(heard, ["three"], "what was missed is heard, what was heard is not repeated");
}

#[test]
fn a_rejoin_to_nobody_tries_all_and_says_so() {
    let mut world = World::new(5, Network::default());
    let alive = (1..=3).map(|n| (format!("gone{n}"), format!("127.9.9.{n}:7946").parse().unwrap())).collect();
    world.add(|raw| raw.restored = Restored { alive, ..Restored::default() });
    world.run(10 * SECOND);
    let count = |fits: fn(&Notice) -> bool| world.notices().iter().filter(|(_, _, n)| fits(n)).count();
    assert_eq!(count(|n| matches!(n, Notice::Rejoining { .. })), 3);
    assert_eq!(count(|n| matches!(n, Notice::Rejoined { name: None })), 1);
}
