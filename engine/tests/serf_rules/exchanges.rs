//! Serf's part of a push/pull: what a node takes from it, and what it sends.

use std::collections::BTreeMap;

use thane_engine::command::{QueryParams, Ticket};
use thane_engine::context::{StreamId, StreamInput, StreamOperation};
use thane_engine::fixtures::{Lone, PEER, envelope};
use thane_engine::view::MemberStatus;
use thane_engine::wire::serf::{PushPullSource, encode_push_pull};
use thane_engine::wire::stream::{Role, StreamDecoder, StreamMessage, encode_push_pull_header};
use thane_engine::wire::{Dead, Incarnation, LamportTime, NodeState, SerfMessage, WireState};

use super::*;

/// The events of one Lamport time: name and payload of each.
type Slot = (LamportTime, Vec<(String, bytes::Bytes)>);

/// Receives a push/pull on a stream that the peer opened, and merges it. Returns the answer.
pub(super) fn exchange(lone: &mut Lone, frame: &[u8]) -> Vec<u8> {
    let id = StreamId::accepted(1);
    lone.node.handle_stream(&mut lone.ctx, id, StreamInput::Accepted(PEER));
    lone.node.handle_stream(&mut lone.ctx, id, StreamInput::Bytes(frame.into()));
    wait(lone, 20);
    let written =
        std::mem::take(&mut lone.ctx.out.streams).into_iter().filter_map(
            |(_, _, operation)| match operation {
                StreamOperation::Write(bytes) => Some(bytes),
                _ => None,
            },
        );
    written.collect::<Vec<_>>().concat()
}

/// Serf's part of a push/pull: the clocks, members with the times of their intents, those that left, events.
fn serf_state(members: &[(&str, u64)], left: &[&str], events: &[(u64, &str)]) -> Vec<u8> {
    let slots: Vec<Option<Slot>> = events
        .iter()
        .map(|&(ltime, name)| Some((LamportTime(ltime), vec![(name.to_owned(), bytes::Bytes::new())])))
        .collect();
    let source = PushPullSource {
        ltime: LamportTime(50),
        event_ltime: LamportTime(60),
        query_ltime: LamportTime(70),
        members: (members.len() as u32, members.iter().map(|&(name, ltime)| (name, LamportTime(ltime)))),
        left: (left.len() as u32, left.iter().copied()),
        events: slots.iter().map(|slot| slot.as_ref().map(|(at, events)| (*at, events.as_slice()))),
        marker: std::marker::PhantomData,
    };
    let mut out = Vec::new();
    encode_push_pull(source, &mut out);
    out
}

/// The whole push/pull of a peer that knows `n2` and `n3`, of which `n3` left.
pub(super) fn state_of_a_peer(joins: bool) -> Vec<u8> {
    let user = serf_state(&[("n2", 10), ("n3", 20)], &["n3"], &[(58, "late"), (59, "old")]);
    let mut bytes = Vec::new();
    encode_push_pull_header(2, user.len(), joins, &mut bytes);
    for (name, state) in [("n2", WireState::Alive), ("n3", WireState::Left)] {
        NodeState {
            name,
            addr: vec![127, 13, 0, 2].into(),
            port: 7946,
            incarnation: Incarnation(1),
            state,
            versions: vec![1, 5, 2, 2, 5, 5].into(),
            ..NodeState::default()
        }
        .encode(&mut bytes);
    }
    [bytes, user].concat()
}

#[test]
fn a_push_pull_moves_the_clocks_and_says_who_left_and_what_happened() {
    let mut lone = lone(|_| {});
    lone.hear(|out| alive("n3").encode(out));
    events(&mut lone);
    exchange(&mut lone, &state_of_a_peer(false));
    let heard = events(&mut lone);
    assert_eq!(heard, ["member-join n2", "member-leave n3", "user late 58", "user old 59"]);
    assert_eq!((status(&lone, "n2"), status_ltime(&lone, "n2")), (MemberStatus::Alive, 10));
    assert_eq!((status(&lone, "n3"), status_ltime(&lone, "n3")), (MemberStatus::Left, 20));
    lone.ctx.out.clear();
    // The peer's clocks are one ahead of the newest message: so are this node's now, and its own messages carry that.
    let Lone { node, ctx } = &mut lone;
    node.user_event(ctx, "mine", &bytes::Bytes::new(), false).unwrap();
    node.query(ctx, Ticket(1), &QueryParams { name: "mine".into(), ..QueryParams::default() }).unwrap();
    assert_eq!(events(&mut lone), ["user mine 60", "query mine 70"]);
    let Lone { node, ctx } = &mut lone;
    node.force_leave(ctx, Ticket(2), "n2", false).unwrap();
    assert_eq!(status_ltime(&lone, "n2"), 50);
}

/// Joins through the peer and receives its state as the answer. The events that follow.
fn events_of_a_join(ignore_old: bool) -> (Lone, Vec<String>) {
    let mut lone = lone(|_| {});
    events(&mut lone);
    join_through_the_peer(&mut lone, ignore_old);
    let heard = events(&mut lone);
    (lone, heard)
}

/// Joins through the peer, which answers with its state.
pub(super) fn join_through_the_peer(lone: &mut Lone, ignore_old: bool) {
    let Lone { node, ctx } = &mut *lone;
    node.join(ctx, Ticket(1), vec![PEER], ignore_old).unwrap();
    let stream = opened(lone)[0].0;
    lone.node.handle_stream(&mut lone.ctx, stream, StreamInput::Opened);
    lone.node.handle_stream(&mut lone.ctx, stream, StreamInput::Bytes(state_of_a_peer(false)[..].into()));
    wait(lone, 20);
}

