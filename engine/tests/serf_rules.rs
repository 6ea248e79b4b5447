//! Single rules of Serf, shown on one node that receives messages: intents, the state of a push/pull, the snapshot,
//! filters of queries, conflicting names, calls in the wrong state, and the library's defaults.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use thane_engine::command::{CommandError, QueryParams, Ticket};
use thane_engine::config::{RawConfig, Restored};
use thane_engine::context::{StreamId, StreamInput, StreamOperation};
use thane_engine::event::{Completion, Event, Notice, SnapshotRecord};
use thane_engine::fixtures::{Lone, PEER, envelope};
use thane_engine::view::MemberStatus;
use thane_engine::wire::packet::{self, Scratch};
use thane_engine::wire::serf::{
    FLAG_ACK, Filter, JoinIntent, LeaveIntent, PushPullSource, Query, QueryResponse, UserEvent,
    encode_push_pull,
};
use thane_engine::wire::stream::{Role, StreamDecoder, StreamMessage, encode_push_pull_header};
use thane_engine::wire::{Alive, Dead, Incarnation, LamportTime, Message, NodeState, SerfMessage, WireState};

/// The node `n1` without probes and exchanges of its own.
fn lone(change: impl FnOnce(&mut RawConfig)) -> Lone {
    Lone::quiet(|raw| {
        raw.node_name = "n1".to_owned();
        change(raw);
    })
}

/// A member at the address of [`PEER`], in the first incarnation.
fn alive(name: &str) -> Alive<'_> {
    Alive {
        incarnation: Incarnation(1),
        node: name,
        addr: vec![127, 13, 0, 2].into(),
        port: 7946,
        meta: b"\xff\x80"[..].into(),
        versions: vec![1, 5, 2, 2, 5, 5].into(),
    }
}

fn hear_serf(lone: &mut Lone, encode: impl FnOnce(&mut Vec<u8>)) {
    lone.hear(|out| {
        out.push(8);
        encode(out);
    });
}

fn join(lone: &mut Lone, ltime: u64, node: &str) {
    hear_serf(lone, |out| JoinIntent { ltime: LamportTime(ltime), node }.encode(out));
}

fn leave(lone: &mut Lone, ltime: u64, node: &str) {
    hear_serf(lone, |out| LeaveIntent { ltime: LamportTime(ltime), node, prune: false }.encode(out));
}

fn user_event(lone: &mut Lone, ltime: u64, name: &str) {
    let payload = b""[..].into();
    hear_serf(lone, |out| {
        UserEvent { ltime: LamportTime(ltime), name, payload, coalesce: false }.encode(out)
    });
}

fn question(ltime: u64, name: &str) -> Query<'_> {
    Query {
        ltime: LamportTime(ltime),
        id: 9,
        addr: vec![127, 13, 0, 2].into(),
        port: 7946,
        flags: FLAG_ACK,
        timeout: 1_000_000_000,
        name,
        ..Query::default()
    }
}

/// Passes time, millisecond by millisecond.
fn wait(lone: &mut Lone, millis: u64) {
    (0..millis).for_each(|_| lone.pass(Duration::from_millis(1)));
}

fn status(lone: &Lone, name: &str) -> MemberStatus {
    lone.node.view().by_name(&lone.ctx.roster, name).unwrap().1.status
}

fn status_ltime(lone: &Lone, name: &str) -> u64 {
    lone.node.view().by_name(&lone.ctx.roster, name).unwrap().1.status_ltime.0
}

/// Events since the last call: those about members with their names, user events, queries.
fn events(lone: &mut Lone) -> Vec<String> {
    let mut texts = Vec::new();
    for (_, event) in std::mem::take(&mut lone.ctx.out.events) {
        match event {
            Event::Member { kind, members } => {
                texts.extend(members.iter().map(|member| format!("{} {}", kind.as_str(), member.name)));
            }
            Event::User { name, ltime, .. } => texts.push(format!("user {name} {}", ltime.0)),
            Event::Query { name, ltime, .. } => texts.push(format!("query {name} {}", ltime.0)),
        }
    }
    texts
}

fn notices(lone: &mut Lone) -> Vec<Notice> {
    std::mem::take(&mut lone.ctx.out.notices).into_iter().map(|(_, notice)| notice).collect()
}

