//! Hostile and broken bytes: nothing panics, no cap is exceeded, every refusal is counted under its own
//! reason.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{decode, envelope, vectors};
use thane_engine::config::RawConfig;
use thane_engine::context::{Context, StreamId, StreamInput};
use thane_engine::drop_reason::DropReason;
use thane_engine::event::Notice;
use thane_engine::fixtures::{self, Lone, PEER};
use thane_engine::node::Node;
use thane_engine::wire::keyring::Keyring;
use thane_engine::wire::limits::{
    DATAGRAM_DECOMPRESSED_BYTES_MAX, DATAGRAM_MESSAGES_MAX, STREAM_DECOMPRESSED_BYTES_MAX,
};
use thane_engine::wire::msgpack::{write_array, write_map, write_raw, write_uint};
use thane_engine::wire::serf::{Filter, KeyResponse, Query, SerfMessage};
use thane_engine::wire::stream::{Role, StreamDecoder, encode_push_pull_header, encode_stream};
use thane_engine::wire::{Alive, DecodeError, NodeState, lzw};

/// What LZW grows at the most: one 12-bit code stands for up to 3,840 bytes, on average of a stream 1,355.
const LZW_GROWTH_MAX: u64 = 1355;

/// Every bit alone, and all of them.
const FLIPS: [u8; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 255];

/// Memory that `run` holds at the worst moment, bytes.
fn peak(run: impl FnOnce()) -> u64 {
    allocation_counter::measure(run).bytes_max
}

#[test]
fn cut_and_flipped_datagrams_are_dropped_if_sealed_or_checksummed_and_never_take_much_memory() {
    for (name, bytes, envelope, _) in vectors("udp") {
        let label = if envelope.label.is_empty() { 0 } else { 2 + envelope.label.len() };
        let sealed = !envelope.keyring.is_empty();
        let guarded = sealed || bytes[label] == 12;
        let original = decode(&envelope, &bytes);
        let check = |changed: &[u8], what: &str| {
            let mut result = Ok(Vec::new());
            let took = peak(|| result = decode(&envelope, changed));
            assert!(took < 3 * DATAGRAM_DECOMPRESSED_BYTES_MAX as u64, "{name} {what}: {took} bytes");
            result
        };
        let dropped = |result: &Result<Vec<Result<String, DecodeError>>, DecodeError>| {
            result.as_ref().map_or(true, |messages| messages.iter().all(Result::is_err))
        };
        for end in 0..bytes.len() {
            let result = check(&bytes[..end], &format!("cut at {end}"));
            assert!(!guarded || dropped(&result), "{name} cut at {end}: {result:?}");
        }
        for place in 0..bytes.len() {
            for bits in FLIPS {
                let mut changed = bytes.clone();
                changed[place] ^= bits;
                let what = format!("with {bits:#x} flipped at {place}");
                let result = check(&changed, &what);
                // The version of an envelope is not authenticated (PROTOCOL 2.5): read as the other version,
                // the same plaintext keeps or loses its padding. Nothing else may come out of it.
                let other_version = sealed && place == label && bits == 1 && result == original;
                // A label is part of every datagram here, so its text counts too.
                if guarded || place < label {
                    assert!(dropped(&result) || other_version, "{name} {what}: {result:?}");
                }
            }
        }
    }
}

#[test]
fn cut_and_flipped_streams_are_dropped_if_sealed_and_never_take_much_memory() {
    for (name, bytes, envelope, _) in vectors("tcp") {
        let role = if name.ends_with("reply") { Role::Dialler } else { Role::Listener };
        let label = if bytes[0] == 244 { 2 + usize::from(bytes[1]) } else { 0 };
        let decode = |changed: &[u8]| {
            let mut result = Ok(None);
            let took = peak(|| {
                let mut decoder = StreamDecoder::new(role);
                decoder.feed(changed).unwrap();
                result = decoder.poll(&envelope);
            });
            assert!(took < 3 * LZW_GROWTH_MAX * changed.len() as u64 + 65_536, "{name}: {took} bytes");
            result
        };
        for place in 0..bytes.len() {
            let cut = decode(&bytes[..place]);
            assert!(!matches!(cut, Ok(Some(_))), "{name} cut at {place} is whole");
            for bits in FLIPS {
                let mut changed = bytes.clone();
                changed[place] ^= bits;
                let result = decode(&changed);
                if !envelope.keyring.is_empty() || place < label {
                    assert!(!matches!(result, Ok(Some(_))), "{name} with {bits:#x} flipped at {place}");
                }
            }
        }
    }
}

