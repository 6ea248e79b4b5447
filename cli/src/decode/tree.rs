//! The layers and messages of a payload as a tree, built from the steps that the engine reports while it decodes.

use serde_json::{Map, Value, json};
use thane_engine::wire::envelope::Envelope;
use thane_engine::wire::message::HAS_LABEL;
use thane_engine::wire::packet::{self, Scratch};
use thane_engine::wire::reconcile::Reconcile;
use thane_engine::wire::stream::{PushPullFrame, Role, StreamDecoder, StreamMessage};
use thane_engine::wire::{DecodeError, Layer, Step};

use super::fields::{self, bytes_json, hex};

/// The layers and messages of one payload.
#[derive(Default)]
pub(super) struct Tree {
    /// The open layers, outermost first.
    open: Vec<Map<String, Value>>,
    root: Option<Value>,
    label: Option<String>,
    messages: usize,
    /// The first refusal and its place.
    refusal: Option<(DecodeError, String)>,
    refused: usize,
}

impl Tree {
    /// Decodes a datagram.
    pub(super) fn of_datagram(envelope: &Envelope, mut bytes: Vec<u8>) -> Tree {
        let mut tree = Tree::default();
        match envelope.open_traced(&mut bytes, |step| tree.on_step(step)) {
            Err(reason) => tree.refuse(reason),
            Ok(plain) => packet::for_each_step(plain, &mut Scratch::default(), |step| tree.on_step(step)),
        }
        tree.close()
    }

    /// Decodes the bytes that one side of a stream sent. Only the side that dialled sends the label (PROTOCOL 4.1),
    /// so bytes without a label are decoded as an answer.
    pub(super) fn of_stream(envelope: &Envelope, bytes: &[u8]) -> Tree {
        let mut tree = Tree::default();
        let labelled = bytes.first() == Some(&HAS_LABEL);
        let reader = if labelled { Role::Listener } else { Role::Dialler };
        let mut decoder = StreamDecoder::new(reader);
        let decoded =
            decoder.feed(bytes).and_then(|()| decoder.poll_traced(envelope, |step| tree.on_step(step)));
        match decoded {
            Err(reason) => tree.refuse(reason),
            Ok(None) if bytes.is_empty() => tree.refuse(DecodeError::Empty),
            Ok(None) => tree.refuse(DecodeError::StreamCut),
            Ok(Some(StreamMessage::PushPull(frame))) => tree.on_push_pull(&frame),
            Ok(Some(StreamMessage::User(serf))) => tree.on_described(&serf, fields::user(&serf)),
            Ok(Some(StreamMessage::Reconcile(step))) => match Reconcile::decode(&step) {
                Ok(decoded) => {
                    let body = fields::reconcile(&decoded);
                    let value = json!({ "type": "reconcile", "bytes": step.len() + 1, "body": body });
                    tree.on_described(&step, Ok(value));
                }
                Err(reason) => tree.refuse(reason),
            },
            // The steps have reported these with all their fields.
            Ok(Some(StreamMessage::Ping { .. } | StreamMessage::Ack { .. } | StreamMessage::Err(_))) => {}
        }
        tree.close()
    }

    /// The tree of bytes that are refused without decoding.
    pub(super) fn refused(reason: DecodeError) -> Tree {
        Tree { refusal: Some((reason, String::new())), refused: 1, ..Tree::default() }
    }

    /// The first refusal: its reason and the layers around it.
    pub(super) fn refusal(&self) -> Option<(DecodeError, String)> {
        let (reason, path) = self.refusal.clone()?;
        let more = match self.refused {
            1 => String::new(),
            refused => format!("{}and {} more", if path.is_empty() { "" } else { ", " }, refused - 1),
        };
        Some((reason, path + &more))
    }

    /// The label of the payload.
    pub(super) fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// The tree; `None` if no message could be decoded.
    pub(super) fn into_json(self) -> Option<Value> {
        self.root.filter(|_| self.messages > 0)
    }

    fn on_step(&mut self, step: Step<'_>) {
        match step {
            Step::Enter(layer) => {
                if let Layer::Label(label) = layer {
                    self.label = Some(String::from_utf8_lossy(label).into_owned());
                }
                self.open.push(describe_layer(&layer));
            }
            Step::Leave => self.leave(),
            Step::Message(bytes, Ok(message)) => self.on_described(bytes, fields::message(bytes, &message)),
            Step::Message(bytes, Err(reason)) => self.on_described(bytes, Err(reason)),
        }
    }

    fn on_described(&mut self, bytes: &[u8], described: Result<Value, DecodeError>) {
        let value = match described {
            Ok(value) => {
                self.messages += 1;
                value
            }
            Err(reason) => {
                self.refuse(reason);
                json!({ "type": "refused", "reason": reason.as_str(), "content": bytes_json(bytes) })
            }
        };
        self.attach(value);
    }

    fn on_push_pull(&mut self, frame: &PushPullFrame) {
        let (mut offset, mut nodes) = (0, Vec::new());
        while let Some(node) = frame.next_node(&mut offset) {
            nodes.push(fields::node_state(&node));
        }
        let user = frame.user_state();
        let state = if user.is_empty() { Ok(Value::Null) } else { fields::serf(user) };
        let state = state.unwrap_or_else(|reason| {
            self.refuse(reason);
            json!({ "type": "refused", "reason": reason.as_str(), "content": bytes_json(user) })
        });
        self.messages += 1;
        self.attach(json!({
            "type": "push_pull",
            "bytes": frame.len(),
            "body": { "Join": frame.join, "Nodes": frame.nodes_count, "UserStateLen": user.len() },
            "nodes": nodes,
            "user_state": state,
        }));
    }

    fn refuse(&mut self, reason: DecodeError) {
        self.refused += 1;
        if self.refusal.is_none() {
            let types = self.open.iter().filter_map(|node| node["type"].as_str());
            self.refusal = Some((reason, types.collect::<Vec<&str>>().join(" > ")));
        }
    }

    fn leave(&mut self) {
        if let Some(node) = self.open.pop() {
            self.attach(Value::Object(node));
        }
    }

    /// Adds a layer or message to the layer around it.
    fn attach(&mut self, value: Value) {
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some(around) => match around.get_mut("parts") {
                Some(Value::Array(parts)) => parts.push(value),
                _ => drop(around.insert("inner".to_owned(), value)),
            },
        }
    }

    /// Closes all open layers.
    fn close(mut self) -> Tree {
        while !self.open.is_empty() {
            self.leave();
        }
        self
    }
}

fn describe_layer(layer: &Layer<'_>) -> Map<String, Value> {
    let described = match layer {
        Layer::Label(label) => json!({ "type": "label", "label": bytes_json(label) }),
        Layer::Sealed { version, nonce, key, sealed_bytes, plain_bytes } => json!({
            "type": "sealed",
            "version": version,
            "nonce": hex(nonce),
            "key": key + 1,
            "sealed_bytes": sealed_bytes,
            "plain_bytes": plain_bytes,
        }),
        Layer::Checksum(crc) => json!({ "type": "crc", "crc": format!("{crc:08x}") }),
        Layer::Compressed { stream_bytes, plain_bytes } => {
            json!({ "type": "compressed", "stream_bytes": stream_bytes, "plain_bytes": plain_bytes })
        }
        Layer::Compound(lengths) => {
            let lengths: Vec<u16> = lengths.iter().map(|length| length.get()).collect();
            json!({ "type": "compound", "count": lengths.len(), "lengths": lengths, "parts": [] })
        }
    };
    match described {
        Value::Object(map) => map,
        _ => unreachable!("every layer is described by an object"),
    }
}
