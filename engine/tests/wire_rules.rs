//! Rules of the envelope that no captured message shows: what is compressed, and how long a sealed frame may be.
#![allow(clippy::unwrap_used)]

use thane_engine::context::{StreamId, StreamInput};
use thane_engine::drop_reason::DropReason;
use thane_engine::event::Notice;
use thane_engine::fixtures::{Lone, PEER, members, push_pull};
use thane_engine::wire::envelope::Envelope;
use thane_engine::wire::limits::STREAM_DECOMPRESSED_BYTES_MAX;
use thane_engine::wire::packet::Assembler;
use thane_engine::wire::stream::{Role, StreamDecoder, encode_push_pull_header, encode_stream};
use thane_engine::wire::{DecodeError, lzw};

const COMPRESS: u8 = 9;
const MIB: usize = 1 << 20;

fn compressing() -> Envelope {
    Envelope { compress: true, ..Envelope::new(&[]).unwrap() }
}

/// Bytes that LZW makes longer.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn a_stream_is_compressed_even_if_it_gets_longer_unless_compression_is_off() {
    for raw in [noise(3), noise(5_000), vec![7; 5_000]] {
        let encoded = |envelope: &Envelope| {
            let mut out = Vec::new();
            encode_stream(&raw, envelope, Role::Dialler, [0; 12], &mut out);
            out
        };
        let compressed = encoded(&compressing());
        assert_eq!(compressed[0], COMPRESS, "{} bytes", raw.len());
        assert!(raw[0] == 7 || compressed.len() > raw.len(), "it got longer");
        assert_eq!(encoded(&Envelope::new(&[]).unwrap()), raw);
    }
}

#[test]
fn a_packet_is_compressed_only_if_it_is_beyond_the_size_of_packets_and_gets_shorter() {
    let even = vec![1; 3_000];
    for (parts, compressed) in [(&even[..1_400], false), (&even[..1_401], true), (&noise(3_000)[..], false)] {
        let mut assembler = Assembler::default();
        assembler.begin(4_000);
        assembler.push(|out| out.extend_from_slice(parts));
        let mut out = Vec::new();
        let range = assembler.finish(&mut out, &compressing(), false, [0; 12]);
        assert_eq!(out[range.start] == COMPRESS, compressed, "{} bytes", parts.len());
        assert!(range.len() <= parts.len());
    }
}

#[test]
fn a_stream_decompresses_to_40_mib_and_no_more() {
    assert_eq!(STREAM_DECOMPRESSED_BYTES_MAX, 40 * MIB);
    let mut frame = b"\x09\x82\xa4Algo\x00\xa3Buf\xdb".to_vec();
    let mut packed = Vec::new();
    lzw::compress(&vec![0xee; 40 * MIB + 1], &mut packed);
    frame.extend_from_slice(&u32::try_from(packed.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&packed);
    let mut decoder = StreamDecoder::new(Role::Listener);
    decoder.feed(frame).unwrap();
    assert_eq!(decoder.poll(&compressing()).unwrap_err(), DecodeError::DecompressedTooLarge);
}

/// A node with a key, and the reasons for which it refused what arrived on a stream.
fn sealed_node() -> (Lone, Envelope) {
    let keys = vec![vec![7; 16]];
    (Lone::quiet(|raw| raw.keys.clone_from(&keys)), Envelope::new(&keys).unwrap())
}

fn receive(lone: &mut Lone, bytes: &[u8]) -> Vec<DropReason> {
    let id = StreamId::accepted(1);
    lone.node.handle_stream(&mut lone.ctx, id, StreamInput::Accepted(PEER));
    lone.node.handle_stream(&mut lone.ctx, id, StreamInput::Bytes(bytes.into()));
    lone.node.stats().all_drops().map(|(reason, _)| reason).collect()
}

#[test]
fn a_sealed_frame_may_announce_20_mib_and_no_more() {
    for (length, refused) in [(20 * MIB, false), (20 * MIB + 1, true)] {
        let (mut lone, _) = sealed_node();
        let header = [&[10], &u32::try_from(length).unwrap().to_be_bytes()[..]].concat();
        let expected: &[DropReason] = if refused { &[DecodeError::StreamTooLarge.into()] } else { &[] };
        assert_eq!(receive(&mut lone, &header), expected, "{length} bytes");
    }
}

/// The sizes of states that the node warned of.
fn warnings(lone: &mut Lone) -> Vec<(usize, usize)> {
    let notices = std::mem::take(&mut lone.ctx.out.notices).into_iter();
    let large = |(_, notice)| match notice {
        Notice::LargeState { bytes, bytes_max } => Some((bytes, bytes_max)),
        _ => None,
    };
    notices.filter_map(large).collect()
}

#[test]
fn a_sealed_state_beyond_60_percent_of_the_limit_is_merged_with_a_warning() {
    let user_bytes = 20 * MIB / 10 * 6;
    let (mut lone, envelope) = sealed_node();
    let mut raw = Vec::new();
    encode_push_pull_header(1, user_bytes, false, &mut raw);
    members(2)[1].state().encode(&mut raw);
    // No state of serf's: it is refused, and the member is merged all the same.
    raw.resize(raw.len() + user_bytes, 77);
    let mut frame = Vec::new();
    encode_stream(&raw, &envelope, Role::Dialler, [0; 12], &mut frame);
    receive(&mut lone, &frame);
    assert_eq!(warnings(&mut lone), [(frame.len(), 20 * MIB)]);
    lone.pass(std::time::Duration::from_millis(10));
    assert_eq!(lone.node.members(&lone.ctx).len(), 2);

    let (mut lone, envelope) = sealed_node();
    let mut frame = Vec::new();
    encode_stream(&push_pull(&members(3)), &envelope, Role::Dialler, [0; 12], &mut frame);
    assert_eq!(receive(&mut lone, &frame), []);
    assert_eq!(warnings(&mut lone), []);
}
