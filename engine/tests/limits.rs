//! What strangers can make a node keep, do and send is bounded: sizes on receipt, the state that goes out, networks that
//! are not allowed, invented members.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use thane_engine::context::{StreamId, StreamInput, StreamOperation};
use thane_engine::drop_reason::DropReason;
use thane_engine::event::Event;
use thane_engine::fixtures::{Lone, Member, PEER, envelope, members, ping_packet, push_pull};
use thane_engine::wire::limits::{PUSH_PULL_SENT_BYTES_MAX, STREAM_FRAME_BYTES_MAX};
use thane_engine::wire::serf::{UserEvent, encode_push_pull};
use thane_engine::wire::stream::{Role, StreamDecoder, StreamMessage, encode_push_pull_header};
use thane_engine::wire::{Alive, Incarnation, LamportTime, SerfMessage};

fn hear_event(lone: &mut Lone, ltime: u64, name: &str, payload: &[u8]) {
    lone.hear(|out| {
        out.push(8);
        UserEvent { ltime: LamportTime(ltime), name, payload: payload.into(), coalesce: false }.encode(out);
    });
}

/// Names of the user events that were delivered.
fn delivered(lone: &mut Lone) -> Vec<String> {
    let name = |(_, event)| match event {
        Event::User { name, .. } => Some(name),
        _ => None,
    };
    std::mem::take(&mut lone.ctx.out.events).into_iter().filter_map(name).collect()
}

/// The answer to a push/pull of a peer that has no members.
fn state(lone: &mut Lone, number: u64, request: &[u8]) -> Vec<u8> {
    let id = StreamId::accepted(number);
    lone.node.handle_stream(&mut lone.ctx, id, StreamInput::Accepted(PEER));
    lone.node.handle_stream(&mut lone.ctx, id, StreamInput::Bytes(request.into()));
    let written = std::mem::take(&mut lone.ctx.out.streams);
    written
        .into_iter()
        .find_map(|(_, _, operation)| match operation {
            StreamOperation::Write(bytes) => Some(bytes),
            _ => None,
        })
        .unwrap()
}

/// The Lamport times of the user events in a push/pull, as a peer reads it.
fn event_times(answer: &[u8]) -> Vec<u64> {
    let mut decoder = StreamDecoder::new(Role::Dialler);
    decoder.feed(answer).unwrap();
    let Ok(Some(StreamMessage::PushPull(frame))) = decoder.poll(&envelope(None)) else { panic!("no state") };
    let Ok(SerfMessage::PushPull(state)) = SerfMessage::decode(frame.user_state()) else { panic!("no part") };
    let mut times: Vec<u64> = state.events().map(|slot| slot.ltime.0).collect();
    times.sort_unstable();
    times
}

#[test]
fn user_events_beyond_the_hard_limit_are_refused_however_they_come() {
    let mut lone = Lone::quiet(|_| {});
    hear_event(&mut lone, 1, "most", &[b'x'; 9216 - 4]);
    hear_event(&mut lone, 2, "more", &[b'x'; 9216 - 3]);
    assert_eq!(delivered(&mut lone), ["most"]);
    assert_eq!(lone.node.stats().drops(DropReason::EventTooLong), 1);

    let long = [("pulled".to_owned(), Bytes::from(vec![b'x'; 60_000]))];
    let short = [("short".to_owned(), Bytes::new())];
    let source = thane_engine::wire::serf::PushPullSource {
        ltime: LamportTime(5),
        event_ltime: LamportTime(5),
        query_ltime: LamportTime(5),
        members: (0, std::iter::empty::<(&str, LamportTime)>()),
        left: (0, std::iter::empty::<&str>()),
        events: [Some((LamportTime(3), &long[..])), Some((LamportTime(4), &short[..]))].into_iter(),
        marker: std::marker::PhantomData,
    };
    let (mut user, mut frame) = (Vec::new(), Vec::new());
    encode_push_pull(source, &mut user);
    encode_push_pull_header(0, user.len(), false, &mut frame);
    frame.extend_from_slice(&user);
    let id = StreamId::accepted(1);
    lone.node.handle_stream(&mut lone.ctx, id, StreamInput::Accepted(PEER));
    lone.node.handle_stream(&mut lone.ctx, id, StreamInput::Bytes(frame[..].into()));
    (0..10).for_each(|_| lone.pass(std::time::Duration::from_millis(1)));
    assert_eq!(delivered(&mut lone), ["short"]);
    assert_eq!(lone.node.stats().drops(DropReason::EventTooLong), 2);
}

