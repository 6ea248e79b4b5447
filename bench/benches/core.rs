//! Whole inputs through the core of one node, as a driver hands them in: from the datagram's bytes to the
//! bytes of the answer.
#![expect(missing_docs, reason = "the functions that criterion's macros make have none")]

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use thane_bench::{Bench, Member, envelope, gossip_packet, members, peer, ping, push_pull};
use thane_engine::command::{JoinTarget, Ticket};
use thane_engine::context::{StreamId, StreamInput, StreamOperation};
use thane_engine::roster::MemberIndex;
use thane_engine::wire::LamportTime;
use thane_engine::wire::coordinate::Coordinate;
use thane_engine::wire::keyring::Keyring;
use thane_engine::wire::packet::{Assembler, Envelope};
use thane_engine::wire::serf::UserEvent;

/// A ping as a datagram.
fn ping_packet(envelope: &Envelope) -> Vec<u8> {
    let (mut assembler, mut out) = (Assembler::default(), Vec::new());
    assembler.begin(1400 - envelope.overhead());
    assembler.push(|out| ping("node-00001").encode(out));
    assembler.finish(&mut out, envelope, false, [7; 12]);
    out
}

/// Hands the same packet in again and again; `answers` datagrams come of it each time.
fn receive(c: &mut Criterion, name: &str, mut bench: Bench, packet: &[u8], answers: usize) {
    let mut received = packet.to_vec();
    bench.receive(&mut received);
    bench.clear();
    c.bench_function(name, |b| {
        b.iter(|| {
            received.copy_from_slice(black_box(packet));
            bench.receive(&mut received);
            assert_eq!(bench.ctx.out.datagrams.len(), answers);
            bench.ctx.out.clear_datagrams();
        });
    });
    assert_eq!(bench.node.stats().all_drops().count(), 0, "{name}: nothing is refused");
}

fn ping_to_ack(c: &mut Criterion) {
    for (name, key) in [("ping to ack", None), ("ping to ack, aes-128", Some(vec![1; 16]))] {
        let envelope = envelope(key.as_deref(), false);
        let bench = Bench::new(|raw| raw.keys.extend(key));
        receive(c, name, bench, &ping_packet(&envelope), 1);
    }
}

/// The cost of a known alive must not depend on how many members there are.
fn known_alive(c: &mut Criterion) {
    for count in [10, 10_000] {
        let all = members(count);
        // Learnt by a join, so that nothing waits to be gossiped.
        let mut bench = joining();
        bench.finish_join(&push_pull(&all));
        let mut packet = Vec::new();
        gossip_packet(&mut Assembler::default(), &envelope(None, false), &all[all.len() - 10..], &mut packet);
        receive(c, &format!("ten known alive among {count}"), bench.0, &packet, 0);
    }
}

fn duplicate_event(c: &mut Criterion) {
    let mut packet = vec![8];
    let payload = vec![b'x'; 100];
    UserEvent { ltime: LamportTime(5), name: "deploy", payload: payload.into(), coalesce: false }
        .encode(&mut packet);
    receive(c, "duplicate user event", Bench::new(|_| {}), &packet, 0);
}

/// An ack that carries as many of 1,000 queued broadcasts as fit. The transmit limit is out of reach, so that
/// the queue stays as long as it is.
fn queue_fill(c: &mut Criterion) {
    let packet = ping_packet(&envelope(None, false));
    let endless = || Bench::new(|raw| raw.retransmit_mult = 1_000_000_000);
    let mut news = endless();
    news.learn(&members(1000));
    receive(c, "ack filled from 1000 queued members", news, &packet, 1);
    let mut events = endless();
    for n in 0..1000 {
        let payload = Bytes::from(format!("payload number {n}"));
        let Bench { node, ctx } = &mut events;
        node.user_event(ctx, "deploy", &payload, false).expect("the event is short");
    }
    events.clear();
    receive(c, "ack filled from 1000 queued events", events, &packet, 1);
}

/// A node that opened a stream to join and sent its own state.
struct Joining(Bench, StreamId);