#[test]
fn a_datagram_has_one_decompression_budget_for_all_its_parts() {
    let part = compressed(&vec![0xff; DATAGRAM_DECOMPRESSED_BYTES_MAX - 1000]);
    let bomb = compound(&vec![part.as_slice(); 20]);
    assert!(bomb.len() < 20_000, "{} bytes", bomb.len());
    let mut result = Ok(Vec::new());
    let took = peak(|| result = decode(&envelope(&[], Vec::new()), &bomb));
    let mut expected = vec![Err(DecodeError::DecompressedTooLarge); 20];
    expected[0] = Err(DecodeError::UnknownType);
    assert_eq!(result, Ok(expected));
    // Buffers grow by doubling, and the old one is there while the new one is filled.
    assert!(took < 4 * DATAGRAM_DECOMPRESSED_BYTES_MAX as u64, "{took} bytes");

    // What a refused part decompressed before it was refused counts too: no packet gets the budget twice.
    let cut = compressed_stream(&lzw_of(&vec![0xff; DATAGRAM_DECOMPRESSED_BYTES_MAX - 1000])[..300]);
    let messages = decode(&envelope(&[], Vec::new()), &compound(&[&cut, &cut, &part])).unwrap();
    assert_eq!(messages[0], Err(DecodeError::BadCompression));
    assert_eq!(messages[2], Err(DecodeError::DecompressedTooLarge));
}

#[test]
fn a_datagram_has_at_most_so_many_messages() {
    let nack = b"\x0b\x81\xa5SeqNo\x01";
    let full = compound(&[&nack[..]; 255]);
    let honest = decode(&envelope(&[], Vec::new()), &full).unwrap();
    assert!(honest.len() == 255 && honest.iter().all(Result::is_ok));

    let bomb = compressed(&compound(&vec![full.as_slice(); 20]));
    assert!(bomb.len() < 1500, "it fits one Ethernet frame: {} bytes", bomb.len());
    let messages = decode(&envelope(&[], Vec::new()), &bomb).unwrap();
    assert_eq!(messages.len(), DATAGRAM_MESSAGES_MAX);
    assert_eq!(messages.iter().filter(|message| message.is_err()).count(), 1);
    assert_eq!(messages.last(), Some(&Err(DecodeError::TooManyMessages)));
}

#[test]
fn a_stream_that_would_grow_too_large_is_refused_within_the_cap() {
    let bomb = compressed(&vec![6; STREAM_DECOMPRESSED_BYTES_MAX + 1]);
    assert!(bomb.len() < 40_000, "{} bytes", bomb.len());
    let mut decoder = StreamDecoder::new(Role::Listener);
    let mut refused = None;
    let took = peak(|| {
        decoder.feed(&bomb).unwrap();
        refused = decoder.poll(&envelope(&[], Vec::new())).err();
    });
    assert_eq!(refused, Some(DecodeError::DecompressedTooLarge));
    assert!(took < 3 * STREAM_DECOMPRESSED_BYTES_MAX as u64, "{took} bytes");
}

#[test]
fn an_announced_length_takes_no_memory_before_its_bytes_are_there() {
    let keyed = envelope(&[vec![1; 16]], Vec::new());
    let plain = envelope(&[], Vec::new());
    let cases = [
        (&keyed, b"\x0a\xff\xff\xff\xff".to_vec(), Some(DecodeError::StreamTooLarge)),
        (&keyed, b"\x0a\x01\x40\x00\x00".to_vec(), None),
        (&plain, b"\x06\x82\xa5Nodes\xce\x00\x20\x00\x00".to_vec(), None),
        (&plain, b"\x06\x81\xa5Nodes\xce\x00\x20\x00\x00".to_vec(), Some(DecodeError::StreamTooLarge)),
        (&plain, b"\x06\x81\xacUserStateLen\xce\x02\x00\x00\x00".to_vec(), Some(DecodeError::StreamTooLarge)),
        (&plain, b"\x08\x81\xaaUserMsgLen\xce\x02\x00\x00\x00".to_vec(), Some(DecodeError::StreamTooLarge)),
        (&plain, b"\x08\x81\xaaUserMsgLen\xce\x01\x00\x00\x00".to_vec(), None),
        (&plain, b"\x09\x81\xa3Buf\xdb\xff\xff\xff\xff".to_vec(), None),
        (&plain, b"\x0d\x81\xa5Error\xdb\xff\xff\xff\xff".to_vec(), None),
    ];
    for (envelope, bytes, refused) in cases {
        let mut result = Ok(None);
        let took = peak(|| {
            let mut decoder = StreamDecoder::new(Role::Listener);
            decoder.feed(&bytes).unwrap();
            result = decoder.poll(envelope);
        });
        assert_eq!(result.map(|message| message.is_some()), refused.map_or(Ok(false), Err), "{bytes:02x?}");
        assert!(took < 4096, "{bytes:02x?}: {took} bytes");
    }
}