#[test]
fn messages_that_fit_no_packet_do_not_wait_in_the_queue() {
    let mut lone = Lone::quiet(|_| {});
    lone.learn(&members(3));
    hear_event(&mut lone, 1, "short", b"");
    hear_event(&mut lone, 2, "long", &[b'x'; 9000]);
    assert_eq!(lone.node.queue_depths().iter().sum::<usize>(), 1);
}

#[test]
fn a_state_that_no_peer_would_take_goes_out_without_the_oldest_events() {
    const RECORDS: u32 = 17_000;
    let mut lone = Lone::quiet(|_| {});
    let meta: &'static [u8] = Box::leak(vec![b'm'; 512].into_boxed_slice());
    let member = |n| {
        let like = Member::new(n);
        Member::at(format!("{n:0250}"), like.socket(), meta)
    };
    let crowd: Vec<Member> = (1..=RECORDS).map(member).collect();
    lone.push_pull(1, &push_pull(&crowd));
    for n in 1..=512 {
        hear_event(&mut lone, n, "e", &[b'x'; 9000]);
    }
    let answer = state(&mut lone, 2, &push_pull(&[]));
    assert!(answer.len() <= PUSH_PULL_SENT_BYTES_MAX, "{} bytes", answer.len());
    assert!(answer.len() + 1024 < STREAM_FRAME_BYTES_MAX, "there is room for the seal");
    let times = event_times(&answer);
    assert!((2..512).contains(&times.len()), "{} events", times.len());
    assert!(
        times.iter().rev().eq((1..=512).rev().take(times.len()).collect::<Vec<u64>>().iter()),
        "{times:?}"
    );
}

#[test]
fn networks_that_are_not_allowed_get_nothing() {
    let mut lone = Lone::quiet(|raw| raw.cidrs_allowed = vec!["127.14.0.0/16".parse().unwrap()]);
    lone.ctx.out.clear();
    let mut refused = 0;
    let mut nothing = |lone: &mut Lone, what: &str| {
        refused += 1;
        assert_eq!(lone.node.stats().drops(DropReason::AddressNotAllowed), refused, "{what}");
        assert!(lone.ctx.out.datagrams.is_empty() && lone.ctx.out.events.is_empty(), "{what}");
    };
    lone.receive(&mut ping_packet(&envelope(None), "node-00001"));
    nothing(&mut lone, "ping");
    hear_event(&mut lone, 1 << 40, "e", b"");
    nothing(&mut lone, "event");
    assert_eq!(lone.node.clocks()[1], LamportTime(1), "no clock moves");
    lone.hear(|out| out.extend_from_slice(b"garbage"));
    nothing(&mut lone, "garbage is not even looked at");
    let id = StreamId::accepted(1);
    lone.node.handle_stream(&mut lone.ctx, id, StreamInput::Accepted(PEER));
    nothing(&mut lone, "stream");
    assert_eq!(
        lone.ctx.out.streams.pop().map(|(_, of, what)| (of, what)),
        Some((id, StreamOperation::Abort))
    );

    let friend = "127.14.0.9:7946".parse().unwrap();
    let mut ping = ping_packet(&envelope(None), "node-00001");
    lone.node.handle_datagram(&mut lone.ctx, friend, &mut ping);
    assert_eq!(lone.clear(), 1, "an ack");
}

#[test]
fn invented_members_are_capped_and_members_of_the_own_join_are_not() {
    const CAP: usize = 32_768;
    let mut lone = Lone::quiet(|_| {});
    let crowd = members(CAP as u32 + 3000);
    for part in crowd.chunks(1000) {
        lone.learn(part);
    }
    // The node itself is the first of them.
    assert_eq!(lone.node.view().table_count(), 1 + CAP);
    assert_eq!(lone.node.stats().drops(DropReason::TooManyUnanswered), 2999);
    // By an exchange they come neither.
    lone.push_pull(1, &push_pull(&crowd));
    assert_eq!(lone.node.view().table_count(), 1 + CAP);
    // A known one is heard again.
    let again = Alive { incarnation: Incarnation(9), ..crowd[5].alive() };
    lone.hear(|out| again.encode(out));
    assert_eq!(
        lone.node
            .view()
            .incarnation(&lone.ctx.roster, lone.ctx.roster.member(crowd[5].alive().node).unwrap()),
        Some(Incarnation(9))
    );

    let joined = thane_engine::fixtures::Joining::knowing(&crowd);
    assert_eq!(joined.node.view().table_count(), crowd.len());
}
