//! The counted cases. Each case prepares for twice its runs and then does the number of runs that it gets, so that
//! the cost of the preparation is in both counts and falls out of their difference.

use std::hint::black_box;
use std::time::Duration;

use thane_engine::fixtures::{
    self, Joining, Lone, Member, envelope, event_packet, gossip_packet, members, ping_packet, push_pull,
};
use thane_engine::random::{Permutation, Random};
use thane_engine::wire::Message;
use thane_engine::wire::keyring::Keyring;
use thane_engine::wire::packet::Assembler;
use thane_engine::wire::stream::{Role, StreamDecoder, encode_push_pull_header};

/// A counted operation.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Runs of the first count; the second count has twice as many.
    pub(crate) runs: usize,
    /// Does the operation that many times.
    pub(crate) body: fn(usize),
}

/// All cases.
pub(crate) const CASES: [Case; 22] = [
    Case { name: "ping to ack", runs: 500, body: |runs| receive(Lone::quiet(|_| {}), ping(None), 1, runs) },
    Case { name: "ping to ack, AES-128", runs: 500, body: ping_sealed },
    Case { name: "ten known alive", runs: 200, body: known_alive },
    Case {
        name: "duplicate user event",
        runs: 500,
        body: |runs| receive(Lone::quiet(|_| {}), event_packet(), 0, runs),
    },
    Case { name: "ack filled from 1,000 queued", runs: 200, body: |runs| filled(1_000, runs) },
    Case { name: "ack filled from 30,000 queued", runs: 200, body: |runs| filled(30_000, runs) },
    Case { name: "gossip round with 1,000 queued", runs: 50, body: gossip_round },
    Case { name: "ten new members, 30,000 queued", runs: 100, body: |runs| queue(0, runs) },
    Case { name: "ten replaced among 30,000 queued", runs: 100, body: |runs| queue(QUEUED, runs) },
    Case { name: "encode alive", runs: 1_000, body: encode_alive },
    Case { name: "decode alive", runs: 1_000, body: decode_alive },
    Case { name: "encode ping", runs: 1_000, body: encode_ping },
    Case { name: "decode ping", runs: 1_000, body: decode_ping },
    Case { name: "encode push/pull header", runs: 1_000, body: encode_header },
    Case { name: "decode push/pull of one member", runs: 200, body: decode_push_pull },
    Case { name: "merge of 1,000 new members", runs: 2, body: merge_new },
    Case { name: "merge of 1,000 known members and the answer", runs: 5, body: merge_known },
    Case { name: "seal 100 bytes, AES-128", runs: 500, body: |runs| seal(100, runs) },
    Case { name: "seal 1,400 bytes, AES-128", runs: 200, body: |runs| seal(1_400, runs) },
    Case { name: "open 1,400 bytes, AES-128", runs: 200, body: open },
    Case { name: "next of a probe order of 10,000", runs: 2_000, body: probe_order },
    Case { name: "list of 10,000 members", runs: 2, body: list },
];

const KEY: [u8; 16] = [1; 16];

/// Alive messages in a packet.
const TEN: usize = 10;

/// Members whose broadcasts wait in a full queue.
const QUEUED: u32 = 30_000;

fn ping(key: Option<&[u8]>) -> Vec<u8> {
    ping_packet(&envelope(key), "node-00001")
}

/// Hands the same packet in again and again; the node answers each with `answers` datagrams.
fn receive(mut lone: Lone, packet: Vec<u8>, answers: usize, runs: usize) {
    let mut received = packet.clone();
    for _ in 0..=runs {
        received.copy_from_slice(black_box(&packet));
        lone.receive(&mut received);
        assert!(lone.ctx.out.datagrams.len() == answers || lone.node.stats().datagrams_received == 1);
        lone.ctx.out.clear();
    }
    assert_eq!(lone.node.stats().all_drops().count(), 0, "nothing is refused");
}

fn ping_sealed(runs: usize) {
    let lone = Lone::quiet(|raw| raw.keys.push(KEY.to_vec()));
    receive(lone, ping(Some(&KEY)), 1, runs);
}

fn packet_of(members: &[Member]) -> Vec<u8> {
    let mut packet = Vec::new();
    gossip_packet(&mut Assembler::default(), &envelope(None), members, &mut packet);
    packet
}

fn known_alive(runs: usize) {
    let all = members(1_000);
    receive(Joining::knowing(&all), packet_of(&all[all.len() - TEN..]), 0, runs);
}

fn filled(queued: u32, runs: usize) {
    let mut lone = Lone::endless();
    lone.learn(&members(queued));
    receive(lone, ping(None), 1, runs);
}