#[test]
fn what_serf_messages_hold_many_of_is_counted_before_it_is_kept() {
    let mut query = Query { addr: [127, 0, 0, 1][..].into(), ..Query::default() };
    query.filters = vec![b"\x00\x90"[..].into(); 1025];
    assert_eq!(serf_refusal(|out| query.encode(out)), DecodeError::TooManyFilters);
    query.filters = vec![b"\x00\x90"[..].into(), b""[..].into()];
    assert_eq!(serf_refusal(|out| query.encode(out)), DecodeError::EmptyFilter);

    let keys = KeyResponse { keys: vec!["k"; 1025], ..KeyResponse::default() };
    assert_eq!(serf_refusal(|out| keys.encode(out)), DecodeError::TooManyKeys);

    let nodes = Filter::Nodes(vec!["n"; 16_385]).encode();
    assert_eq!(Filter::decode(&nodes), Err(DecodeError::TooManyFilters));

    // An event takes a byte here and 40 in memory.
    let slot = |out: &mut Vec<u8>| {
        out.push(2);
        write_map(out, 1);
        write_raw(out, b"Events");
        write_array(out, 1);
        write_map(out, 1);
        write_raw(out, b"Events");
        write_array(out, 1_000_000);
        out.resize(out.len() + 1_000_000, 0xc0);
    };
    assert_eq!(serf_refusal(slot), DecodeError::TooManyEvents);

    let tags = |out: &mut Vec<u8>| {
        out.push(6);
        write_map(out, 1);
        write_raw(out, b"Tags");
        write_map(out, 10_000);
        for tag in 0..10_000u32 {
            write_raw(out, &tag.to_string().into_bytes());
            write_raw(out, b"");
        }
    };
    assert_eq!(serf_refusal(tags), DecodeError::BadTags);
}

/// Why a serf message is refused, for little memory.
fn serf_refusal(encode: impl FnOnce(&mut Vec<u8>)) -> DecodeError {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    let mut refused = None;
    let took = peak(|| refused = SerfMessage::decode(&bytes).err());
    assert!(took < 256 * 1024, "{took} bytes");
    refused.unwrap()
}