#[test]
fn a_join_that_ignores_old_events_drops_those_of_the_state_and_older_ones_that_gossip_brings() {
    let members = ["member-join n2"].map(str::to_owned);
    let (_, with_replay) = events_of_a_join(false);
    assert_eq!(with_replay, [&members[..], &["user late 58".into(), "user old 59".into()]].concat());
    let (mut lone, without) = events_of_a_join(true);
    assert_eq!(without, members);
    user_event(&mut lone, 57, "older");
    user_event(&mut lone, 60, "new");
    assert_eq!(events(&mut lone), ["user new 60"]);
}

/// The list of events is a ring: of times 510 to 513, those from 512 on come first.
#[test]
fn events_of_a_push_pull_are_handled_by_lamport_time_where_the_ring_wraps_around() {
    let mut lone = lone(|_| {});
    events(&mut lone);
    let user = serf_state(&[], &[], &[(512, "c"), (513, "d"), (510, "a"), (511, "b")]);
    let mut frame = Vec::new();
    encode_push_pull_header(0, user.len(), false, &mut frame);
    exchange(&mut lone, &[frame, user].concat());
    assert_eq!(events(&mut lone), ["user a 510", "user b 511", "user c 512", "user d 513"]);
}

#[test]
fn the_state_that_a_node_sends_has_its_clocks_its_members_and_512_slots_of_events() {
    let mut lone = lone(|raw| raw.compression = false);
    for name in ["n2", "n3"] {
        lone.hear(|out| alive(name).encode(out));
        join(&mut lone, 4, name);
    }
    lone.hear(|out| Dead { incarnation: Incarnation(1), node: "n3", from: "n3" }.encode(out));
    leave(&mut lone, 7, "n3");
    user_event(&mut lone, 11, "deploy");
    let answer = exchange(&mut lone, &state_of_a_peer(false));
    let mut decoder = StreamDecoder::new(Role::Dialler);
    decoder.feed(answer).unwrap();
    let Ok(Some(StreamMessage::PushPull(frame))) = decoder.poll(&envelope(None)) else { panic!("no state") };
    let Ok(SerfMessage::PushPull(state)) = SerfMessage::decode(frame.user_state()) else {
        panic!("no serf state")
    };
    // Before it merged the peer's.
    assert_eq!((state.ltime.0, state.event_ltime.0, state.query_ltime.0), (8, 12, 1));
    let times: BTreeMap<&str, u64> = state.status_ltimes().map(|(name, ltime)| (name, ltime.0)).collect();
    assert_eq!(times, BTreeMap::from([("n1", 0), ("n2", 4), ("n3", 7)]));
    assert_eq!(state.left_members().collect::<Vec<_>>(), ["n3"]);
    let events: Vec<(u64, &str)> = state.events().map(|slot| (slot.ltime.0, slot.events[0].0)).collect();
    assert_eq!(events, [(11, "deploy")]);
    let slots = frame.user_state().windows(10).filter(|window| window == b"\xa6Events\xdc\x02\x00").count();
    assert_eq!(slots, 1, "an array of 512");
}

#[test]
fn an_event_that_gossip_cannot_carry_goes_out_by_several_exchanges_soon() {
    let mut lone = Lone::new(|raw| {
        raw.probe_interval = Duration::from_secs(86_400);
        raw.user_event_size_limit = 9_000;
        raw.extensions = false;
    });
    lone.hear(|out| alive("n2").encode(out));
    wait(&mut lone, 5_000);
    lone.clear();
    let payload = bytes::Bytes::from(vec![b'x'; 1_300]);
    lone.node.user_event(&mut lone.ctx, "fits", &payload, false).unwrap();
    assert_eq!(lone.node.queue_depths()[2], 1);
    let payload = bytes::Bytes::from(vec![b'x'; 2_000]);
    lone.node.user_event(&mut lone.ctx, "large", &payload, false).unwrap();
    assert_eq!(
        lone.node.queue_depths()[2],
        1,
        "a message that fits no packet would stay in the queue for ever"
    );
    wait(&mut lone, 8_000);
    let opened = |(_, _, operation): &_| matches!(operation, StreamOperation::Open(PEER));
    assert!(lone.ctx.out.streams.iter().filter(|operation| opened(operation)).count() >= 3);
}

#[test]
fn a_query_that_gossip_cannot_carry_is_refused() {
    for (key, bytes_max) in [(None, 1_395), (Some(vec![7; 16]), 1_366)] {
        let mut lone = lone(|raw| {
            raw.query_size_limit = 9_000;
            raw.keys.extend(key);
        });
        let mut ask = |bytes| {
            let params = QueryParams {
                name: "q".to_owned(),
                payload: vec![0; bytes].into(),
                ..QueryParams::default()
            };
            lone.node.query(&mut lone.ctx, Ticket(1), &params)
        };
        let Err(CommandError::QueryFitsNoPacket { bytes, bytes_max: max }) = ask(3_000) else {
            panic!("a query of 3,000 bytes was sent")
        };
        assert_eq!(max, bytes_max);
        let overhead = bytes - 3_000;
        assert!(ask(bytes_max - overhead).is_ok());
        assert!(ask(bytes_max - overhead + 1).is_err());
    }
}
