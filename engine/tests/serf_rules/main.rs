//! Single rules of Serf, shown on one node that receives messages: intents, the state of a push/pull, the snapshot,
//! filters of queries, conflicting names, calls in the wrong state, and the library's defaults.
#![allow(clippy::unwrap_used)]

mod exchanges;
mod keys;
mod order;
mod queries;
mod snapshots;

use std::net::SocketAddr;
use std::time::Duration;

use thane_engine::command::{CommandError, Ticket};
use thane_engine::config::RawConfig;
use thane_engine::context::{StreamId, StreamOperation};
use thane_engine::drop_reason::DropReason;
use thane_engine::event::{Completion, Event, Notice};
use thane_engine::fixtures::{Lone, NODE, PEER, envelope};
use thane_engine::view::MemberStatus;
use thane_engine::wire::packet::{self, Scratch};
use thane_engine::wire::serf::{FLAG_ACK, JoinIntent, LeaveIntent, Query, UserEvent};
use thane_engine::wire::{Alive, Dead, Incarnation, LamportTime, Message, SerfMessage};

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
fn node_names_are_validated_if_the_settings_ask_for_it() {
    let longest = "a".repeat(128);
    let too_long = "a".repeat(129);
    for (name, valid) in [
        ("web-1.dc2", true),
        (&*longest, true),
        (&*too_long, false),
        ("a_b", false),
        ("a b", false),
        ("caf\u{e9}", false),
        ("a/b", false),
    ] {
        for validate in [true, false] {
            let raw = RawConfig { validate_node_names: validate, ..RawConfig::lan(name, NODE) };
            assert_eq!(raw.check().is_ok(), valid || !validate, "{name}");
            let mut lone = lone(|raw| raw.validate_node_names = validate);
            lone.hear(|out| alive(name).encode(out));
            let listed = lone.node.view().by_name(&lone.ctx.roster, name).is_some();
            assert_eq!(listed, valid || !validate, "{name}");
            let refused = u64::from(!valid && validate);
            assert_eq!(lone.node.stats().drops(DropReason::NameNotAllowed), refused, "{name}");
        }
    }
}