fn gossip_round(runs: usize) {
    // Without extensions: a growing view sends pings of its own.
    let mut lone = Lone::quiet(|raw| {
        raw.retransmit_mult = 1_000_000_000;
        raw.extensions = false;
    });
    lone.learn(&members(1_000));
    for _ in 0..=runs {
        lone.pass(Duration::from_millis(200));
        lone.ctx.out.clear();
    }
    assert_eq!(lone.node.stats().datagrams_sent, 3 * (runs as u64 + 1), "three packets a round");
}

/// Alive messages of ten members enter a full queue: of new members, or, if `known` is not 0, of queued ones again.
fn queue(known: u32, runs: usize) {
    let mut lone = Lone::endless();
    lone.learn(&members(QUEUED));
    let mut assembler = Assembler::default();
    for run in 0..runs {
        assembler.begin(1400);
        for n in 0..TEN {
            // The first is the node itself.
            let n = (run * TEN + n) as u32 + 2;
            let member = Member::new(if known == 0 { QUEUED + n } else { n });
            assembler.push(|out| member.alive_again(2).encode(out));
        }
        let mut packet = Vec::new();
        assembler.finish(&mut packet, &envelope(None), true, [0; 12]);
        lone.receive(&mut packet);
        lone.ctx.out.clear();
    }
    let expected = QUEUED as usize + if known == 0 { runs * TEN } else { 0 };
    assert_eq!(lone.node.view().table_count(), expected);
}

fn encode_alive(runs: usize) {
    let (member, mut out) = (Member::new(7), Vec::new());
    for _ in 0..runs {
        out.clear();
        black_box(&member).alive().encode(&mut out);
    }
    black_box(out);
}

fn decode(bytes: &[u8], runs: usize) {
    for _ in 0..runs {
        black_box(Message::decode(black_box(bytes))).expect("it was just encoded");
    }
}

fn decode_alive(runs: usize) {
    let mut out = Vec::new();
    Member::new(7).alive().encode(&mut out);
    decode(&out, runs);
}

fn encode_ping(runs: usize) {
    let mut out = Vec::new();
    for _ in 0..runs {
        out.clear();
        fixtures::ping(black_box("node-00001")).encode(&mut out);
    }
    black_box(out);
}

fn decode_ping(runs: usize) {
    let mut out = Vec::new();
    fixtures::ping("node-00001").encode(&mut out);
    decode(&out, runs);
}

fn encode_header(runs: usize) {
    let mut out = Vec::new();
    for _ in 0..runs {
        out.clear();
        encode_push_pull_header(black_box(10_000), black_box(70_000), false, &mut out);
    }
    black_box(out);
}

fn decode_push_pull(runs: usize) {
    let (frame, envelope) = (push_pull(&members(1)), envelope(None));
    for _ in 0..runs {
        let mut decoder = StreamDecoder::new(Role::Listener);
        decoder.feed(black_box(&frame)).expect("it is short");
        black_box(decoder.poll(&envelope).expect("it is whole")).expect("it is a message");
    }
}

fn merge_new(runs: usize) {
    let frame = push_pull(&members(1_000));
    let mut joining: Vec<Joining> = (0..4).map(|_| Joining::default()).collect();
    joining[..runs].iter_mut().for_each(|joining| joining.finish(black_box(&frame)));
    // Freeing their memory is not part of the merge.
    std::mem::forget(joining);
}

fn merge_known(runs: usize) {
    let all = members(1_000);
    let (mut lone, frame) = (Joining::knowing(&all), push_pull(&all));
    (0..runs as u32).for_each(|number| lone.push_pull(number, black_box(&frame)));
}

fn seal(bytes: usize, runs: usize) {
    let keyring = Keyring::new(&[KEY.to_vec()]).expect("a key has 16 bytes");
    let mut out = Vec::with_capacity(2_000);
    for _ in 0..runs {
        out.clear();
        out.resize(bytes, 7);
        keyring.seal(1, [5; 12], b"", black_box(&mut out), 0);
    }
}

fn open(runs: usize) {
    let keyring = Keyring::new(&[KEY.to_vec()]).expect("a key has 16 bytes");
    let mut sealed = vec![7; 1_400];
    keyring.seal(1, [5; 12], b"", &mut sealed, 0);
    let mut received = sealed.clone();
    for _ in 0..runs {
        received.copy_from_slice(black_box(&sealed));
        black_box(keyring.open(b"", &mut received).expect("it was sealed above"));
    }
}

fn probe_order(runs: usize) {
    let order = Permutation::new(10_000, &mut Random::new(7));
    (0..runs as u32).for_each(|position| {
        black_box(order.at(black_box(position)));
    });
}

fn list(runs: usize) {
    let Lone { node, mut ctx } = Joining::knowing(&members(10_000));
    let mut listed = 0;
    for _ in 0..runs {
        fixtures::list(&node, &mut ctx, |piece| listed += black_box(piece).iter().count());
    }
    assert_eq!(listed, runs * 10_000, "everybody is listed");
}
