//! `thane decode`: shows captured bytes as JSON. The engine's own decoder reads them and reports each layer and each
//! message; nothing here parses a second time.

mod fields;
mod options;
mod rpc;
mod tree;

use std::process::ExitCode;

use serde_json::{Value, json};
use thane_engine::wire::DecodeError;
use thane_engine::wire::limits::DATAGRAM_BYTES_MAX;

use crate::command::Command;
use crate::flags::Argument;
use crate::output::{say, say_aside};
use options::{Options, Transport};
use tree::Tree;

pub(crate) const COMMAND: Command = Command {
    name: "decode",
    arguments: "[options] HEX | --file PATH | -",
    synopsis: "Decode captured bytes of Serf's protocols to JSON",
    about: "Decodes bytes of Serf's protocols to JSON: every layer (label, encryption, checksum, compression, \
            compound) and every field. Give the bytes as hex digits; white space and colons between bytes and a \
            leading 0x are ignored. '-' reads them from standard input. Exit codes: 0 decoded, 1 all or a part \
            refused (the reason is on standard error), 2 wrong usage.",
    options: &[
        ("-file=path", "Read the hex digits from a file"),
        ("-key=key", "A key to decrypt with, base64 or hex: 16, 24 or 32 bytes; can be given several times"),
        ("-label=text", "The label of the cluster, if it uses one"),
        (
            "-transport=udp",
            "udp: a gossip datagram. tcp: the bytes that one side of a gossip stream sent. rpc: the bytes that one \
             side of an RPC connection sent",
        ),
    ],
    run: |arguments| Ok(run(arguments)),
};

/// Exit code for wrong usage; refused bytes give 1.
const EXIT_USAGE: u8 = 2;

/// Runs the command with the arguments after its name.
fn run(args: &[Argument]) -> ExitCode {
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(message) => return wrong_usage(&message),
    };
    let payload = match options.read_payload() {
        Ok(payload) => payload,
        Err(message) => return wrong_usage(&message),
    };
    let explained = explain(&options, payload);
    if let Some(json) = &explained.json {
        say(format_args!("{json:#}"));
    }
    match explained.refusal {
        None => ExitCode::SUCCESS,
        Some(refusal) => {
            say_aside(format_args!("thane decode: refused: {refusal}"));
            ExitCode::FAILURE
        }
    }
}

/// The result of decoding.
struct Explained {
    /// The decoded part; `None` if nothing could be decoded.
    json: Option<Value>,
    /// The reason why all or a part was refused, in one line.
    refusal: Option<String>,
}

fn explain(options: &Options, payload: Vec<u8>) -> Explained {
    let bytes = payload.len();
    if options.transport == Transport::Rpc {
        let (values, refused) = rpc::values(&payload);
        let found = !values.is_empty() || bytes == 0;
        return Explained {
            json: found.then(|| json!({ "transport": "rpc", "bytes": bytes, "values": values })),
            refusal: refused.map(|(reason, at)| format!("{reason}, at byte {at}")),
        };
    }
    let envelope = options.envelope();
    let first = payload.first().copied();
    let tree = match options.transport {
        Transport::Tcp => Tree::of_stream(&envelope, &payload),
        _ if bytes > DATAGRAM_BYTES_MAX => Tree::refused(DecodeError::DatagramTruncated),
        _ => Tree::of_datagram(&envelope, payload),
    };
    let refusal = tree.refusal().map(|(reason, path)| {
        let place = if path.is_empty() { String::new() } else { format!(" (in {path})") };
        let hint =
            hint(options, reason, first, tree.label()).map_or(String::new(), |hint| format!("; {hint}"));
        format!("{reason}{place}{hint}")
    });
    let transport = options.transport.as_str();
    let json =
        tree.into_json().map(|payload| json!({ "transport": transport, "bytes": bytes, "payload": payload }));
    Explained { json, refusal }
}

