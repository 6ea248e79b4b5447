//! What the tests of the wire format share.
#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "each test crate takes what it needs")]

use serde_json::Value;

use thane_engine::wire::DecodeError;
use thane_engine::wire::Message;
use thane_engine::wire::envelope::Envelope;
use thane_engine::wire::packet::{self, Scratch};
use thane_engine::wire::serf::SerfMessage;

/// The captured payloads of a transport: name, bytes, what opens them, what the capture says they hold.
pub(crate) fn vectors(transport: &str) -> Vec<(String, Vec<u8>, Envelope, Value)> {
    let all: Vec<Value> = serde_json::from_str(include_str!("../vectors/wire.json")).unwrap();
    all.into_iter()
        .filter(|vector| vector["transport"] == transport)
        .map(|vector| {
            let name = vector["name"].as_str().unwrap().to_owned();
            let keys: Vec<Vec<u8>> = vector["key_hex_if_encrypted"].as_str().map(hex).into_iter().collect();
            let label = if name.contains("label") { b"mylabel".to_vec() } else { Vec::new() };
            (name, hex(vector["hex"].as_str().unwrap()), envelope(&keys, label), vector["decoded"].clone())
        })
        .collect()
}

/// Takes and sends what is sealed with these keys, under that label.
pub(crate) fn envelope(keys: &[Vec<u8>], label: Vec<u8>) -> Envelope {
    Envelope { label, ..Envelope::new(keys).unwrap() }
}

/// Bytes from hexadecimal digits.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// Messages of a datagram, as owned debug text; or why parts of it were refused.
pub(crate) fn decode(
    envelope: &Envelope,
    datagram: &[u8],
) -> Result<Vec<Result<String, DecodeError>>, DecodeError> {
    let mut bytes = datagram.to_vec();
    let plain = envelope.open(&mut bytes)?;
    let mut messages = Vec::new();
    packet::for_each_message(plain, &mut Scratch::default(), &mut |message| {
        messages.push(message.and_then(|message| {
            if let Message::User(serf) = &message {
                return SerfMessage::decode(serf).map(|message| format!("{message:?}"));
            }
            Ok(format!("{message:?}"))
        }));
    });
    Ok(messages)
}
