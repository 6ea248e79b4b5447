//! What is counted. Each case prepares for twice its runs and then does as many as it is told, so that what the
//! preparation costs is in both counts and falls out of their difference.

use std::hint::black_box;
use std::time::Duration;

use thane_bench::{
    Bench, Joining, Member, envelope, event_packet, gossip_packet, members, ping_packet, push_pull,
};
use thane_engine::random::{Permutation, Random};
use thane_engine::roster::MemberIndex;
use thane_engine::wire::Message;
use thane_engine::wire::keyring::Keyring;
use thane_engine::wire::packet::Assembler;
use thane_engine::wire::stream::{Role, StreamDecoder, encode_push_pull_header};

/// Something that is counted.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// How often it is done; also twice as often.
    pub(crate) runs: usize,
    pub(crate) body: fn(usize),
}

/// All cases.
pub(crate) const CASES: [Case; 22] = [
    Case { name: "ping to ack", runs: 500, body: |runs| receive(Bench::new(|_| {}), ping(None), 1, runs) },
    Case { name: "ping to ack, AES-128", runs: 500, body: ping_sealed },
    Case { name: "ten known alive", runs: 200, body: known_alive },
    Case {
        name: "duplicate user event",
        runs: 500,
        body: |runs| receive(Bench::new(|_| {}), event_packet(), 0, runs),
    },
    Case { name: "ack filled from 1,000 queued", runs: 200, body: |runs| filled(1_000, runs) },
    Case { name: "ack filled from 100,000 queued", runs: 200, body: |runs| filled(100_000, runs) },
    Case { name: "gossip round with 1,000 queued", runs: 50, body: gossip_round },
    Case { name: "ten new members, 100,000 queued", runs: 100, body: |runs| queue(0, runs) },
    Case { name: "ten replaced among 100,000 queued", runs: 100, body: |runs| queue(QUEUED, runs) },
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
    Case { name: "slice of a list of 10,000 members", runs: 5, body: list_slice },
];

const KEY: [u8; 16] = [1; 16];

/// The node's alive messages go into packets of ten.
const TEN: usize = 10;

/// Members whose news waits in a full queue.
const QUEUED: u32 = 100_000;

fn ping(key: Option<&[u8]>) -> Vec<u8> {
    ping_packet(&envelope(key, false))
}

/// Hands the same packet in again and again; `answers` datagrams come of it each time.
fn receive(mut bench: Bench, packet: Vec<u8>, answers: usize, runs: usize) {
    let mut received = packet.clone();
    for _ in 0..=runs {
        received.copy_from_slice(black_box(&packet));
        bench.receive(&mut received);
        assert!(bench.ctx.out.datagrams.len() == answers || bench.node.stats().datagrams_received == 1);
        bench.clear();
    }
    assert_eq!(bench.node.stats().all_drops().count(), 0, "nothing is refused");
}

fn ping_sealed(runs: usize) {
    let bench = Bench::new(|raw| raw.keys.push(KEY.to_vec()));
    receive(bench, ping(Some(&KEY)), 1, runs);
}

fn packet_of(members: &[Member]) -> Vec<u8> {
    let mut packet = Vec::new();
    gossip_packet(&mut Assembler::default(), &envelope(None, false), members, &mut packet);
    packet
}

fn known_alive(runs: usize) {
    let all = members(1_000);
    receive(Joining::knowing(&all), packet_of(&all[all.len() - TEN..]), 0, runs);
}

fn filled(queued: u32, runs: usize) {
    let mut bench = Bench::endless();
    bench.learn(&members(queued));
    receive(bench, ping(None), 1, runs);
}

fn gossip_round(runs: usize) {
    let mut bench = Bench::endless();
    bench.learn(&members(1_000));
    for _ in 0..=runs {
        bench.pass(Duration::from_millis(200));
        bench.clear();
    }
    assert_eq!(bench.node.stats().datagrams_sent, 3 * (runs as u64 + 1), "three packets a round");
}

/// News of ten members comes into a full queue: of new ones, or of the first `known` once more.
fn queue(known: u32, runs: usize) {
    let mut bench = Bench::endless();
    bench.learn(&members(QUEUED));
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
        assembler.finish(&mut packet, &envelope(None, false), true, [0; 12]);
        bench.receive(&mut packet);
        bench.clear();
    }
    let expected = QUEUED as usize + if known == 0 { runs * TEN } else { 0 };
    assert_eq!(bench.node.view().table_count(), expected);
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
        thane_bench::ping(black_box("node-00001")).encode(&mut out);
    }
    black_box(out);
}

fn decode_ping(runs: usize) {
    let mut out = Vec::new();
    thane_bench::ping("node-00001").encode(&mut out);
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
    let (frame, envelope) = (push_pull(&members(1)), envelope(None, false));
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
    // What it costs to free their memory is not the merge's.
    std::mem::forget(joining);
}

fn merge_known(runs: usize) {
    let all = members(1_000);
    let (mut bench, frame) = (Joining::knowing(&all), push_pull(&all));
    (0..runs as u32).for_each(|number| bench.push_pull(number, black_box(&frame)));
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

fn list_slice(runs: usize) {
    let Bench { node, ctx } = Joining::knowing(&members(10_000));
    let mut slice = Vec::with_capacity(1_024);
    for _ in 0..runs {
        slice.clear();
        node.members_slice(&ctx, black_box(MemberIndex(1_000)), &mut slice);
    }
    assert!(slice.len() > 100, "the list goes on");
}