/// The serf messages that the node sent in datagrams since the last call, with `visit` for each.
fn sent(lone: &mut Lone, mut visit: impl FnMut(SocketAddr, SerfMessage<'_>)) {
    let envelope = envelope(None);
    for datagram in std::mem::take(&mut lone.ctx.out.datagrams) {
        let mut bytes = lone.ctx.out.send_buffer[datagram.range.clone()].to_vec();
        let plain = envelope.open(&mut bytes).unwrap();
        packet::for_each_message(plain, &mut Scratch::default(), &mut |message| {
            if let Message::User(bytes) = message.unwrap() {
                visit(datagram.to, SerfMessage::decode(bytes).unwrap());
            }
        });
    }
    lone.ctx.out.clear();
}

/// The names and payloads of the queries that the node sent since the last call.
fn queries_sent(lone: &mut Lone) -> Vec<(String, Vec<u8>)> {
    let mut queries = Vec::new();
    sent(lone, |_, message| {
        if let SerfMessage::Query(query) = message {
            queries.push((query.name.to_owned(), query.payload.into_owned()));
        }
    });
    queries
}

/// serf.DefaultConfig (protocol version aside, docs/differences.md) and memberlist.DefaultLANConfig.
#[test]
fn an_embedded_node_has_the_defaults_of_serfs_library() {
    let raw = RawConfig::lan("n", PEER);
    let spans = [
        (raw.broadcast_timeout, 5_000),
        (raw.leave_propagate_delay, 1_000),
        (raw.reap_interval, 15_000),
        (raw.recent_intent_timeout, 300_000),
        (raw.reconnect_interval, 30_000),
        (raw.reconnect_timeout, 86_400_000),
        (raw.tombstone_timeout, 86_400_000),
        (raw.queue_check_interval, 30_000),
        (raw.probe_interval, 1_000),
        (raw.probe_timeout, 500),
        (raw.tcp_timeout, 10_000),
        (raw.push_pull_interval, 30_000),
        (raw.gossip_interval, 200),
        (raw.gossip_to_the_dead, 30_000),
        (raw.coalesce_members.0 + raw.coalesce_members.1, 0),
        (raw.coalesce_users.0 + raw.coalesce_users.1, 0),
    ];
    for (place, (span, millis)) in spans.into_iter().enumerate() {
        assert_eq!(span, Duration::from_millis(millis), "span {place}");
    }
    assert_eq!((raw.queue_depth_warning, raw.queue_depth_max, raw.query_timeout_mult), (128, 4096, 16));
    assert_eq!((raw.query_size_limit, raw.query_response_size_limit), (1024, 1024));
    assert_eq!(raw.user_event_size_limit, 512);
    assert_eq!((raw.indirect_checks, raw.suspicion_mult, raw.suspicion_max_timeout_mult), (3, 4, 6));
    assert_eq!((raw.awareness_max_multiplier, raw.gossip_nodes, raw.retransmit_mult), (8, 3, 4));
    assert!(raw.resolve_name_conflicts && raw.tcp_pings && raw.compression && raw.coordinates);
    assert!(raw.gossip_verify_incoming && raw.gossip_verify_outgoing && !raw.snapshot);
    assert!(raw.keys.is_empty() && raw.label.is_empty() && raw.cidrs_allowed.is_empty());
}

#[test]
fn an_intent_counts_and_goes_on_only_if_it_is_newer_than_what_is_known() {
    let mut lone = lone(|_| {});
    lone.hear(|out| alive("n2").encode(out));
    let mut queued = 0;
    // What arrives, the status and its time afterwards, and whether the intent goes on to others.
    for (leaves, ltime, after, time, news) in [
        (false, 5, MemberStatus::Alive, 5, true),
        (false, 5, MemberStatus::Alive, 5, false),
        (false, 4, MemberStatus::Alive, 5, false),
        (true, 5, MemberStatus::Alive, 5, false),
        (true, 6, MemberStatus::Leaving, 6, true),
        (true, 6, MemberStatus::Leaving, 6, false),
        (false, 6, MemberStatus::Leaving, 6, false),
        (true, 8, MemberStatus::Leaving, 8, true),
        (false, 7, MemberStatus::Leaving, 8, false),
        (false, 9, MemberStatus::Alive, 9, true),
    ] {
        if leaves {
            leave(&mut lone, ltime, "n2")
        } else {
            join(&mut lone, ltime, "n2")
        }
        queued += usize::from(news);
        let what = format!("leave: {leaves}, time {ltime}");
        assert_eq!((status(&lone, "n2"), status_ltime(&lone, "n2")), (after, time), "{what}");
        assert_eq!(lone.node.queue_depths(), [queued, 0, 0], "{what}");
    }
}

#[test]
fn a_leave_intent_makes_a_failed_member_a_left_one_and_a_left_one_only_newer() {
    let mut lone = lone(|_| {});
    lone.hear(|out| alive("n2").encode(out));
    lone.hear(|out| Dead { incarnation: Incarnation(1), node: "n2", from: "n3" }.encode(out));
    assert_eq!(events(&mut lone), ["member-join n1", "member-join n2", "member-failed n2"]);
    join(&mut lone, 4, "n2");
    assert_eq!((status(&lone, "n2"), status_ltime(&lone, "n2")), (MemberStatus::Failed, 4));
    leave(&mut lone, 4, "n2");
    assert_eq!(status(&lone, "n2"), MemberStatus::Failed, "no newer than its join");
    leave(&mut lone, 5, "n2");
    assert_eq!((status(&lone, "n2"), status_ltime(&lone, "n2")), (MemberStatus::Left, 5));
    assert_eq!(events(&mut lone), ["member-leave n2"]);
    leave(&mut lone, 7, "n2");
    assert_eq!((status(&lone, "n2"), status_ltime(&lone, "n2")), (MemberStatus::Left, 7));
    assert_eq!(events(&mut lone), Vec::<String>::new());
    assert_eq!(lone.node.queue_depths(), [3, 0, 0], "a join and two leaves go on");
}

#[test]
fn a_join_after_a_leave_is_refused_and_a_second_leave_only_while_the_first_is_under_way() {
    let mut lone = lone(|_| {});
    lone.hear(|out| alive("n2").encode(out));
    let Lone { node, ctx } = &mut lone;
    node.leave(ctx, Ticket(1)).unwrap();
    let again = node.leave(ctx, Ticket(2)).unwrap_err();
    assert_eq!((&again, &*again.to_string()), (&CommandError::LeaveInProgress, "Leave already in progress"));
    for has_left in [false, true] {
        assert_eq!(lone.node.has_left(), has_left);
        let Lone { node, ctx } = &mut lone;
        let join = node.join(ctx, Ticket(3), Vec::new(), true).unwrap_err();
        assert_eq!(join.to_string(), "Serf can't Join after Leave or Shutdown");
        wait(&mut lone, 10_000);
    }
    lone.ctx.out.clear();
    let Lone { node, ctx } = &mut lone;
    assert_eq!(node.leave(ctx, Ticket(4)), Ok(()), "what is asked for is done already");
    let completed: Vec<(Ticket, Completion)> = std::mem::take(&mut ctx.out.completions)
        .into_iter()
        .map(|(_, ticket, what)| (ticket, what))
        .collect();
    assert_eq!(completed, [(Ticket(4), Completion::Left)]);
    assert!(ctx.out.datagrams.is_empty(), "nothing is announced again");
}

/// Receives a push/pull on a stream that the peer opened, and merges it. Returns the answer.
fn exchange(lone: &mut Lone, frame: &[u8]) -> Vec<u8> {
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
    let slots: Vec<Option<(LamportTime, Vec<(String, bytes::Bytes)>)>> = events
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
fn state_of_a_peer(joins: bool) -> Vec<u8> {
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
    let Lone { node, ctx } = &mut lone;
    node.join(ctx, Ticket(1), vec![PEER], ignore_old).unwrap();
    let stream = opened(&mut lone)[0].0;
    lone.node.handle_stream(&mut lone.ctx, stream, StreamInput::Opened);
    lone.node.handle_stream(&mut lone.ctx, stream, StreamInput::Bytes(state_of_a_peer(false)[..].into()));
    wait(&mut lone, 20);
    let heard = events(&mut lone);
    (lone, heard)
}

/// The streams that the node opened since the last call.
fn opened(lone: &mut Lone) -> Vec<(StreamId, SocketAddr)> {
    let operations = std::mem::take(&mut lone.ctx.out.streams).into_iter();
    let opened = |(_, id, operation)| match operation {
        StreamOperation::Open(addr) => Some((id, addr)),
        _ => None,
    };
    operations.filter_map(opened).collect()
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

#[test]
fn a_node_answers_a_query_only_if_all_filters_match_and_all_are_understood() {
    let names = |names: &[&'static str]| Filter::Nodes(names.to_vec()).encode();
    let tag = |tag, expr| Filter::Tag { tag, expr }.encode();
    let cases: [(&str, Vec<Vec<u8>>, bool); 11] = [
        ("none", vec![], true),
        ("the name", vec![names(&["n0", "n1"])], true),
        ("a part of the name", vec![names(&["n"])], false),
        ("other names", vec![names(&["n2"])], false),
        ("a part of the value", vec![tag("role", "ron")], true),
        ("another value", vec![tag("role", "^ron")], false),
        ("a missing tag is empty", vec![tag("zone", "^$")], true),
        ("all match", vec![names(&["n1"]), tag("role", "^front$")], true),
        ("one does not", vec![names(&["n1"]), tag("role", "back")], false),
        ("a bad expression", vec![tag("role", "(")], false),
        ("an unknown type", vec![[&[7], &names(&["n1"])[1..]].concat()], false),
    ];
    for (what, filters, answers) in cases {
        let mut lone = lone(|raw| raw.tags = BTreeMap::from([("role".to_owned(), "front".to_owned())]));
        lone.hear(|out| alive("n2").encode(out));
        lone.clear();
        let filters = filters.into_iter().map(Into::into).collect();
        hear_serf(&mut lone, |out| Query { filters, ..question(5, "q") }.encode(out));
        assert_eq!(events(&mut lone), if answers { vec!["query q 5"] } else { vec![] }, "{what}");
        assert_eq!(lone.node.queue_depths(), [0, 1, 0], "{what}: it goes on to others in any case");
        let mut acks = 0;
        sent(&mut lone, |to, message| {
            acks += usize::from(to == PEER && matches!(message, SerfMessage::QueryResponse(_)));
        });
        assert_eq!(acks, usize::from(answers), "{what}");
    }
}

/// Another node claims a name: the conflicting addresses that the node reports, and the queries that it sends.
fn claim(lone: &mut Lone, name: &str) -> (Vec<SocketAddr>, Vec<(String, Vec<u8>)>) {
    lone.hear(|out| alive("n2").encode(out));
    lone.clear();
    notices(lone);
    lone.hear(|out| {
        Alive { addr: vec![127, 13, 0, 66].into(), incarnation: Incarnation(9), ..alive(name) }.encode(out)
    });
    wait(lone, 1_000);
    let conflicts = notices(lone).into_iter().filter_map(|notice| match notice {
        Notice::AddressConflict { theirs, .. } => Some(theirs),
        _ => None,
    });
    (conflicts.collect(), queries_sent(lone))
}

#[test]
fn a_conflict_about_another_name_is_reported_and_nothing_more() {
    let mut lone = lone(|_| {});
    let (conflicts, queries) = claim(&mut lone, "n2");
    assert_eq!(conflicts, [SocketAddr::from(([127, 13, 0, 66], 7946))]);
    assert!(queries.is_empty(), "{queries:?}");
    assert_eq!(lone.node.members(&lone.ctx)[1].addr, PEER.ip(), "the address stays");
    assert!(lone.ctx.out.ended.is_empty());
}

#[test]
fn a_conflict_about_the_nodes_own_name_is_reported_and_put_to_the_vote_unless_that_is_off() {
    for resolve in [true, false] {
        let mut lone = lone(|raw| raw.resolve_name_conflicts = resolve);
        let (conflicts, queries) = claim(&mut lone, "n1");
        assert_eq!(conflicts, [SocketAddr::from(([127, 13, 0, 66], 7946))]);
        let asked: BTreeSet<(String, Vec<u8>)> = queries.into_iter().collect();
        let vote = ("_serf_conflict".to_owned(), b"n1".to_vec());
        assert_eq!(asked, BTreeSet::from_iter(resolve.then_some(vote)));
    }
}

#[test]
fn a_vote_names_the_member_that_is_known_and_a_node_of_that_name_has_none() {
    for (claimed, vote) in [("n2", Some("n2")), ("n1", None), ("nobody", None)] {
        let mut lone = lone(|_| {});
        lone.hear(|out| alive("n2").encode(out));
        lone.clear();
        events(&mut lone);
        let payload = claimed.as_bytes().into();
        hear_serf(&mut lone, |out| {
            Query { payload, flags: 0, ..question(5, "_serf_conflict") }.encode(out);
        });
        assert_eq!(events(&mut lone), Vec::<String>::new(), "the application has no part in it");
        let mut votes = Vec::new();
        sent(&mut lone, |_, message| {
            let SerfMessage::QueryResponse(QueryResponse { payload, .. }) = message else { return };
            let Ok(SerfMessage::ConflictResponse(record)) = SerfMessage::decode(&payload) else {
                panic!("{payload:?}")
            };
            votes.push(record.map(|record| record.name.to_owned()));
        });
        let expected = if claimed == "n1" { vec![] } else { vec![vote.map(str::to_owned)] };
        assert_eq!(votes, expected, "{claimed}");
    }
}
