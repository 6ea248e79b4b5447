//! What a node writes to its snapshot, and what a node does that starts from one.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use thane_engine::config::Restored;
use thane_engine::context::StreamInput;
use thane_engine::event::{Notice, SnapshotRecord};
use thane_engine::fixtures::Lone;
use thane_engine::wire::{Dead, Incarnation, LamportTime};

use super::exchanges::{exchange, join_through_the_peer, state_of_a_peer};
use super::*;

fn records(lone: &mut Lone) -> Vec<SnapshotRecord> {
    std::mem::take(&mut lone.ctx.out.records).into_iter().map(|(_, record)| record).collect()
}

#[test]
fn the_snapshot_gets_members_and_each_clock_only_when_it_has_grown() {
    let mut lone = lone(|raw| raw.snapshot = true);
    let joined = |name: &str, last| SnapshotRecord::Alive {
        name: name.to_owned(),
        addr: SocketAddr::from(([127, 13, 0, last], 7946)),
    };
    assert_eq!(records(&mut lone), [joined("n1", 1)]);
    lone.hear(|out| alive("n2").encode(out));
    lone.hear(|out| alive("n3").encode(out));
    assert_eq!(records(&mut lone), [joined("n2", 2), joined("n3", 2)]);
    join(&mut lone, 9, "n2");
    wait(&mut lone, 500);
    assert_eq!(records(&mut lone), [SnapshotRecord::Clock(LamportTime(9))]);
    wait(&mut lone, 1_000);
    join(&mut lone, 8, "n3");
    wait(&mut lone, 1_000);
    assert_eq!(records(&mut lone), [], "nothing has grown");

    // A late event is delivered and does not set the clock back: a restart would deliver the newer ones again.
    for (ltime, name) in [(5, "a"), (3, "late"), (6, "b"), (6, "c")] {
        user_event(&mut lone, ltime, name);
    }
    let event_clock = |ltime| SnapshotRecord::EventClock(LamportTime(ltime));
    assert_eq!(records(&mut lone), [event_clock(5), event_clock(6)]);
    assert_eq!(events(&mut lone).iter().filter(|event| event.starts_with("user")).count(), 4);
    for ltime in [15, 13, 16] {
        hear_serf(&mut lone, |out| question(ltime, "q").encode(out));
    }
    let query_clock = |ltime| SnapshotRecord::QueryClock(LamportTime(ltime));
    assert_eq!(records(&mut lone), [query_clock(15), query_clock(16)]);

    lone.hear(|out| Dead { incarnation: Incarnation(1), node: "n3", from: "n2" }.encode(out));
    assert_eq!(
        records(&mut lone),
        [SnapshotRecord::Failed { name: "n3".to_owned(), addr: SocketAddr::from(([127, 13, 0, 2], 7946)) }]
    );
    leave(&mut lone, 12, "n2");
    lone.hear(|out| Dead { incarnation: Incarnation(1), node: "n2", from: "n2" }.encode(out));
    wait(&mut lone, 500);
    let clock = SnapshotRecord::Clock(LamportTime(12));
    assert_eq!(records(&mut lone), [clock, SnapshotRecord::NotAlive { name: "n2".to_owned() }]);
}

#[test]
fn a_restored_node_is_past_the_events_and_queries_that_it_knew() {
    let restored = Restored { clock: 30, event_clock: 40, query_clock: 50, ..Restored::default() };
    let mut lone = lone(|raw| raw.restored = restored);
    events(&mut lone);
    assert_eq!(lone.node.clocks().map(|clock| clock.0), [31, 41, 51]);
    for ltime in [39, 40, 41] {
        user_event(&mut lone, ltime, "e");
    }
    for ltime in [49, 50, 51] {
        hear_serf(&mut lone, |out| question(ltime, "q").encode(out));
    }
    assert_eq!(events(&mut lone), ["user e 41", "query q 51"]);
}

