//! Labels: WIR-11.

use thane_engine::fixtures::{members, push_pull};
use thane_engine::wire::DecodeError;

use super::helpers::{announced, labelled, quiet};
use super::*;

/// What a node labelled `blue` refuses: each label that it hears, and why.
const REFUSED: [(&[u8], DecodeError); 8] = [
    (b"b", DecodeError::LabelMismatch),
    (b"blu", DecodeError::LabelMismatch),
    (b"blue1", DecodeError::LabelMismatch),
    (b"blueblue", DecodeError::LabelMismatch),
    (b"lue", DecodeError::LabelMismatch),
    (b"Blue", DecodeError::LabelMismatch),
    (b"red", DecodeError::LabelMismatch),
    (b"", DecodeError::LabelMalformed),
];

fn blue() -> Lone {
    quiet(|raw| raw.label = b"blue".to_vec())
}

#[test]
fn wir_11_a_datagram_needs_the_whole_label_and_nothing_more() {
    let mut message = Vec::new();
    announced(2, "n2", 1).encode(&mut message);
    for (label, reason) in REFUSED {
        let mut lone = blue();
        lone.receive(&mut labelled(label, &message));
        assert_eq!(lone.node.stats().drops(reason), 1, "{label:?}");
        assert_eq!(lone.node.members(&lone.ctx).len(), 1, "{label:?}");
    }
    let mut lone = blue();
    lone.receive(&mut message.clone());
    assert_eq!(lone.node.stats().drops(DecodeError::LabelMissing), 1);
    lone.receive(&mut labelled(b"blue", &message));
    assert_eq!(lone.node.members(&lone.ctx).len(), 2);
}

#[test]
fn wir_11_a_stream_needs_the_whole_label_and_nothing_more() {
    let state = push_pull(&members(3));
    let known_after = |bytes: &[u8]| {
        let mut lone = blue();
        let id = StreamId::accepted(0);
        lone.node.handle_stream(&mut lone.ctx, id, StreamInput::Accepted(PEER));
        lone.node.handle_stream(&mut lone.ctx, id, StreamInput::Bytes(bytes.into()));
        lone.wait(Duration::from_millis(10));
        (lone.node.members(&lone.ctx).len(), lone)
    };
    for (label, reason) in REFUSED {
        let (known, lone) = known_after(&labelled(label, &state));
        assert_eq!((known, lone.node.stats().drops(reason)), (1, 1), "{label:?}");
    }
    assert_eq!(known_after(&state).0, 1, "without a label");
    assert_eq!(known_after(&labelled(b"blue", &state)).0, 4);
}
