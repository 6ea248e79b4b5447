//! Properties of the wire format: no bytes panic the decoders, a stream means the same however it is cut,
//! and what is encoded decodes to itself.
#![allow(clippy::unwrap_used)]

mod common;

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use common::{decode, envelope, vectors};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use thane_engine::wire::Extension;
use thane_engine::wire::envelope::Envelope;
use thane_engine::wire::keyring::Keyring;
use thane_engine::wire::limits::{DATAGRAM_MESSAGES_MAX, EVENT_SLOTS};
use thane_engine::wire::message::{Ack, Alive, Dead, ErrMessage, IndirectPing, Nack, Ping, Suspect};
use thane_engine::wire::msgpack::Reader;
use thane_engine::wire::packet::{self, Assembler, Scratch};
use thane_engine::wire::serf::{
    Filter, JoinIntent, KeyRequest, KeyResponse, LeaveIntent, MemberRecord, PushPullSource, Query,
    QueryResponse, Relay, UserEvent, encode_push_pull,
};
use thane_engine::wire::stream::{Role, StreamDecoder, encode_push_pull_header, encode_stream};
use thane_engine::wire::{
    Coordinate, DecodeError, Incarnation, LamportTime, Message, NodeState, SeqNo, SerfMessage, Step,
    WireState, decode_tags, encode_tags, lzw,
};

/// Events of one Lamport time.
type Slot = (LamportTime, Vec<(String, Bytes)>);

/// Bytes that get further than chance would: type bytes, markers and field names, and any bytes between.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let types = prop::sample::select(vec![0u8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 244]);
    let markers = prop::sample::select(vec![
        0x81u8, 0x82, 0x85, 0x90, 0x91, 0x92, 0xa0, 0xa1, 0xa4, 0xc0, 0xc2, 0xc3, 0xc4, 0xca, 0xcb, 0xcc,
        0xcd, 0xce, 0xcf, 0xd0, 0xd3, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xff,
    ]);
    let names = prop::sample::select(vec![
        "Node",
        "SeqNo",
        "Payload",
        "Addr",
        "Port",
        "Meta",
        "Vsn",
        "Incarnation",
        "From",
        "Algo",
        "Buf",
        "Name",
        "State",
        "Nodes",
        "UserStateLen",
        "Join",
        "Filters",
        "LTime",
        "Events",
        "StatusLTimes",
        "LeftMembers",
        "DestAddr",
        "IP",
        "Tags",
        "Keys",
        "Vec",
        "UserMsgLen",
        "Error",
    ]);
    let word = prop_oneof![
        2 => types.prop_map(|byte| vec![byte]),
        3 => markers.prop_map(|byte| vec![byte]),
        3 => names.prop_map(|name| [&[0xa0 | name.len() as u8], name.as_bytes()].concat()),
        1 => vec(any::<u8>(), 0..6),
    ];
    vec(word, 0..40).prop_map(|words| words.concat())
}

/// A captured payload with a few places overwritten, taken out or doubled.
fn mangled(transport: &'static str) -> impl Strategy<Value = (Vec<u8>, Envelope, Role)> {
    let all = vectors(transport);
    let edits = vec((0..3u8, any::<prop::sample::Index>(), 1..9usize, any::<u8>()), 0..5);
    (0..all.len(), edits).prop_map(move |(place, edits)| {
        let (name, mut bytes, envelope, _) = all[place].clone();
        for (kind, at, len, byte) in edits {
            let at = at.index(bytes.len().max(1));
            let end = (at + len).min(bytes.len());
            match kind {
                0 => bytes[at..end].fill(byte),
                1 => drop(bytes.drain(at..end)),
                _ => bytes.extend_from_within(at..end),
            }
        }
        (bytes, envelope, if name.ends_with("reply") { Role::Dialler } else { Role::Listener })
    })
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![soup(), vec(any::<u8>(), 0..300)]
}

/// Everything that takes bytes from outside.
fn digest(bytes: &[u8]) {
    let _ = (Coordinate::decode(bytes), decode_tags(bytes), Filter::decode(bytes), Message::decode(bytes));
    let _ = (Reader::new(bytes).skip(), NodeState::decode(&mut Reader::new(bytes)));
    match SerfMessage::decode(bytes) {
        Ok(SerfMessage::PushPull(state)) => {
            let _ = (state.status_ltimes().count(), state.left_members().count(), state.events().count());
        }
        Ok(SerfMessage::Query(query)) => query.filters.iter().for_each(|filter| digest(filter)),
        Ok(SerfMessage::Relay(relay)) => digest(relay.inner),
        _ => {}
    }
}

