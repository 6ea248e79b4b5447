//! Bytes to types and back: packets, pings, sealing, LZW. Opening works in place, so each opened packet is
//! copied first; the bench `copy` measures that alone.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use thane_engine::fixtures::{envelope, gossip_packet, members, ping};
use thane_engine::wire::envelope::Envelope;
use thane_engine::wire::packet::{self, Assembler, Scratch};
use thane_engine::wire::{Message, lzw};

/// Keys of AES-128 and AES-256.
const KEYS: [(&str, Option<&[u8]>); 3] =
    [("plain", None), ("aes-128", Some(&[1; 16])), ("aes-256", Some(&[1; 32]))];

/// More alive messages than a packet within the size budget holds: only longer ones are compressed.
const LONG: u32 = 20;

fn packet_of(count: u32, envelope: &Envelope) -> Vec<u8> {
    let mut out = Vec::new();
    gossip_packet(&mut Assembler::default(), envelope, &members(count), &mut out);
    out
}

fn gossip(c: &mut Criterion) {
    let members = members(10);
    let mut group = c.benchmark_group("gossip of ten alive");
    group.throughput(Throughput::Elements(10));
    for (name, key) in KEYS {
        let envelope = envelope(key);
        let packet = packet_of(10, &envelope);
        let mut assembler = Assembler::default();
        let mut out = Vec::new();
        group.bench_function(format!("encode {name}"), |b| {
            b.iter(|| {
                out.clear();
                gossip_packet(&mut assembler, &envelope, black_box(&members), &mut out);
            });
        });
        let (mut received, mut scratch) = (packet.clone(), Scratch::default());
        group.bench_function(format!("decode {name}"), |b| {
            b.iter(|| {
                received.copy_from_slice(black_box(&packet));
                decode(&envelope, &mut received, &mut scratch, 10);
            });
        });
    }
    let packet = packet_of(10, &envelope(None));
    let mut received = packet.clone();
    group.bench_function("copy", |b| {
        b.iter(|| {
            received.copy_from_slice(black_box(&packet));
            black_box(&mut received);
        });
    });
    group.finish();
}

fn decode(envelope: &Envelope, bytes: &mut [u8], scratch: &mut Scratch, expected: usize) {
    let plain = envelope.open(bytes).expect("the packet was sealed for this envelope");
    let mut messages = 0;
    packet::for_each_message(plain, scratch, &mut |message| {
        black_box(message.expect("the packet holds only good messages"));
        messages += 1;
    });
    assert_eq!(messages, expected);
}

fn pings(c: &mut Criterion) {
    let mut group = c.benchmark_group("ping");
    let ping = ping("node-00001");
    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    ping.encode(&mut bytes);
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            black_box(&ping).encode(&mut out);
        });
    });
    group.bench_function("decode", |b| b.iter(|| black_box(Message::decode(black_box(&bytes)))));
    group.finish();
}

fn compression(c: &mut Criterion) {
    let plain = packet_of(LONG, &envelope(None));
    let compressing = Envelope { compress: true, ..envelope(None) };
    let packed = packet_of(LONG, &compressing);
    assert!(packed.len() < plain.len(), "a packet beyond the size budget is compressed");
    let mut group = c.benchmark_group("lzw of twenty alive");
    group.throughput(Throughput::Bytes(plain.len() as u64));
    let (mut stream, mut raw) = (Vec::new(), Vec::new());
    lzw::compress(&plain, &mut stream);
    let mut out = Vec::new();
    group.bench_function("compress", |b| {
        b.iter(|| {
            out.clear();
            lzw::compress(black_box(&plain), &mut out);
        });
    });
    group.bench_function("decompress", |b| {
        b.iter(|| {
            raw.clear();
            lzw::decompress(black_box(&stream), plain.len(), &mut raw).expect("it was compressed above");
        });
    });
    let (mut received, mut scratch) = (packed.clone(), Scratch::default());
    group.bench_function("decode packet", |b| {
        b.iter(|| {
            received.copy_from_slice(black_box(&packed));
            decode(&compressing, &mut received, &mut scratch, LONG as usize);
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = gossip, pings, compression
}
criterion_main!(benches);
