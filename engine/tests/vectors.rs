//! Golden vectors: payloads captured from real Serf agents (`tests/vectors/wire.json`), decoded and encoded
//! back. `bad_input.rs` cuts and flips them.
#![allow(clippy::unwrap_used)]

mod common;

use common::{decode, envelope, hex, vectors};
use serde_json::Value;
use thane_engine::wire::keyring::Keyring;
use thane_engine::wire::packet::{self, Assembler, Scratch};
use thane_engine::wire::serf::SerfMessage;
use thane_engine::wire::stream::{Role, StreamDecoder, StreamMessage};
use thane_engine::wire::{Coordinate, DecodeError, Message, lzw};

/// Message types of the captured tree, in order.
fn expected_types(node: &Value, into: &mut Vec<String>) {
    match node {
        Value::Object(map) => {
            if let Some(kind) = map.get("type").and_then(Value::as_str) {
                let leaf = map.contains_key("body") || map.contains_key("serf");
                if leaf {
                    into.push(kind.to_owned());
                    return;
                }
            }
            map.values().for_each(|value| expected_types(value, into));
        }
        Value::Array(list) => list.iter().for_each(|value| expected_types(value, into)),
        _ => {}
    }
}

#[test]
fn every_captured_datagram_decodes_to_the_captured_messages() {
    for (name, bytes, envelope, decoded) in vectors("udp") {
        let messages = decode(&envelope, &bytes).unwrap_or_else(|why| panic!("{name}: {why}"));
        let mut expected = Vec::new();
        expected_types(&decoded, &mut expected);
        assert_eq!(messages.len(), expected.len(), "{name}: {messages:?} against {expected:?}");
        for (message, expected) in messages.iter().zip(&expected) {
            let message = message.as_ref().unwrap_or_else(|why| panic!("{name}: {why}"));
            let kind = message.split(['(', '{', ' ']).next().unwrap();
            let fits = match expected.as_str() {
                "user" => ["Leave", "Join", "UserEvent", "Query", "QueryResponse", "Relay"].contains(&kind),
                "ackResp" => kind == "Ack",
                "nackResp" => kind == "Nack",
                "indirectPing" => kind == "IndirectPing",
                other => kind.eq_ignore_ascii_case(other),
            };
            assert!(fits, "{name}: {message} should be {expected}");
        }
    }
}

/// What Serf 0.9.4 sent, unsealed and uncompressed, our encoders send byte for byte.
#[test]
fn captured_messages_encode_back_to_the_same_bytes() {
    let mut compared = 0;
    for (name, bytes, envelope, _) in vectors("udp") {
        if name.starts_with("new_") || name.contains("compress") || name.contains("v0") {
            continue;
        }
        let mut opened = bytes.clone();
        let plain = envelope.open(&mut opened).unwrap().to_vec();
        packet::for_each_message(&plain, &mut Scratch::default(), &mut |message| {
            let mut out = Vec::new();
            match message.unwrap() {
                Message::Ping(message) => message.encode(&mut out),
                Message::IndirectPing(message) => message.encode(&mut out),
                Message::Ack(message) => message.encode(&mut out),
                Message::Nack(message) => message.encode(&mut out),
                Message::Suspect(message) => message.encode(&mut out),
                Message::Alive(message) if !message.meta.is_empty() => {
                    message.encode(&mut out);
                    assert_eq!(out.len(), message.encoded_len(), "{name}");
                }
                Message::Dead(message) => message.encode(&mut out),
                Message::User(serf) => {
                    out.push(8);
                    match SerfMessage::decode(serf).unwrap() {
                        SerfMessage::Leave(message) => message.encode(&mut out),
                        SerfMessage::Join(message) => message.encode(&mut out),
                        SerfMessage::UserEvent(message) => message.encode(&mut out),
                        SerfMessage::Query(message) => message.encode(&mut out),
                        SerfMessage::QueryResponse(message) => message.encode(&mut out),
                        SerfMessage::Relay(message) => message.encode(&mut out),
                        other => panic!("{name}: {other:?} does not travel so"),
                    }
                }
                _ => return,
            }
            let found = plain.windows(out.len()).any(|window| window == out);
            assert!(found, "{name}: encoded to {out:02x?}, captured {plain:02x?}");
            compared += 1;
        });
    }
    assert!(compared > 60, "only {compared} messages were compared");
}