type Case = (&'static str, DecodeError, Vec<u8>);
type StreamCase = (&'static str, DropReason, fn(&mut RawConfig), Vec<u8>);

#[test]
fn every_refused_datagram_is_counted_under_its_reason() {
    let plain = |_: &mut RawConfig| {};
    check_datagrams(plain, envelope_cases(&[]));
    check_datagrams(plain, field_cases());
    check_datagrams(plain, container_cases());
    let key = vec![1; 16];
    check_datagrams(|raw| raw.keys.push(key.clone()), envelope_cases(&key));
    check_datagrams(|raw| raw.label = b"mine".to_vec(), label_cases());
}

fn check_datagrams(change: impl Fn(&mut RawConfig), cases: Vec<Case>) {
    for (what, reason, mut bytes) in cases {
        let (mut node, mut ctx) = node(&change);
        node.handle_datagram(&mut ctx, PEER, &mut bytes);
        let drops: Vec<(DropReason, u64)> = node.stats().all_drops().collect();
        assert_eq!(drops, [(reason.into(), 1)], "{what}");
        assert!(ctx.out.datagrams.is_empty(), "{what}: a refused datagram is never answered");
        assert_eq!(node.view().table_count(), 1, "{what}");
    }
}

/// One notice for each reason stands for a whole flood.
#[test]
fn a_flood_of_junk_makes_few_notices() {
    let (mut node, mut ctx) = node(&|_: &mut RawConfig| {});
    ctx.out.notices.clear();
    for n in 0..200u8 {
        let mut bytes = if n.is_multiple_of(2) { vec![] } else { b"\x0c\0\0\0\0junk".to_vec() };
        node.handle_datagram(&mut ctx, PEER, &mut bytes);
    }
    let notices: Vec<Notice> = ctx.out.notices.drain(..).map(|(_, notice)| notice).collect();
    let told = |error: DecodeError| Notice::Dropped {
        reason: error.into(),
        from: Some(PEER),
        count: 100,
        stream: false,
    };
    assert_eq!(notices, [told(DecodeError::Empty), told(DecodeError::BadChecksum)]);
}

fn envelope_cases(key: &[u8]) -> Vec<Case> {
    let ping = ping();
    if key.is_empty() {
        return vec![
            ("no bytes", DecodeError::Empty, vec![]),
            ("a label nobody asked for", DecodeError::LabelMismatch, [b"\xf4\x04mine", &ping[..]].concat()),
            ("a wrong checksum", DecodeError::BadChecksum, [b"\x0c\0\0\0\0", &ping[..]].concat()),
        ];
    }
    let sealed = |key: &[u8], version: u8, plain: &[u8]| {
        let mut out = plain.to_vec();
        Keyring::new(&[key.to_vec()]).unwrap().seal(version, [5; 12], b"", &mut out, 0);
        out
    };
    let mut unknown_version = sealed(key, 1, &ping);
    unknown_version[0] = 2;
    let mut unpadded = sealed(key, 1, &[0; 32]);
    unpadded[0] = 0;
    vec![
        ("another key", DecodeError::WrongKey, sealed(&[2; 16], 1, &ping)),
        ("no seal", DecodeError::WrongKey, ping.clone()),
        ("an unknown envelope", DecodeError::BadEnvelopeVersion, unknown_version),
        ("a short envelope", DecodeError::EnvelopeTooShort, sealed(key, 1, &ping)[..28].to_vec()),
        ("a wrong padding", DecodeError::BadPadding, unpadded),
    ]
}

fn label_cases() -> Vec<Case> {
    let ping = ping();
    vec![
        ("no label", DecodeError::LabelMissing, ping.clone()),
        ("another label", DecodeError::LabelMismatch, [b"\xf4\x05yours", &ping[..]].concat()),
        ("an empty label", DecodeError::LabelMalformed, [b"\xf4\x00", &ping[..]].concat()),
        ("a cut label", DecodeError::LabelMalformed, b"\xf4\x04mi".to_vec()),
    ]
}

fn field_cases() -> Vec<Case> {
    let good = Alive {
        incarnation: thane_engine::wire::Incarnation(1),
        node: "n2",
        addr: [127, 13, 0, 2][..].into(),
        port: 7946,
        meta: b"\xff\x80"[..].into(),
        versions: [1, 5, 2, 2, 5, 5][..].into(),
    };
    let alive = |change: &dyn Fn(&mut Alive<'_>)| {
        let (mut alive, mut out) = (good.clone(), Vec::new());
        change(&mut alive);
        alive.encode(&mut out);
        out
    };
    let long_name = "n".repeat(1025);
    let mut named_at_length = Vec::new();
    Alive { node: &long_name, ..good.clone() }.encode(&mut named_at_length);
    vec![
        ("protocol 0", DecodeError::BadVersions, alive(&|a| a.versions = [0, 0, 0, 2, 5, 5][..].into())),
        ("min above max", DecodeError::BadVersions, alive(&|a| a.versions = [5, 1, 2, 2, 5, 5][..].into())),
        ("seven versions", DecodeError::BadVersions, alive(&|a| a.versions = vec![1; 7].into())),
        ("long meta", DecodeError::MetaTooLong, alive(&|a| a.meta = vec![0xff; 513].into())),
        ("a long name", DecodeError::BadName, named_at_length),
        ("no name", DecodeError::BadName, alive(&|a| a.node = "")),
        ("an odd address", DecodeError::BadAddress, alive(&|a| a.addr = vec![127; 5].into())),
        (
            "a port above 16 bits",
            DecodeError::FieldOverflow,
            b"\x04\x81\xa4Port\xce\x00\x01\x00\x00".to_vec(),
        ),
        (
            "a seq above 32 bits",
            DecodeError::FieldOverflow,
            b"\x0b\x81\xa5SeqNo\xcf\0\0\0\x01\0\0\0\0".to_vec(),
        ),
        ("a negative seq", DecodeError::FieldOverflow, b"\x0b\x81\xa5SeqNo\xff".to_vec()),
        ("a name of bytes", DecodeError::BadUtf8, b"\x00\x81\xa4Node\xa1\xff".to_vec()),
        ("a number for a name", DecodeError::BadMsgpack, b"\x00\x81\xa4Node\x01".to_vec()),
        ("a cut body", DecodeError::Truncated, b"\x00\x81\xa4No".to_vec()),
    ]
}

fn container_cases() -> Vec<Case> {
    let mut nested = b"\x0b\x81\xa5SeqNo\x01".to_vec();
    (0..9).for_each(|_| nested = compound(&[&nested]));
    let filters = {
        let mut out = vec![8];
        Query {
            addr: [127, 0, 0, 1][..].into(),
            filters: vec![b""[..].into()],
            timeout: 1,
            name: "crash",
            ..Query::default()
        }
        .encode(&mut out);
        out
    };
    let bomb = compressed(&vec![0xff; DATAGRAM_DECOMPRESSED_BYTES_MAX + 1]);
    let mut other_algorithm = compressed(b"\x0b\x81\xa5SeqNo\x01");
    other_algorithm[7] = 1;
    vec![
        ("an empty compound part", DecodeError::EmptyPart, vec![7, 1, 0, 0]),
        ("a cut compound", DecodeError::Truncated, vec![7, 1, 0, 9, 0]),
        ("a cut length table", DecodeError::Truncated, vec![7, 200, 0, 9]),
        ("compounds in compounds", DecodeError::NestedTooDeep, nested),
        ("a bomb", DecodeError::DecompressedTooLarge, bomb),
        ("no end of LZW", DecodeError::BadCompression, compressed_stream(b"\0\x83")),
        ("another algorithm", DecodeError::UnknownCompression, other_algorithm),
        ("nothing compressed", DecodeError::Empty, compressed(b"")),
        ("an unknown type", DecodeError::UnknownType, vec![14]),
        ("a state in a datagram", DecodeError::MisplacedType, vec![6, 0x80]),
        ("an error in a datagram", DecodeError::MisplacedType, b"\x0d\x81\xa5Error\xa1x".to_vec()),
        ("a checksum inside", DecodeError::MisplacedType, compound(&[b"\x0c\0\0\0\0\0"])),
        ("an unknown serf type", DecodeError::UnknownSerfType, vec![8, 77]),
        ("no serf type", DecodeError::Empty, vec![8]),
        ("an empty query filter", DecodeError::EmptyFilter, filters),
    ]
}

#[test]
fn every_refused_stream_is_counted_under_its_reason() {
    let record = |change: &dyn Fn(&mut NodeState<'_>)| {
        let mut state = NodeState {
            name: "n2",
            addr: [127, 13, 0, 2][..].into(),
            port: 7946,
            versions: [1, 5, 2, 2, 5, 5][..].into(),
            ..NodeState::default()
        };
        change(&mut state);
        let mut out = Vec::new();
        state.encode(&mut out);
        out
    };
    let push_pull = |records: &[u8], user: &[u8]| {
        let mut out = Vec::new();
        encode_push_pull_header(1, user.len(), false, &mut out);
        [&out, records, user].concat()
    };
    let good = record(&|_| {});
    let state = good.windows(7).position(|window| window == b"\xa5State\0").unwrap();
    let mut unknown_state = good.clone();
    unknown_state[state + 6] = 4;
    let sealed = |key: u8, raw: &[u8]| {
        let mut out = Vec::new();
        encode_stream(raw, &envelope(&[vec![key; 16]], Vec::new()), Role::Dialler, [3; 12], &mut out);
        out
    };
    let (nothing, keyed) = (|_: &mut RawConfig| {}, |raw: &mut RawConfig| raw.keys.push(vec![1; 16]));
    let incompatible = record(&|state| state.versions = [3, 5, 3, 2, 5, 5][..].into());
    let long_meta = record(&|state| state.meta = vec![1; 513].into());
    let cases: [StreamCase; 13] = [
        ("another key", DecodeError::WrongKey.into(), keyed, sealed(2, &push_pull(&good, b""))),
        ("no seal", DecodeError::NotEncrypted.into(), keyed, push_pull(&good, b"")),
        ("sealed", DecodeError::Encrypted.into(), nothing, sealed(1, &push_pull(&good, b""))),
        ("a long frame", DecodeError::StreamTooLarge.into(), keyed, b"\x0a\x01\x40\x00\x01".to_vec()),
        ("another label", DecodeError::LabelMismatch.into(), nothing, b"\xf4\x01x\x00".to_vec()),
        ("other protocols", DropReason::IncompatibleVersions, nothing, push_pull(&incompatible, b"")),
        ("long meta", DecodeError::MetaTooLong.into(), nothing, push_pull(&long_meta, b"")),
        ("an unknown state", DecodeError::BadState.into(), nothing, push_pull(&unknown_state, b"")),
        ("a compound", DecodeError::MisplacedType.into(), nothing, vec![7, 1, 0, 1, 0]),
        (
            "compressed twice",
            DecodeError::NestedTooDeep.into(),
            nothing,
            compressed(&compressed(b"\x00\x80")),
        ),
        ("cut inside", DecodeError::StreamCut.into(), nothing, compressed(&push_pull(&good, b"")[..40])),
        ("an unknown serf type", DecodeError::UnknownSerfType.into(), nothing, push_pull(&good, &[77])),
        (
            "not serf's state",
            DecodeError::MisplacedType.into(),
            nothing,
            push_pull(&good, b"\x01\x81\xa4Node\xa1x"),
        ),
    ];
    for (what, reason, change, bytes) in cases {
        let (mut node, mut ctx) = node(&change);
        let id = StreamId::accepted(0);
        node.handle_stream(&mut ctx, id, StreamInput::Accepted(PEER));
        node.handle_stream(&mut ctx, id, StreamInput::Bytes(bytes[..].into()));
        // A push/pull that is whole is merged on the next turn.
        ctx.now = ctx.now + Duration::from_millis(10);
        while let Some((_, key)) = ctx.timers.pop_due(ctx.now) {
            node.handle_timeout(&mut ctx, key);
        }
        let drops: Vec<(DropReason, u64)> = node.stats().all_drops().collect();
        assert_eq!(drops, [(reason, 1)], "{what}");
    }
}

#[test]
fn a_query_filter_that_crashes_serf_is_not_passed_on() {
    let mut query = b"\x04\x82\xa4Addr\xa4\x7f\x00\x00\x01\xa7Filters\x91".to_vec();
    for empty in [&b"\xa0"[..], b"\xc0", b"\xc4\x00", b"\xd9\x00", b"\x90"] {
        let bytes = [&query, empty].concat();
        assert_eq!(SerfMessage::decode(&bytes), Err(DecodeError::EmptyFilter), "{empty:02x?}");
    }
    query.extend_from_slice(b"\xa2\x00\x90");
    assert!(SerfMessage::decode(&query).is_ok());
}

/// A node that runs, with its Context.
fn node(change: &dyn Fn(&mut RawConfig)) -> (Node, Context) {
    let Lone { node, ctx } = Lone::new(|raw| {
        raw.node_name = "n1".to_owned();
        change(raw);
    });
    (node, ctx)
}

fn ping() -> Vec<u8> {
    let mut out = Vec::new();
    fixtures::ping("n1").encode(&mut out);
    out
}

fn compound(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![7, u8::try_from(parts.len()).unwrap()];
    parts.iter().for_each(|part| out.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes()));
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

fn compressed(raw: &[u8]) -> Vec<u8> {
    compressed_stream(&lzw_of(raw))
}

fn lzw_of(raw: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    lzw::compress(raw, &mut stream);
    stream
}

fn compressed_stream(stream: &[u8]) -> Vec<u8> {
    let mut out = vec![9];
    write_map(&mut out, 2);
    write_raw(&mut out, b"Algo");
    write_uint(&mut out, 0);
    write_raw(&mut out, b"Buf");
    write_raw(&mut out, stream);
    out
}
