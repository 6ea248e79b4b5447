//! Decoders of bytes from outside.

use super::Choices;
use crate::ipc::{Command, Frames, ReceivedMember, Request, RequestHeader, ResponseHeader, Value};
use crate::pattern::Pattern;
use crate::wire::envelope::Envelope;
use crate::wire::limits::DATAGRAM_MESSAGES_MAX;
use crate::wire::msgpack::Reader;
use crate::wire::packet::{self, Scratch};
use crate::wire::serf::{Filter, SerfMessage};
use crate::wire::stream::{Role, StreamDecoder};
use crate::wire::{Coordinate, Message, NodeState, Step, decode_tags, lzw as codec};

const KEY: [u8; 16] = *b"0123456789abcdef";

/// What opens the bytes that follow: nothing, a label, a key, or both.
fn envelope(choices: &mut Choices<'_>) -> Envelope {
    let choice = choices.byte();
    let keys: &[Vec<u8>] = if choice & 1 == 0 { &[] } else { &[KEY.to_vec()] };
    let label = if choice & 2 == 0 { Vec::new() } else { b"mylabel".to_vec() };
    match Envelope::new(keys) {
        Ok(envelope) => Envelope { label, ..envelope },
        Err(error) => panic!("a key of 16 bytes: {error}"),
    }
}

/// A datagram: every part is entered and left, the cap on messages holds.
pub(super) fn packet(data: &[u8]) {
    let mut choices = Choices::new(data);
    let envelope = envelope(&mut choices);
    let mut bytes = choices.rest.to_vec();
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

/// Every decoder of a message or of a part of one.
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

/// A stream: the same comes of it whole and in the pieces that the first bytes say.
pub(super) fn stream(data: &[u8]) {
    let mut choices = Choices::new(data);
    let envelope = envelope(&mut choices);
    let role = if choices.below(2) == 0 { Role::Listener } else { Role::Dialler };
    let steps = [1 + choices.below(7), 1 + choices.below(200)];
    let whole = outcome(role, &envelope, &[choices.rest]);
    let mut pieces = Vec::new();
    let mut rest = choices.rest;
    for step in steps.into_iter().cycle().take(64) {
        let (piece, after) = rest.split_at(step.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    assert_eq!(whole, outcome(role, &envelope, &pieces), "however it is cut");
}

/// What comes of a stream that arrives in these pieces.
fn outcome(role: Role, envelope: &Envelope, pieces: &[&[u8]]) -> String {
    let mut decoder = StreamDecoder::new(role);
    for piece in pieces {
        if let Err(error) = decoder.feed(*piece) {
            return format!("{error:?}");
        }
        match decoder.poll(envelope) {
            Ok(None) => {}
            result => return format!("{result:?}"),
        }
    }
    "not whole".to_owned()
}

/// An RPC connection in two pieces: the same values come of it, every request and answer is decoded or refused.
pub(super) fn rpc(data: &[u8]) {
    const VALUE_BYTES_MAX: usize = 4096;
    let mut choices = Choices::new(data);
    let cut = usize::from(choices.byte()).min(choices.rest.len());
    let values = |pieces: [&[u8]; 2]| {
        let mut frames = Frames::new(VALUE_BYTES_MAX);
        let mut values: Vec<Vec<u8>> = Vec::new();
        for piece in pieces {
            frames.feed(piece);
            loop {
                match frames.poll() {
                    Ok(Some(value)) => values.push(value.to_vec()),
                    Ok(None) => break,
                    Err(error) => return (values, Some(format!("{error:?}"))),
                }
            }
        }
        (values, None)
    };
    let whole = values([choices.rest, &[]]);
    assert_eq!(whole, values([&choices.rest[..cut], &choices.rest[cut..]]), "however it is cut");
    for value in whole.0 {
        assert!(value.len() <= VALUE_BYTES_MAX);
        let _ =
            (RequestHeader::decode(&value), ResponseHeader::decode(&value), ReceivedMember::decode(&value));
        for command in Command::ALL {
            let _ = Request::decode(*command, &value);
        }
    }
}

/// LZW: any stream is unpacked within the cap or refused; what was packed comes back.
pub(super) fn lzw(data: &[u8]) {
    const CAP: usize = 64 << 10;
    let mut out = Vec::new();
    let _ = codec::decompress(data, CAP, &mut out);
    assert!(out.len() <= CAP, "{} bytes", out.len());
    let (mut packed, mut back) = (Vec::new(), Vec::new());
    codec::compress(data, &mut packed);
    assert_eq!(codec::decompress(&packed, data.len(), &mut back), Ok(()));
    assert_eq!(back, data);
}

/// An expression of a filter, and a text that it may match.
pub(super) fn pattern(data: &[u8]) {
    let mut choices = Choices::new(data);
    let expression = String::from_utf8_lossy(choices.part()).into_owned();
    if let Ok(pattern) = Pattern::new(&expression) {
        let _ = pattern.is_match(&String::from_utf8_lossy(choices.rest));
    }
}