fn digest_datagram(envelope: &Envelope, mut bytes: Vec<u8>) {
    let Ok(plain) = envelope.open(&mut bytes) else { return };
    let (mut messages, mut depth) = (0, 0);
    packet::for_each_step(plain, &mut Scratch::default(), |step| match step {
        Step::Enter(_) => depth += 1,
        Step::Leave => depth -= 1,
        Step::Message(bytes, message) => {
            messages += 1;
            if let Ok(Message::User(serf)) = message {
                digest(serf);
            }
            digest(bytes);
        }
    });
    assert_eq!(depth, 0, "what is entered is left");
    assert!(messages <= DATAGRAM_MESSAGES_MAX);
}

/// What comes of a stream that arrives in these pieces.
fn outcome<'a>(role: Role, envelope: &Envelope, pieces: impl Iterator<Item = &'a [u8]>) -> String {
    let mut decoder = StreamDecoder::new(role);
    for piece in pieces {
        decoder.feed(piece).unwrap();
        match decoder.poll(envelope) {
            Ok(None) => {}
            result => return format!("{result:?}"),
        }
    }
    "not whole".to_owned()
}

/// The same bytes in pieces that end at the given places.
fn pieces<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.extend([0, bytes.len()]);
    ends.sort_unstable();
    ends.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![4 => "\\PC{1,12}", 1 => "\\PC{40,80}"]
}

fn address() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![any::<[u8; 4]>().prop_map(|ip| ip.to_vec()), any::<[u8; 16]>().prop_map(|ip| ip.to_vec())]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(Vec::new()), vec(any::<u8>(), 1..60), vec(any::<u8>(), 300..400)]
}

fn tag_map() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map("\\PC{0,8}", "\\PC{0,12}", 0..6)
}

