//! What a node's everyday inputs allocate (nothing), and what a member costs in memory.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use thane_engine::config::DisseminationPolicy;
use thane_engine::context::StreamInput;
use thane_engine::fixtures::{self, Joining, Lone, Member};
use thane_engine::wire::envelope::Envelope;
use thane_engine::wire::packet::Assembler;
use thane_engine::wire::{Ack, Message, SeqNo};

/// A quiet node, and the envelope of its packets.
struct Alone {
    lone: Lone,
    envelope: Envelope,
}

impl Alone {
    fn new(key: Option<&[u8]>, retransmit_mult: u32) -> Alone {
        let lone = Lone::quiet(|raw| {
            raw.retransmit_mult = retransmit_mult;
            raw.keys.extend(key.map(<[u8]>::to_vec));
        });
        Alone { lone, envelope: fixtures::envelope(key) }
    }

    fn packet(&self, messages: &[Vec<u8>]) -> Vec<u8> {
        let (mut assembler, mut packet) = (Assembler::default(), Vec::new());
        assembler.begin(1400);
        messages.iter().for_each(|message| assembler.push(|out| out.extend_from_slice(message)));
        assembler.finish(&mut packet, &self.envelope, true, [7; 12]);
        packet
    }

    /// Hands a datagram in and forgets the outputs, as a driver does. Returns datagrams sent.
    fn receive(&mut self, packet: &mut [u8]) -> usize {
        self.lone.receive(packet);
        self.lone.clear()
    }

    fn pass(&mut self, span: Duration) -> usize {
        self.lone.pass(span);
        self.lone.clear()
    }

    /// Allocations of the last of several rounds of `input`, which must bring about `sent` datagrams each.
    fn allocations(&mut self, sent: usize, mut input: impl FnMut(&mut Alone) -> usize) -> u64 {
        // The first rounds grow the buffers to what they need.
        for _ in 0..32 {
            assert_eq!(input(self), sent);
        }
        let measured = allocation_counter::measure(|| {
            for _ in 0..32 {
                assert_eq!(input(self), sent);
            }
        });
        measured.count_total
    }

    /// Allocations of receiving these messages in one packet.
    fn of_packet(&mut self, messages: &[Vec<u8>], sent: usize) -> u64 {
        let packet = self.packet(messages);
        let mut received = packet.clone();
        self.allocations(sent, |alone| {
            received.copy_from_slice(&packet);
            alone.receive(&mut received)
        })
    }
}

/// Encoded alive messages of ten members.
fn ten_alive() -> Vec<Vec<u8>> {
    let encoded = |member: Member| {
        let mut out = Vec::new();
        member.alive().encode(&mut out);
        out
    };
    (10..20).map(|n| encoded(Member::new(n))).collect()
}

fn ping() -> Vec<u8> {
    let mut out = Vec::new();
    fixtures::ping("node-00001").encode(&mut out);
    out
}

fn event() -> Vec<u8> {
    let mut out = Vec::new();
    fixtures::event(5, 100, &mut out);
    out
}

#[test]
fn what_a_node_does_all_day_allocates_nothing() {
    for key in [None, Some(&[9; 16][..])] {
        let mut alone = Alone::new(key, 4);
        let known = ten_alive();
        let mut learn = alone.packet(&known);
        alone.receive(&mut learn);
        let mut ack = Vec::new();
        Ack { seq: SeqNo(3), payload: (&[1, 2, 3][..]).into(), extension: None }.encode(&mut ack);
        // Long enough for all gossip about the members to be over.
        alone.pass(Duration::from_secs(60));
        assert_eq!(alone.of_packet(&[ping()], 1), 0, "ping to ack, key {key:?}");
        assert_eq!(alone.of_packet(&[ack], 0), 0, "an ack nobody waits for");
        assert_eq!(alone.of_packet(&known, 0), 0, "ten known alive");
        assert_eq!(alone.of_packet(&[event()], 0), 0, "a user event, new once and then known");
    }
}