/// Serf's file: what it had handled may be newer than its clocks say.
#[test]
fn on_a_file_that_lags_nothing_older_than_the_first_peers_clocks_is_delivered() {
    let restored =
        || Restored { clock: 30, event_clock: 40, query_clock: 50, lags: true, ..Restored::default() };
    // The peer's clocks are 60 and 70: it has seen events up to 59 and queries up to 69.
    for exchanged in ["a join", "an exchange that the peer began"] {
        let mut lone = lone(|raw| (raw.restored, raw.snapshot) = (restored(), true));
        lone.hear(|out| alive("n2").encode(out));
        lone.hear(|out| alive("n3").encode(out));
        let asked = opened(&mut lone);
        assert_eq!(asked.len(), 1, "the first member that appears is asked for its clocks");
        let failed = StreamInput::Failed("connection refused");
        lone.node.handle_stream(&mut lone.ctx, asked[0].0, failed);
        events(&mut lone);
        records(&mut lone);
        user_event(&mut lone, 45, "early");
        hear_serf(&mut lone, |out| question(55, "early").encode(out));
        assert_eq!(events(&mut lone), [""; 0], "gossip comes before the peer's clocks");
        let Lone { node, ctx } = &mut lone;
        node.user_event(ctx, "own", &bytes::Bytes::new(), false).unwrap();
        assert_eq!(events(&mut lone), ["user own 41"], "what it sends itself is new");
        assert_eq!(records(&mut lone), [SnapshotRecord::EventClock(LamportTime(41))], "and settles nothing");
        if exchanged == "a join" {
            join_through_the_peer(&mut lone, false);
        } else {
            exchange(&mut lone, &state_of_a_peer(false));
        }
        let written = records(&mut lone);
        let settled = [
            SnapshotRecord::EventClock(LamportTime(59)),
            SnapshotRecord::QueryClock(LamportTime(69)),
            SnapshotRecord::Settled,
        ];
        assert!(written.windows(3).any(|records| records == settled), "{exchanged}: {written:?}");
        user_event(&mut lone, 45, "early");
        user_event(&mut lone, 60, "new");
        for ltime in [55, 69, 70] {
            hear_serf(&mut lone, |out| question(ltime, "q").encode(out));
        }
        let heard: Vec<String> =
            events(&mut lone).into_iter().filter(|event| !event.starts_with("member")).collect();
        assert_eq!(heard, ["user new 60", "query q 70"], "{exchanged}");
    }
}

/// Nobody answers for long: what comes now is new.
#[test]
fn on_a_file_that_lags_gossip_is_ignored_only_as_long_as_old_news_travel() {
    let restored = Restored { event_clock: 40, query_clock: 50, lags: true, ..Restored::default() };
    let mut lone = lone(|raw| raw.restored = restored);
    events(&mut lone);
    user_event(&mut lone, 41, "a");
    wait(&mut lone, 15_000);
    user_event(&mut lone, 41, "a");
    user_event(&mut lone, 42, "b");
    hear_serf(&mut lone, |out| question(51, "q").encode(out));
    assert_eq!(events(&mut lone), ["user a 41", "user b 42", "query q 51"]);
}

#[test]
fn a_restored_node_tries_known_members_in_random_order_until_one_answers_and_announces_no_join() {
    let at = |last| SocketAddr::from(([127, 13, 0, last], 7946));
    let mut firsts = BTreeSet::new();
    for seed in 0..20 {
        let mut lone = Lone::seeded(seed, |raw| {
            raw.node_name = "n1".to_owned();
            let known = [("n1", 9), ("former", 1), ("n2", 2), ("n3", 3), ("n4", 4)];
            raw.restored.alive = known.map(|(name, last)| (name.to_owned(), at(last))).to_vec();
        });
        let mut tried = Vec::new();
        for answers in [false, true] {
            let streams = opened(&mut lone);
            let [(stream, addr)] = streams[..] else { panic!("one at a time: {streams:?}") };
            tried.push(addr);
            if answers {
                lone.node.handle_stream(&mut lone.ctx, stream, StreamInput::Opened);
                let answer = state_of_a_peer(false);
                lone.node.handle_stream(&mut lone.ctx, stream, StreamInput::Bytes(answer[..].into()));
                wait(&mut lone, 20);
            } else {
                lone.node.handle_stream(&mut lone.ctx, stream, StreamInput::Failed("connection refused"));
            }
        }
        assert!(tried.iter().all(|addr| [at(2), at(3), at(4)].contains(addr)), "not itself: {tried:?}");
        assert_ne!(tried[0], tried[1]);
        firsts.insert(tried[0]);
        assert_eq!(lone.node.queue_depths(), [0, 0, 0], "no intent");
        let others = opened(&mut lone);
        assert!(others.iter().all(|(_, addr)| !tried.contains(addr) || *addr == tried[1]), "{others:?}");
        let rejoined =
            notices(&mut lone).into_iter().filter(|notice| matches!(notice, Notice::Rejoined { .. }));
        assert_eq!(rejoined.count(), 1);
    }
    assert_eq!(firsts.len(), 3, "each of them is the first at some time");
}