fn envelopes() -> impl Strategy<Value = Envelope> {
    let keys = prop::sample::select(vec![0usize, 16, 24, 32]);
    (keys, any::<u8>(), vec(any::<u8>(), 0..20), any::<bool>(), 0..2u8).prop_map(
        |(len, byte, label, compress, version)| {
            let keys: Vec<Vec<u8>> = (0..len.min(1)).map(|_| vec![byte; len]).collect();
            Envelope { compress, version, ..envelope(&keys, label) }
        },
    )
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

proptest! {
    // PROPTEST_CASES=20000 looks longer than the usual 256.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic_a_decoder(bytes in any_bytes()) {
        digest(&bytes);
        digest_datagram(&envelope(&[], Vec::new()), bytes.clone());
        digest_datagram(&envelope(&[vec![1; 16]], b"x".to_vec()), bytes);
    }

    #[test]
    fn no_mangled_datagram_panics_a_decoder((bytes, envelope, _) in mangled("udp")) {
        digest_datagram(&envelope, bytes.clone());
        // What a checksum or a seal would stop is mangled again inside of them.
        let unchecked = if bytes.first() == Some(&12) { bytes.get(5..).unwrap_or_default() } else { &bytes };
        digest_datagram(&envelope, unchecked.to_vec());
        (0..unchecked.len().min(8)).for_each(|start| digest(&unchecked[start..]));
    }

    #[test]
    fn a_stream_of_any_bytes_means_the_same_however_it_is_cut(
        bytes in any_bytes(), cuts in vec(any::<prop::sample::Index>(), 0..8), keyed in any::<bool>(),
    ) {
        let keys = if keyed { vec![vec![1; 16]] } else { Vec::new() };
        let envelope = envelope(&keys, Vec::new());
        let whole = outcome(Role::Listener, &envelope, std::iter::once(&bytes[..]));
        prop_assert_eq!(&whole, &outcome(Role::Listener, &envelope, pieces(&bytes, &cuts).into_iter()));
        prop_assert_eq!(&whole, &outcome(Role::Listener, &envelope, bytes.chunks(1)));
    }

    #[test]
    fn a_mangled_stream_means_the_same_however_it_is_cut(
        (bytes, envelope, role) in mangled("tcp"), cuts in vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let whole = outcome(role, &envelope, std::iter::once(&bytes[..]));
        prop_assert_eq!(&whole, &outcome(role, &envelope, pieces(&bytes, &cuts).into_iter()));
        prop_assert_eq!(&whole, &outcome(role, &envelope, bytes.chunks(1)));
    }

    #[test]
    fn lzw_gives_back_what_it_took(
        raw in prop_oneof![vec(any::<u8>(), 0..600), vec(0..3u8, 0..9000)], cap in 0..10_000usize,
    ) {
        let stream = encoded(|out| lzw::compress(&raw, out));
        let mut back = vec![7];
        let result = lzw::decompress(&stream, cap, &mut back);
        if raw.len() <= cap {
            prop_assert_eq!(result, Ok(()));
            prop_assert_eq!(&back[1..], &raw[..]);
        } else {
            prop_assert_eq!(result, Err(DecodeError::DecompressedTooLarge));
            prop_assert!(back.len() <= 1 + cap + 1);
        }
    }

    #[test]
    fn any_bytes_decompress_within_the_cap(bytes in vec(any::<u8>(), 0..300), cap in 0..5000usize) {
        let mut out = Vec::new();
        let _ = lzw::decompress(&bytes, cap, &mut out);
        prop_assert!(out.len() <= cap + 1);
    }

    #[test]
    fn only_the_key_and_the_label_open_what_was_sealed(
        plain in payload(), key in vec(any::<u8>(), 32), len in prop::sample::select(vec![16usize, 24, 32]),
        version in 0..2u8, nonce in any::<[u8; 12]>(), label in vec(any::<u8>(), 0..8),
        place in any::<prop::sample::Index>(), flip in 1..=255u8,
    ) {
        let (key, old) = (key[..len].to_vec(), vec![0x5a; 16]);
        let ring = Keyring::new(&[old.clone(), key.clone()]).unwrap();
        let sealed = encoded(|out| {
            out.extend_from_slice(&plain);
            Keyring::new(std::slice::from_ref(&key)).unwrap().seal(version, nonce, &label, out, 0);
        });
        let open = |ring: &Keyring, label: &[u8], sealed: &[u8]| {
            ring.open_by(label, &mut sealed.to_vec()).map(|(key, plain)| (key, plain.to_vec()))
        };
        prop_assert_eq!(open(&ring, &label, &sealed), Ok((1, plain)));
        let other_label = [&label[..], b"!"].concat();
        prop_assert_eq!(open(&ring, &other_label, &sealed), Err(DecodeError::WrongKey));
        prop_assert_eq!(open(&Keyring::new(&[old]).unwrap(), &label, &sealed), Err(DecodeError::WrongKey));
        let mut changed = sealed;
        let place = 1 + place.index(changed.len() - 1);
        changed[place] ^= flip;
        prop_assert_eq!(open(&ring, &label, &changed), Err(DecodeError::WrongKey));
    }

    #[test]
    fn a_packet_holds_the_messages_that_were_put_in(
        envelope in envelopes(), seqs in vec(any::<u32>(), 1..90), crc in any::<bool>(), nonce in any::<[u8; 12]>(),
    ) {
        let mut assembler = Assembler::default();
        assembler.begin(1400 - envelope.overhead());
        let mut expected = Vec::new();
        for seq in seqs {
            let nack = Nack { seq: SeqNo(seq) };
            if assembler.remaining() >= encoded(|out| nack.encode(out)).len() {
                assembler.push(|out| nack.encode(out));
                expected.push(Ok(format!("{:?}", Message::Nack(nack))));
            }
        }
        let mut out = b"before".to_vec();
        let range = assembler.finish(&mut out, &envelope, crc, nonce);
        prop_assert!(range.start == 6 && range.end == out.len());
        prop_assert!(range.len() <= 1400 + 5, "a checksum is not budgeted: {}", range.len());
        prop_assert_eq!(decode(&envelope, &out[range]), Ok(expected));
    }

    #[test]
    fn a_stream_holds_the_message_that_was_put_in(
        envelope in envelopes(), name in text(), seq in any::<u32>(), user in payload(), join in any::<bool>(),
        nonce in any::<[u8; 12]>(), cuts in vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let state = NodeState { name: &name, addr: [127, 0, 0, 1][..].into(), ..NodeState::default() };
        let raw = [
            encoded(|out| Ping { seq: SeqNo(seq), node: &name, ..Ping::default() }.encode(out)),
            encoded(|out| {
                encode_push_pull_header(2, user.len(), join, out);
                state.encode(out);
                state.encode(out);
                out.extend_from_slice(&user);
            }),
        ];
        for raw in raw {
            let plain = outcome(Role::Listener, &common::envelope(&[], Vec::new()), std::iter::once(&raw[..]));
            prop_assert!(plain.starts_with("Ok(Some("), "{}", plain);
            for (role, other) in [(Role::Dialler, Role::Listener), (Role::Listener, Role::Dialler)] {
                let bytes = encoded(|out| encode_stream(&raw, &envelope, role, nonce, out));
                let got = outcome(other, &envelope, pieces(&bytes, &cuts).into_iter());
                prop_assert_eq!(&got, &plain);
            }
        }
    }

    #[test]
    fn memberlists_messages_decode_to_themselves(
        (seq, incarnation, port) in any::<(u32, u32, u16)>(), (node, from) in (text(), text()), nack in any::<bool>(),
        (target, source) in (address(), prop_oneof![Just(Vec::new()), address()]), payload in payload(),
        meta in vec(any::<u8>(), 0..=512), versions in vec(any::<u8>(), 0..=6), state in 0..4u8,
    ) {
        let (seq, incarnation) = (SeqNo(seq), Incarnation(incarnation));
        let (node, from) = (node.as_str(), from.as_str());
        let same = |bytes: Vec<u8>, message: Message<'_>| {
            prop_assert_eq!(Message::decode(&bytes), Ok(message));
            Ok(())
        };
        let extension = nack.then(|| Extension {
            members: u64::from(seq.0) << 31,
            count: incarnation.0,
            messages: u64::from(port),
            gone: seq.0,
            members_age: state,
            messages_age: 9,
            tls: state > 1,
        });
        let ping = Ping { seq, node, source_addr: source.clone().into(), source_port: port, source_node: from, extension };
        same(encoded(|out| ping.encode(out)), Message::Ping(ping.clone()))?;
        let indirect = IndirectPing {
            seq, target: target.clone().into(), port, node, nack, source_addr: source.into(), source_port: port,
            source_node: from,
        };
        same(encoded(|out| indirect.encode(out)), Message::IndirectPing(indirect.clone()))?;
        let ack = Ack { seq, payload: payload.into(), extension };
        same(encoded(|out| ack.encode(out)), Message::Ack(ack.clone()))?;
        same(encoded(|out| Nack { seq }.encode(out)), Message::Nack(Nack { seq }))?;
        let suspect = Suspect { incarnation, node, from };
        let bytes = encoded(|out| suspect.encode(out));
        prop_assert_eq!(bytes.len(), suspect.encoded_len());
        same(bytes, Message::Suspect(suspect))?;
        let dead = Dead { incarnation, node, from };
        let bytes = encoded(|out| dead.encode(out));
        prop_assert_eq!(bytes.len(), dead.encoded_len());
        same(bytes, Message::Dead(dead))?;
        let (meta, versions) = (&meta[..], &versions[..]);
        let alive = Alive {
            incarnation, node, addr: target.clone().into(), port, meta: meta.into(), versions: versions.into(),
        };
        let bytes = encoded(|out| alive.encode(out));
        prop_assert_eq!(bytes.len(), alive.encoded_len());
        same(bytes, Message::Alive(alive.clone()))?;
        same(encoded(|out| ErrMessage { error: from }.encode(out)), Message::Err(ErrMessage { error: from }))?;
        let state = [WireState::Alive, WireState::Suspect, WireState::Dead, WireState::Left][usize::from(state)];
        let record = NodeState {
            name: node, addr: target.into(), port, meta: meta.into(), incarnation, state,
            versions: versions.into(),
        };
        let bytes = encoded(|out| record.encode(out));
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(NodeState::decode(&mut reader), Ok(record));
        prop_assert!(reader.rest().is_empty());
    }

    #[test]
    fn serfs_messages_decode_to_themselves(
        (ltime, id, flags) in any::<(u64, u32, u32)>(), (port, relay_factor, timeout) in any::<(u16, u8, i64)>(),
        (node, name) in (text(), text()), addr in address(), payload in payload(), flag in any::<bool>(),
        nodes in vec(text(), 0..4), tags in tag_map(), versions in any::<[u8; 6]>(),
    ) {
        let (ltime, node, name) = (LamportTime(ltime), node.as_str(), name.as_str());
        let same = |bytes: &[u8], message: SerfMessage<'_>| {
            prop_assert_eq!(SerfMessage::decode(bytes), Ok(message));
            Ok(())
        };
        let leave = LeaveIntent { ltime, node, prune: flag };
        same(&encoded(|out| leave.encode(out)), SerfMessage::Leave(leave))?;
        let join = JoinIntent { ltime, node };
        same(&encoded(|out| join.encode(out)), SerfMessage::Join(join))?;
        let payload = &payload[..];
        let event = UserEvent { ltime, name, payload: payload.into(), coalesce: flag };
        same(&encoded(|out| event.encode(out)), SerfMessage::UserEvent(event.clone()))?;
        let names: Vec<&str> = nodes.iter().map(String::as_str).collect();
        let filters = [Filter::Nodes(names.clone()), Filter::Tag { tag: node, expr: name }];
        for filter in &filters {
            let bytes = filter.encode();
            prop_assert_eq!(Filter::decode(&bytes), Ok(filter.clone()));
        }
        let query = Query {
            ltime, id, addr: addr.clone().into(), port, source_node: node,
            filters: filters.iter().take(names.len()).map(|filter| filter.encode().into()).collect(),
            flags, relay_factor, timeout, name, payload: payload.into(),
        };
        same(&encoded(|out| query.encode(out)), SerfMessage::Query(query.clone()))?;
        let response = QueryResponse { ltime, id, from: node, flags, payload: payload.into() };
        let inner = encoded(|out| response.encode(out));
        same(&inner, SerfMessage::QueryResponse(response))?;
        let relay = Relay { dest_addr: addr.clone().into(), dest_port: port, dest_name: node, inner: &inner };
        same(&encoded(|out| relay.encode(out)), SerfMessage::Relay(relay.clone()))?;
        let record = MemberRecord { name: node, addr: addr.into(), port, tags, status: 3, versions };
        same(&encoded(|out| record.encode(out)), SerfMessage::ConflictResponse(Some(record.clone())))?;
        let key = KeyRequest { key: payload.into() };
        same(&encoded(|out| key.encode(out)), SerfMessage::KeyRequest(key.clone()))?;
        let keys = KeyResponse { result: flag, message: name, keys: names, primary_key: node };
        same(&encoded(|out| keys.encode(out)), SerfMessage::KeyResponse(keys.clone()))?;
    }

    #[test]
    fn serfs_state_decodes_to_itself(
        (ltime, event_ltime, query_ltime) in any::<(u64, u64, u64)>(),
        members in btree_map(text(), any::<u64>(), 0..20), left in vec(text(), 0..20),
        slots in vec(prop::option::of((any::<u64>(), vec((text(), payload()), 0..3))), 0..6),
    ) {
        let owned = |(at, events): (u64, Vec<(String, Vec<u8>)>)| {
            let events = events.into_iter().map(|(name, payload)| (name, payload.into())).collect();
            (LamportTime(at), events)
        };
        let slots: Vec<Option<Slot>> =
            slots.into_iter().map(|slot| slot.map(owned)).collect();
        let source = PushPullSource {
            ltime: LamportTime(ltime), event_ltime: LamportTime(event_ltime), query_ltime: LamportTime(query_ltime),
            members: (members.len() as u32, members.iter().map(|(name, &at)| (name.as_str(), LamportTime(at)))),
            left: (left.len() as u32, left.iter().map(String::as_str)),
            events: slots.iter().map(|slot| slot.as_ref().map(|(at, events)| (*at, events.as_slice()))),
            marker: std::marker::PhantomData,
        };
        let bytes = encoded(|out| encode_push_pull(source, out));
        let Ok(SerfMessage::PushPull(state)) = SerfMessage::decode(&bytes) else {
            panic!("{:?}", SerfMessage::decode(&bytes));
        };
        prop_assert_eq!((state.ltime.0, state.event_ltime.0, state.query_ltime.0), (ltime, event_ltime, query_ltime));
        let got: Vec<(&str, u64)> = state.status_ltimes().map(|(name, at)| (name, at.0)).collect();
        prop_assert_eq!(got, members.iter().map(|(name, &at)| (name.as_str(), at)).collect::<Vec<_>>());
        prop_assert_eq!(state.left_members().collect::<Vec<_>>(), left);
        let owned = |(name, payload): (&str, Cow<'_, [u8]>)| (name.to_owned(), payload.into_owned().into());
        let events: Vec<Slot> =
            state.events().map(|slot| (slot.ltime, slot.events.into_iter().map(owned).collect())).collect();
        prop_assert_eq!(events, slots.into_iter().flatten().collect::<Vec<_>>());
        prop_assert!(bytes.len() > EVENT_SLOTS, "every slot travels");
    }

    #[test]
    fn tags_and_coordinates_decode_to_themselves(tags in tag_map(), numbers in any::<[f64; 11]>()) {
        prop_assert_eq!(decode_tags(&encoded(|out| encode_tags(&tags, out))), Ok(tags));
        let [a, b, c, d, e, f, g, h, error, adjustment, height] = numbers;
        let coordinate = Coordinate { vec: [a, b, c, d, e, f, g, h], error, adjustment, height };
        let finite = numbers.iter().all(|number| number.is_finite());
        let expected = if finite { Ok(coordinate) } else { Err(DecodeError::BadCoordinate) };
        prop_assert_eq!(Coordinate::decode(&encoded(|out| coordinate.encode(out))), expected);
    }
}
