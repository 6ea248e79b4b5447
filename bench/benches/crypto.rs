//! AES-GCM by crate aes-gcm (instructions of the processor chosen at run time) and by ring, at the sizes of a ping, a
//! small packet, a full one and a piece of a stream; and what sealing is of a whole packet's way.

mod common;

use std::hint::black_box;

use crate::common::{ProcessorTime, criterion};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit, Tag};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, UnboundKey};
use thane_engine::fixtures::{Lone, envelope, packet_of_bytes, ping_packet};
use thane_engine::wire::keyring::BACKEND;

const SIZES: [usize; 4] = [60, 300, 1_400, 65_536];
const NONCE: [u8; 12] = [5; 12];

fn ours<C: AeadInOut + KeyInit>(c: &mut Criterion<ProcessorTime>, name: &str, key: &[u8]) {
    let cipher = C::new_from_slice(key).expect("the key has the cipher's size");
    let nonce: &aes_gcm::aead::Nonce<C> = (&NONCE[..]).try_into().expect("GCM's nonce has 12 bytes");
    let mut group = c.benchmark_group(name);
    for size in SIZES {
        let mut buffer = vec![7; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("seal, aes-gcm", size), |b| {
            b.iter(|| cipher.encrypt_inout_detached(nonce, b"", black_box(&mut buffer[..]).into()));
        });
        let tag = cipher.encrypt_inout_detached(nonce, b"", (&mut buffer[..]).into()).expect("it is short");
        let (sealed, mut opened) = (buffer.clone(), buffer.clone());
        group.bench_function(BenchmarkId::new("open, aes-gcm", size), |b| {
            b.iter(|| {
                opened.copy_from_slice(&sealed);
                cipher
                    .decrypt_inout_detached(nonce, b"", black_box(&mut opened[..]).into(), &tag)
                    .expect("sealed above");
            });
        });
    }
    group.finish();
}

fn rings(
    c: &mut Criterion<ProcessorTime>,
    name: &str,
    algorithm: &'static ring::aead::Algorithm,
    key: &[u8],
) {
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key).expect("the key has the cipher's size"));
    let nonce = || ring::aead::Nonce::assume_unique_for_key(NONCE);
    let mut group = c.benchmark_group(name);
    for size in SIZES {
        let mut buffer = vec![7; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("seal, ring", size), |b| {
            b.iter(|| key.seal_in_place_separate_tag(nonce(), Aad::empty(), black_box(&mut buffer)));
        });
        let tag = key.seal_in_place_separate_tag(nonce(), Aad::empty(), &mut buffer).expect("it is short");
        buffer.extend_from_slice(tag.as_ref());
        let (sealed, mut opened) = (buffer.clone(), buffer.clone());
        group.bench_function(BenchmarkId::new("open, ring", size), |b| {
            b.iter(|| {
                opened.copy_from_slice(&sealed);
                let plain = key.open_in_place(nonce(), Aad::empty(), black_box(&mut opened));
                black_box(plain.expect("sealed above"));
            });
        });
    }
    group.finish();
}

fn ciphers(c: &mut Criterion<ProcessorTime>) {
    // Both seal to the same bytes, or they would not do the same work.
    let (mut one, mut other) = ([7; 60], [7; 60]);
    let cipher = Aes128Gcm::new_from_slice(&[1; 16]).expect("16 bytes");
    let tag: Tag =
        cipher.encrypt_inout_detached((&NONCE).into(), b"", (&mut one[..]).into()).expect("it is short");
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[1; 16]).expect("16 bytes"));
    let nonce = ring::aead::Nonce::assume_unique_for_key(NONCE);
    let rings = key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut other).expect("it is short");
    assert!(one == other && tag.as_slice() == rings.as_ref(), "the two agree");

    ours::<Aes128Gcm>(c, "aes-128-gcm", &[1; 16]);
    self::rings(c, "aes-128-gcm", &AES_128_GCM, &[1; 16]);
    ours::<Aes256Gcm>(c, "aes-256-gcm", &[1; 32]);
    self::rings(c, "aes-256-gcm", &AES_256_GCM, &[1; 32]);
}

/// A datagram's whole way through a node, with and without a key: the difference is what sealing is of it.
fn whole_way(c: &mut Criterion<ProcessorTime>) {
    let mut group = c.benchmark_group(format!("whole way through a node, {BACKEND}"));
    for (name, key) in [("plain", None), ("aes-128", Some(&[1; 16][..])), ("aes-256", Some(&[1; 32][..]))] {
        let envelope = envelope(key);
        let packets = [
            ("ping to ack", ping_packet(&envelope, "node-00001")),
            ("duplicate event of 1,400 bytes", packet_of_bytes(&envelope, 1_400, false)),
        ];
        for (what, packet) in packets {
            let mut lone = Lone::quiet(|raw| raw.keys.extend(key.map(<[u8]>::to_vec)));
            let mut received = packet.clone();
            group.bench_function(BenchmarkId::new(what, name), |b| {
                b.iter(|| {
                    received.copy_from_slice(black_box(&packet));
                    lone.receive(&mut received);
                    lone.ctx.out.clear();
                });
            });
            assert_eq!(lone.node.stats().all_drops().count(), 0, "nothing is refused");
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = ciphers, whole_way
}
criterion_main!(benches);