#[test]
fn captured_coordinates_decode_and_encode_back_to_the_same_bytes() {
    let mut compared = 0;
    for (name, bytes, envelope, _) in vectors("udp") {
        let mut opened = bytes.clone();
        let plain = envelope.open(&mut opened).unwrap();
        packet::for_each_message(plain, &mut Scratch::default(), &mut |message| {
            let Ok(Message::Ack(ack)) = message else { return };
            if ack.payload.is_empty() {
                return;
            }
            let coordinate = Coordinate::decode(&ack.payload).unwrap_or_else(|why| panic!("{name}: {why}"));
            let mut out = Vec::new();
            coordinate.encode(&mut out);
            assert_eq!(out, *ack.payload, "{name}");
            compared += 1;
        });
    }
    assert!(compared > 8, "only {compared} coordinates were compared");
}

#[test]
fn every_captured_stream_decodes_however_it_is_cut() {
    for (name, bytes, envelope, decoded) in vectors("tcp") {
        let role = if name.ends_with("reply") { Role::Dialler } else { Role::Listener };
        for chunk in [1, 7, bytes.len()] {
            let mut decoder = StreamDecoder::new(role);
            let mut message = None;
            for part in bytes.chunks(chunk) {
                assert!(message.is_none(), "{name}: whole before its end");
                decoder.feed(part).unwrap();
                message = decoder.poll(&envelope).unwrap_or_else(|why| panic!("{name}: {why}"));
            }
            let message = message.unwrap_or_else(|| panic!("{name}: never whole"));
            decoder.feed(&[6]).unwrap();
            assert!(matches!(decoder.poll(&envelope), Ok(None)), "{name}: something after the message");
            if let StreamMessage::PushPull(frame) = &message {
                let (mut offset, mut names) = (0, Vec::new());
                while let Some(node) = frame.next_node(&mut offset) {
                    names.push(node.name.to_owned());
                }
                let expected: Vec<&str> = decoded["nodes"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|n| n["Name"].as_str().unwrap())
                    .collect();
                assert_eq!(names, expected, "{name}");
                assert_eq!(Value::from(frame.join), decoded["header"]["Join"], "{name}");
                assert_eq!(
                    Value::from(frame.user_state().len()),
                    decoded["header"]["UserStateLen"],
                    "{name}"
                );
                if !frame.user_state().is_empty() {
                    let SerfMessage::PushPull(state) = SerfMessage::decode(frame.user_state()).unwrap()
                    else {
                        panic!("{name}: not serf's state");
                    };
                    let body = &decoded["userState"]["body"];
                    assert_eq!(Value::from(state.ltime.0), body["LTime"], "{name}");
                    assert_eq!(
                        state.status_ltimes().count(),
                        body["StatusLTimes"].as_object().unwrap().len(),
                        "{name}"
                    );
                    assert_eq!(state.left_members().count(), body["LeftMembers"].as_array().unwrap().len());
                }
            }
        }
    }
}

#[test]
fn sealed_datagrams_seal_back_with_their_nonce() {
    let mut compared = 0;
    for (name, bytes, mut envelope, _) in vectors("udp") {
        let label = if envelope.label.is_empty() { 0 } else { 2 + envelope.label.len() };
        if envelope.keyring.is_empty() {
            continue;
        }
        envelope.version = bytes[label];
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&bytes[label + 1..label + 13]);
        let keys: Vec<Vec<u8>> = envelope.keyring.keys().map(<[u8]>::to_vec).collect();
        let keyring = Keyring::new(&keys).unwrap();
        let mut plain = bytes[label..].to_vec();
        let plain = keyring.open(&envelope.label, &mut plain).unwrap().to_vec();
        let mut out = bytes[..label].to_vec();
        out.extend_from_slice(&plain);
        keyring.seal(envelope.version, nonce, &envelope.label, &mut out, label);
        assert_eq!(out, bytes, "{name}");
        compared += 1;
    }
    assert!(compared > 5);
}

