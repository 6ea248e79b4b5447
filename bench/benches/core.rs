//! Whole inputs through the core of one node, as a driver hands them in: from the datagram's bytes to the
//! bytes of the answer.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use thane_engine::config::DisseminationPolicy;
use thane_engine::fixtures::{
    self, Joining, Lone, Member, envelope, event_packet, gossip_packet, members, ping_packet, push_pull,
};
use thane_engine::wire::coordinate::Coordinate;
use thane_engine::wire::keyring::Keyring;
use thane_engine::wire::packet::Assembler;

/// Hands the same packet in again and again; `answers` datagrams come of it each time.
fn receive(c: &mut Criterion, name: &str, mut lone: Lone, packet: &[u8], answers: usize) {
    let mut received = packet.to_vec();
    lone.receive(&mut received);
    lone.ctx.out.clear();
    c.bench_function(name, |b| {
        b.iter(|| {
            received.copy_from_slice(black_box(packet));
            lone.receive(&mut received);
            assert_eq!(lone.ctx.out.datagrams.len(), answers);
            lone.ctx.out.clear_datagrams();
        });
    });
    assert_eq!(lone.node.stats().all_drops().count(), 0, "{name}: nothing is refused");
}

fn ping_to_ack(c: &mut Criterion) {
    for (name, key) in [("ping to ack", None), ("ping to ack, aes-128", Some(vec![1; 16]))] {
        let envelope = envelope(key.as_deref());
        let lone = Lone::quiet(|raw| raw.keys.extend(key));
        receive(c, name, lone, &ping_packet(&envelope, "node-00001"), 1);
    }
}

/// The cost of a known alive must not depend on how many members there are.
fn known_alive(c: &mut Criterion) {
    for count in [10, 10_000] {
        let all = members(count);
        // Learnt by a join, so that nothing waits to be gossiped.
        let lone = Joining::knowing(&all);
        let mut packet = Vec::new();
        gossip_packet(&mut Assembler::default(), &envelope(None), &all[all.len() - 10..], &mut packet);
        receive(c, &format!("ten known alive among {count}"), lone, &packet, 0);
    }
}

fn duplicate_event(c: &mut Criterion) {
    receive(c, "duplicate user event", Lone::quiet(|_| {}), &event_packet(), 0);
}

/// An ack that carries as many of 1,000 queued broadcasts as fit. The transmit limit is out of reach, so that
/// the queue stays as long as it is.
fn queue_fill(c: &mut Criterion) {
    let packet = ping_packet(&envelope(None), "node-00001");
    let mut news = Lone::endless();
    news.learn(&members(1000));
    receive(c, "ack filled from 1000 queued members", news, &packet, 1);
    let mut events = Lone::endless();
    for n in 0..1000 {
        let payload = Bytes::from(format!("payload number {n}"));
        let Lone { node, ctx } = &mut events;
        node.user_event(ctx, "deploy", &payload, false).expect("the event is short");
    }
    events.ctx.out.clear();
    receive(c, "ack filled from 1000 queued events", events, &packet, 1);
}

fn merges(c: &mut Criterion) {
    let all: Vec<Member> = members(10_000);
    let frame = push_pull(&all);
    let mut group = c.benchmark_group("push/pull of 10000");
    group.throughput(Throughput::Elements(10_000)).sample_size(20).measurement_time(Duration::from_secs(5));
    group.bench_function("answer to a join, all new", |b| {
        b.iter_batched_ref(Joining::default, |joining| joining.finish(&frame), BatchSize::PerIteration);
    });
    let (mut lone, mut number) = (Joining::knowing(&all), 0);
    group.bench_function("request, all known, and the answer of 10000", |b| {
        b.iter(|| {
            lone.push_pull(number, black_box(&frame));
            number += 1;
        });
    });
    group.finish();
    assert_eq!(lone.node.view().table_count(), 10_000);
}

/// The shard's whole work for a list of 10,000 members.
fn listing(c: &mut Criterion) {
    let Lone { node, mut ctx } = Joining::knowing(&members(10_000));
    c.bench_function("list of 10000 members", |b| {
        b.iter(|| fixtures::list(&node, &mut ctx, |piece| drop(black_box(piece))));
    });
}

/// An event that is new among 10,000 members: queued for the rounds, or forwarded to some five members as well. What
/// it costs afterwards is not measured.
fn first_sights(c: &mut Criterion) {
    for (name, policy, datagrams) in
        [("classic", DisseminationPolicy::Classic, 0), ("eager", DisseminationPolicy::Eager, 2)]
    {
        let mut lone = Lone::quiet(|raw| raw.dissemination = policy);
        lone.learn(&members(10_000));
        (0..10).for_each(|_| lone.pass(Duration::from_secs(1)));
        lone.ctx.out.clear();
        let (mut ltime, mut packet) = (0, Vec::new());
        c.bench_function(&format!("new user event among 10000, {name}"), |b| {
            b.iter_custom(|runs| {
                let mut took = Duration::ZERO;
                for _ in 0..runs {
                    ltime += 1;
                    packet.clear();
                    fixtures::event(ltime, 100, &mut packet);
                    let mut received = packet.clone();
                    let started = Instant::now();
                    lone.receive(&mut received);
                    took += started.elapsed();
                    assert!(lone.ctx.out.datagrams.len() >= datagrams);
                    (0..20).for_each(|_| lone.pass(Duration::from_millis(200)));
                    lone.ctx.out.clear();
                }
                took
            });
        });
    }
}

/// What is paid for once: a key's schedule, the buffer of the first user event, the first coordinate.
fn first_uses(c: &mut Criterion) {
    c.bench_function("key schedule, aes-256", |b| {
        b.iter(|| Keyring::new(&[vec![black_box(7); 32]]).expect("a key has 32 bytes"));
    });
    c.bench_function("first user event of a node", |b| {
        b.iter_batched_ref(
            || (Lone::quiet(|_| {}), event_packet()),
            |(lone, packet)| lone.receive(packet),
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
    targets = ping_to_ack, known_alive, duplicate_event, first_sights, queue_fill, merges, listing, first_uses
}
criterion_main!(benches);