/// What to try if a wrong or missing flag is the likely reason.
fn hint(options: &Options, reason: DecodeError, first: Option<u8>, label: Option<&str>) -> Option<String> {
    let keyless = options.keys.is_empty();
    Some(match (reason, label) {
        (DecodeError::LabelMismatch, Some(label)) => format!("the label is {label:?}: give it with -label"),
        (DecodeError::LabelMissing, _) => "the bytes have no label: leave -label out".to_owned(),
        (DecodeError::Encrypted, _) => "give the key with -key".to_owned(),
        (DecodeError::NotEncrypted, _) => "leave -key out".to_owned(),
        (DecodeError::WrongKey, _) => {
            "none of the keys decrypts the bytes; plain bytes need no -key".to_owned()
        }
        // Nothing marks a sealed datagram: its first byte is the version of the encryption.
        (DecodeError::BadMsgpack | DecodeError::Truncated, _)
            if keyless && matches!(first, Some(0 | 1)) && options.transport == Transport::Udp =>
        {
            "if the bytes are encrypted, give the key with -key".to_owned()
        }
        (DecodeError::StreamCut, _) => "the bytes end in the middle of a message".to_owned(),
        _ => return None,
    })
}

fn wrong_usage(message: &str) -> ExitCode {
    say_aside(format_args!("thane decode: {message}"));
    ExitCode::from(EXIT_USAGE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn explained(args: &[&str]) -> Explained {
        let args: Vec<Argument> = args.iter().map(|&arg| Argument::from(arg)).collect();
        let options = Options::parse(&args).unwrap();
        let payload = options.read_payload().unwrap();
        explain(&options, payload)
    }

    #[test]
    fn captured_payloads_cut_anywhere_are_explained_or_refused() {
        let all: Value =
            serde_json::from_str(include_str!("../../../engine/tests/vectors/wire.json")).unwrap();
        for vector in all.as_array().unwrap() {
            let (name, hex) = (vector["name"].as_str().unwrap(), vector["hex"].as_str().unwrap());
            let mut args = vec!["--transport", vector["transport"].as_str().unwrap()];
            if let Some(key) = vector["key_hex_if_encrypted"].as_str() {
                args.extend(["--key", key]);
            }
            if name.contains("label") {
                args.extend(["--label", "mylabel"]);
            }
            for end in (0..hex.len()).step_by(2) {
                let explained = explained(&[&args[..], &[&hex[..end]]].concat());
                assert!(explained.json.is_some() || explained.refusal.is_some(), "{name} cut at {end}");
            }
        }
    }

    #[test]
    fn what_is_whole_in_a_cut_packet_is_shown_beside_the_reason() {
        // A compound of a nack, a part of length zero, and a nack that is cut.
        let explained = explained(&["07 03 0009 0000 0009 0b81a55365714e6f07 0b81a5"]);
        let json = explained.json.unwrap();
        let parts = json["payload"]["parts"].as_array().unwrap();
        assert_eq!(parts[0]["body"]["SeqNo"], 7);
        assert_eq!(parts[1]["reason"], "empty_part");
        assert_eq!(parts[2]["reason"], "truncated");
        assert_eq!(parts[2]["content"]["hex"], "0b81a5");
        assert_eq!(explained.refusal.unwrap(), "empty_part (in compound, and 1 more)");
    }

    #[test]
    fn relays_in_relays_are_not_followed() {
        let header = "0982a8446573744164647283a24950a47f000001a4506f727401a45a6f6e65a0a8446573744e616d65a0";
        let nested = format!("08{}0081a4", header.repeat(1500));
        let json = explained(&[&nested]).json.unwrap();
        assert_eq!(json["payload"]["serf"]["inner"]["not_understood"], "nested_too_deep");
    }

    #[test]
    fn what_is_longer_than_a_datagram_is_refused_as_the_agent_refuses_it() {
        let explained = explained(&[&"00".repeat(DATAGRAM_BYTES_MAX + 1)]);
        assert_eq!(explained.refusal.unwrap(), "datagram_truncated");
    }
}