#[test]
fn lzw_streams_of_go_decompress_and_ours_are_the_same() {
    let all: Vec<Value> = serde_json::from_str(include_str!("vectors/lzw.json")).unwrap();
    assert!(!all.is_empty());
    for vector in all {
        let raw = hex(vector["raw_hex"].as_str().unwrap());
        let stream = hex(vector["lzw_hex"].as_str().unwrap());
        let mut out = Vec::new();
        lzw::decompress(&stream, raw.len(), &mut out).unwrap();
        assert_eq!(out, raw, "{}", vector["name"]);
        if !raw.is_empty() {
            let too_small = lzw::decompress(&stream, raw.len() - 1, &mut Vec::new());
            assert_eq!(too_small, Err(DecodeError::DecompressedTooLarge), "{}", vector["name"]);
        }
        let mut ours = Vec::new();
        lzw::compress(&raw, &mut ours);
        assert_eq!(ours, stream, "{}", vector["name"]);
    }
}

#[test]
fn packets_assemble_within_the_budget_and_split_again() {
    let plain = envelope(&[], Vec::new());
    let sealed = envelope(&[vec![7; 32]], b"fleet".to_vec());
    for envelope in [plain, sealed] {
        let mut assembler = Assembler::default();
        assembler.begin(1400 - envelope.overhead());
        let mut pushed = 0;
        while assembler.remaining() >= 11 {
            assembler.push(|out| out.extend_from_slice(b"\x0b\x81\xa5SeqNo\xcd\x02\x00"));
            pushed += 1;
        }
        let mut out = Vec::new();
        let range = assembler.finish(&mut out, &envelope, true, [1; 12]);
        assert!(range.len() <= 1405, "{} bytes", range.len());
        let messages = decode(&envelope, &out[range]).unwrap();
        assert_eq!(messages.len(), pushed);
        assert!(messages.iter().all(Result::is_ok));
    }
}

/// A big message that arrives in small reads is not parsed from its start at each of them, and what must be
/// small is refused when it never ends.
#[test]
fn endless_streams_are_refused_and_big_ones_are_not_parsed_again_and_again() {
    let envelope = envelope(&[], Vec::new());
    for start in [&b"\x00\xdf\xff\xff\xff\xff"[..], b"\x06\xdf\xff\xff\xff\xff"] {
        let mut decoder = StreamDecoder::new(Role::Listener);
        decoder.feed(start).unwrap();
        let mut refused = None;
        for _ in 0..64 {
            decoder.feed(b"\xa1x\x01".repeat(2048)).unwrap();
            if let Err(reason) = decoder.poll(&envelope) {
                refused = Some(reason);
                break;
            }
        }
        assert_eq!(refused, Some(DecodeError::StreamTooLarge));
    }
    let user = [&b"\x08\x81\xaaUserMsgLen\xce\x00\x10\x00\x00"[..], &vec![3; 1 << 20]].concat();
    let (mut raw, mut packed) = (vec![8], Vec::new());
    raw.extend_from_slice(&user[1..]);
    let mut compressing = envelope.clone();
    compressing.compress = true;
    thane_engine::wire::stream::encode_stream(&raw, &compressing, Role::Listener, [0; 12], &mut packed);
    for bytes in [user, packed] {
        let mut decoder = StreamDecoder::new(Role::Dialler);
        let mut messages = 0;
        for part in bytes.chunks(1000) {
            decoder.feed(part).unwrap();
            messages += usize::from(decoder.poll(&envelope).unwrap().is_some());
        }
        assert_eq!(messages, 1);
    }
}
