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

fn forget(restored: &mut Restored, name: &str) {
    restored.alive.retain(|(known, _)| known != name);
    restored.failed.retain(|(known, _)| known != name);
}

/// What a snapshot with these records would restore.
fn restored(world: &World, id: NodeId) -> Restored {
    let mut restored = Restored::default();
    for (_, record) in world.records().iter().filter(|(node, _)| *node == id) {
        match record.clone() {
            SnapshotRecord::Alive { name, addr } => {
                forget(&mut restored, &name);
                restored.alive.push((name, addr));
            }
            SnapshotRecord::NotAlive { name } => forget(&mut restored, &name),
            SnapshotRecord::Failed { name, addr } => {
                forget(&mut restored, &name);
                restored.failed.push((name, addr));
            }
            SnapshotRecord::Clock(time) => restored.clock = time.0,
            SnapshotRecord::EventClock(time) => restored.event_clock = time.0,
            SnapshotRecord::QueryClock(time) => restored.query_clock = time.0,
            SnapshotRecord::Settled => restored.lags = false,
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
    let rejoined = |n: &Notice| matches!(n, Notice::Rejoined { member: Some(_) });
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
    assert_eq!(count(|n| matches!(n, Notice::Rejoined { member: None })), 1);
}

/// n1 to n4 fail one after the other, then n5: its snapshot lists no member as alive. All come back, n5 first, and
/// each tries for a while addresses at which no node runs yet.
#[test]
fn after_an_outage_of_all_everybody_finds_back() {
    let (mut world, ids) = cluster(90, 5, Network::default(), |raw| raw.snapshot = true);
    let configs: Vec<RawConfig> =
        ids.iter().map(|&id| RawConfig::clone(world.node(id).unwrap().config())).collect();
    let mut down = Vec::new();
    for (place, &id) in ids.iter().enumerate() {
        world.crash(id);
        down.push(format!("n{}", place + 1));
        let rest = &ids[place + 1..];
        let failed =
            |w: &World| down.iter().all(|name| status_everywhere(w, rest, name, MemberStatus::Failed));
        world.run_until(120 * SECOND, failed).expect("the rest sees it fail");
    }
    let kept: Vec<Restored> = ids.iter().map(|&id| restored(&world, id)).collect();
    assert!(kept[4].alive.iter().all(|(name, _)| name == "n5"), "{:?}", kept[4]);
    assert_eq!(kept[4].failed.len(), 4);
    let mut back = Vec::new();
    // The last one that failed and the first one are the first back: neither finds another node at its first try.
    for place in [4, 0, 2, 3, 1] {
        back.push(world.add(|raw| {
            *raw = configs[place].clone();
            raw.restored = kept[place].clone();
        }));
        world.run(45 * SECOND);
    }
    let all = names(&ids);
    world
        .run_until(120 * SECOND, |w| all.iter().all(|n| status_everywhere(w, &back, n, MemberStatus::Alive)))
        .expect("one cluster again");
}

/// The failed ones alone are enough: no other node knows the survivor.
#[test]
fn a_node_alone_looks_for_members_that_had_failed() {
    let mut world = World::new(91, Network::default());
    let first = world.add(|_| {});
    let addr = world.node(first).unwrap().config().advertise;
    world.crash(first);
    let second = world.add(|raw| raw.restored.failed = vec![("n1".to_owned(), addr)]);
    world.run(90 * SECOND);
    assert_eq!(world.status(second, "n1"), MemberStatus::None);
    let first = world.add(|raw| {
        raw.node_name = "n1".to_owned();
        raw.advertise = addr;
    });
    let both = |w: &World| {
        w.status(second, "n1") == MemberStatus::Alive && w.status(first, "n2") == MemberStatus::Alive
    };
    world.run_until(60 * SECOND, both).expect("it goes on looking");
}