#[test]
fn gossip_and_piggyback_allocate_nothing() {
    // So many transmissions that the messages outlast the test.
    let mut alone = Alone::new(None, 1_000);
    let known = ten_alive();
    let mut learn = alone.packet(&known);
    alone.receive(&mut learn);
    let ping = ping();
    let mut received = ping.clone();
    let allocated = alone.allocations(4, |alone| {
        let gossip = alone.pass(Duration::from_millis(200));
        received.copy_from_slice(&ping);
        alone.lone.receive(&mut received);
        assert!(alone.lone.ctx.out.datagrams[0].range.len() > 1_000, "the ack carries gossip");
        gossip + alone.lone.clear()
    });
    assert_eq!(allocated, 0);
}

/// Allocations by events that are new, from the first sight to the last transmission, once the buffers have grown.
fn of_new_events(policy: DisseminationPolicy) -> u64 {
    let mut lone = Lone::quiet(|raw| raw.dissemination = policy);
    lone.learn(&fixtures::members(60));
    lone.pass(Duration::from_secs(60));
    lone.clear();
    let packets: Vec<Vec<u8>> = (0..1_200)
        .map(|ltime| {
            let mut packet = Vec::new();
            fixtures::event(ltime, 100, &mut packet);
            packet
        })
        .collect();
    let at_once = if policy == DisseminationPolicy::Eager { 1..=64 } else { 0..=0 };
    let mut hear = |packets: &[Vec<u8>]| {
        for packet in packets {
            lone.receive(&mut packet.clone());
            assert!(at_once.contains(&lone.clear()), "forwarded at first sight, or in the rounds");
            lone.receive(&mut packet.clone());
            (0..5).for_each(|_| lone.pass(Duration::from_millis(400)));
            lone.clear();
        }
    };
    // Each Lamport time has a slot of its own, which its first event makes.
    hear(&packets[..600]);
    allocation_counter::measure(|| hear(&packets[600..])).count_total
}

#[test]
fn forwarding_an_event_allocates_no_more_than_queueing_it() {
    assert_eq!(of_new_events(DisseminationPolicy::Eager), of_new_events(DisseminationPolicy::Classic));
}

/// The tags `dc=east`, `rack=r12` and `role=web`, encoded.
const META: &[u8] = b"\xff\x83\xa2dc\xa4east\xa4rack\xa3r12\xa4role\xa3web";

/// The answer to a join: `count` members with names of 20 bytes and three tags.
fn push_pull(count: u32) -> Vec<u8> {
    let member = |n: u32| {
        let [_, _, high, low] = n.to_be_bytes();
        Member::at(format!("member-number-{n:06}"), SocketAddr::from(([10, 34, high, low], 7946)), META)
    };
    fixtures::push_pull(&(0..count).map(member).collect::<Vec<_>>())
}

#[test]
fn a_member_costs_at_most_220_bytes() {
    const MEMBERS: usize = 50_000;
    let frame = push_pull(MEMBERS as u32);
    let Joining { mut lone, stream } = Joining::default();
    let measured = allocation_counter::measure(|| {
        for part in frame.chunks(16 * 1024) {
            lone.node.handle_stream(&mut lone.ctx, stream, StreamInput::Bytes(part.into()));
        }
        while lone.node.view().table_count() < MEMBERS + 1 {
            lone.pass(Duration::from_millis(1));
            lone.clear();
        }
        lone.node.handle_stream(&mut lone.ctx, stream, StreamInput::Finished);
        // The decoder and its frame go with the stream.
        lone.pass(Duration::from_secs(60));
        lone.clear();
    });
    let each = measured.bytes_current as f64 / MEMBERS as f64;
    println!("{each:.0} bytes a member, {} at the peak", measured.bytes_max / MEMBERS as u64);
    assert!(each <= 220.0, "{each:.0} bytes a member");
}

#[test]
fn the_messages_of_these_tests_are_what_they_seem() {
    assert!(matches!(Message::decode(&ping()), Ok(Message::Ping(ping)) if ping.node == "node-00001"));
    assert!(ten_alive().iter().all(|one| matches!(Message::decode(one), Ok(Message::Alive(_)))));
    assert!(matches!(Message::decode(&event()), Ok(Message::User(_))));
}