fn joining() -> Joining {
    let mut bench = Bench::new(|_| {});
    let Bench { node, ctx } = &mut bench;
    let target = JoinTarget { label: String::new(), node: None, addr: peer() };
    node.join(ctx, Ticket(1), vec![target], true).expect("it is the first join");
    let id = ctx
        .out
        .streams
        .iter()
        .find_map(|(_, id, operation)| matches!(operation, StreamOperation::Open(_)).then_some(*id))
        .expect("a join opens a stream");
    node.handle_stream(ctx, id, StreamInput::Opened);
    bench.clear();
    Joining(bench, id)
}

impl Joining {
    /// The answer arrives whole and is merged.
    fn finish_join(&mut self, answer: &[u8]) {
        let Joining(Bench { node, ctx }, id) = self;
        node.handle_stream(ctx, *id, StreamInput::Bytes(answer[..].into()));
        merge(&mut self.0);
    }
}

/// Merges what arrived, slice by slice.
fn merge(bench: &mut Bench) {
    let merged = bench.node.stats().push_pulls;
    while bench.node.stats().push_pulls == merged {
        bench.pass(Duration::from_millis(1));
    }
    bench.clear();
}

fn merges(c: &mut Criterion) {
    let all: Vec<Member> = members(10_000);
    let frame = push_pull(&all);
    let mut group = c.benchmark_group("push/pull of 10000");
    group.throughput(Throughput::Elements(10_000)).sample_size(20).measurement_time(Duration::from_secs(5));
    group.bench_function("answer to a join, all new", |b| {
        b.iter_batched_ref(joining, |joining| joining.finish_join(&frame), BatchSize::PerIteration);
    });
    let mut knowing = joining();
    knowing.finish_join(&frame);
    let (mut bench, mut streams) = (knowing.0, 0);
    group.bench_function("request, all known, and the answer of 10000", |b| {
        b.iter(|| {
            let id = StreamId::accepted(streams);
            streams += 1;
            let Bench { node, ctx } = &mut bench;
            node.handle_stream(ctx, id, StreamInput::Accepted(peer()));
            node.handle_stream(ctx, id, StreamInput::Bytes(black_box(&frame[..]).into()));
            merge(&mut bench);
        });
    });
    group.finish();
    assert_eq!(bench.node.view().table_count(), 10_000);
}

/// The list of 10,000 members: whole, and the slice that an ack may have to wait for.
fn listing(c: &mut Criterion) {
    let mut knowing = joining();
    knowing.finish_join(&push_pull(&members(10_000)));
    let Joining(Bench { node, ctx }, _) = knowing;
    let mut slice = Vec::new();
    c.bench_function("slice of the list of 10000 members", |b| {
        b.iter(|| {
            slice.clear();
            node.members_slice(&ctx, black_box(MemberIndex(1000)), &mut slice);
        });
    });
    assert_eq!(slice.len(), 512);
    c.bench_function("list of 10000 members", |b| b.iter(|| node.members(&ctx).len()));
}

/// What is paid for once: a key's schedule, the buffer of the first user event, the first coordinate.
fn first_uses(c: &mut Criterion) {
    c.bench_function("key schedule, aes-256", |b| {
        b.iter(|| Keyring::new(&[vec![black_box(7); 32]]).expect("a key has 32 bytes"));
    });
    let (mut events, payload) = (Vec::new(), vec![b'x'; 100]);
    events.push(8);
    UserEvent { ltime: LamportTime(5), name: "deploy", payload: payload.into(), coalesce: false }
        .encode(&mut events);
    c.bench_function("first user event of a node", |b| {
        b.iter_batched_ref(
            || (Bench::new(|_| {}), events.clone()),
            |(bench, packet)| bench.receive(packet),
            BatchSize::PerIteration,
        );
    });
    let mut moved = Coordinate::default();
    c.bench_function("coordinate, encode and decode", |b| {
        let mut out = Vec::with_capacity(130);
        b.iter(|| {
            out.clear();
            moved.encode(&mut out);
            moved = Coordinate::decode(black_box(&out)).expect("it was just encoded");
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = ping_to_ack, known_alive, duplicate_event, queue_fill, merges, listing, first_uses
}
criterion_main!(benches);
