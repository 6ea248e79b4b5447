//! Every field of every message as JSON. Fields have their names on the wire; byte fields show their size, their hex
//! digits and, if printable, their text.

use serde_json::{Map, Value, json};
use thane_engine::wire::extension::EXTENSION_KEY;
use thane_engine::wire::reconcile::{PointRange, Reconcile, ReconcileSet, Section};
use thane_engine::wire::record::MemberRecord as ReconcileRecord;
use thane_engine::wire::serf::{EventSlot, Filter, MemberRecord, PushPullState, Query, QueryResponse, Relay};
use thane_engine::wire::{
    Coordinate, DecodeError, Extension, Message, NodeState, SerfMessage, WireState, decode_tags,
    ip_from_bytes,
};

/// Serf's names of a member's status, by number.
const STATUSES: [&str; 5] = ["none", "alive", "leaving", "left", "failed"];

/// One memberlist message, type byte first.
///
/// # Errors
/// The reason why a Serf message inside it is refused.
pub(super) fn message(bytes: &[u8], message: &Message<'_>) -> Result<Value, DecodeError> {
    let (kind, body) = match message {
        Message::User(serf) => return user(serf),
        Message::Ping(ping) => (
            "ping",
            extended(
                json!({
                    "Node": ping.node,
                    "SeqNo": ping.seq.0,
                    "SourceAddr": addr_json(&ping.source_addr),
                    "SourceNode": ping.source_node,
                    "SourcePort": ping.source_port,
                }),
                ping.extension,
            ),
        ),
        Message::IndirectPing(ping) => (
            "indirect_ping",
            json!({
                "Nack": ping.nack,
                "Node": ping.node,
                "Port": ping.port,
                "SeqNo": ping.seq.0,
                "SourceAddr": addr_json(&ping.source_addr),
                "SourceNode": ping.source_node,
                "SourcePort": ping.source_port,
                "Target": addr_json(&ping.target),
            }),
        ),
        Message::Ack(ack) => (
            "ack",
            extended(json!({ "Payload": ack_payload(&ack.payload), "SeqNo": ack.seq.0 }), ack.extension),
        ),
        Message::Nack(nack) => ("nack", json!({ "SeqNo": nack.seq.0 })),
        Message::Suspect(suspect) => (
            "suspect",
            json!({ "From": suspect.from, "Incarnation": suspect.incarnation.0, "Node": suspect.node }),
        ),
        Message::Dead(dead) => {
            ("dead", json!({ "From": dead.from, "Incarnation": dead.incarnation.0, "Node": dead.node }))
        }
        Message::Alive(alive) => (
            "alive",
            json!({
                "Addr": addr_json(&alive.addr),
                "Incarnation": alive.incarnation.0,
                "Meta": meta_json(&alive.meta),
                "Node": alive.node,
                "Port": alive.port,
                "Vsn": versions_json(&alive.versions),
            }),
        ),
        Message::Err(refusal) => ("err", json!({ "Error": refusal.error })),
        Message::Reconcile(step) => ("reconcile", reconcile(step)),
    };
    Ok(json!({ "type": kind, "bytes": bytes.len(), "body": body }))
}

/// Adds what a Thane node added to a ping or an ack.
fn extended(mut body: Value, extension: Option<Extension>) -> Value {
    if let (Some(extension), Some(fields)) = (extension, body.as_object_mut()) {
        let value = json!({
            "members": format!("{:016x}", extension.members),
            "count": extension.count,
            "messages": format!("{:016x}", extension.messages),
            "gone": format!("{:08x}", extension.gone),
            "members_age_seconds": f64::from(extension.members_age) / 10.0,
            "messages_age_seconds": f64::from(extension.messages_age) / 10.0,
        });
        fields.insert(EXTENSION_KEY.to_owned(), value);
    }
    body
}

/// A step of a reconciliation between Thane nodes.
pub(super) fn reconcile(step: &Reconcile<'_>) -> Value {
    let range = |range: PointRange| format!("{:016x} to {:016x}", range.first(), range.last());
    let sections = step.sections().map(|section| match section {
        Section::Sums { range: whole, sums, .. } => json!({ "sums": sums.len(), "range": range(whole) }),
        Section::List { range: of, elements } => json!({ "list": elements.count(), "range": range(of) }),
        Section::Want { range: of, elements } => json!({ "want": elements.count(), "range": range(of) }),
        Section::Record(record) => match (step.set, ReconcileRecord::decode(record)) {
            (ReconcileSet::Members, Ok(member)) => {
                json!({ "record": member.name, "Incarnation": member.incarnation.0 })
            }
            _ => json!({ "record": bytes_json(record) }),
        },
        Section::More(count) => json!({ "more": count }),
    });
    json!({
        "From": step.from,
        "Set": if step.set == ReconcileSet::Members { "members" } else { "messages" },
        "Step": step.step,
        "Sections": sections.collect::<Vec<Value>>(),
    })
}

/// A user message: the memberlist message that carries a Serf message.
///
/// # Errors
/// The reason why the Serf message is refused.
pub(super) fn user(bytes: &[u8]) -> Result<Value, DecodeError> {
    Ok(json!({ "type": "user", "serf": serf(bytes)? }))
}

/// A member of a push/pull.
pub(super) fn node_state(node: &NodeState<'_>) -> Value {
    let state = match node.state {
        WireState::Alive => "alive",
        WireState::Suspect => "suspect",
        WireState::Dead => "dead",
        WireState::Left => "left",
    };
    json!({
        "Addr": addr_json(&node.addr),
        "Incarnation": node.incarnation.0,
        "Meta": meta_json(&node.meta),
        "Name": node.name,
        "Port": node.port,
        "State": state,
        "Vsn": versions_json(&node.versions),
    })
}

/// One Serf message, type byte first.
///
/// # Errors
/// The reason why it is refused.
pub(super) fn serf(bytes: &[u8]) -> Result<Value, DecodeError> {
    let (kind, body) = match SerfMessage::decode(bytes)? {
        SerfMessage::Leave(leave) => {
            ("leave", json!({ "LTime": leave.ltime.0, "Node": leave.node, "Prune": leave.prune }))
        }
        SerfMessage::Join(join) => ("join", json!({ "LTime": join.ltime.0, "Node": join.node })),
        SerfMessage::PushPull(state) => ("push_pull", push_pull_json(&state)),
        SerfMessage::UserEvent(event) => (
            "user_event",
            json!({
                "CC": event.coalesce,
                "LTime": event.ltime.0,
                "Name": event.name,
                "Payload": bytes_json(&event.payload),
            }),
        ),
        SerfMessage::Query(query) => ("query", query_json(&query)),
        SerfMessage::QueryResponse(response) => ("query_response", response_json(&response)),
        SerfMessage::ConflictResponse(member) => {
            ("conflict_response", member.as_ref().map_or(Value::Null, member_json))
        }
        SerfMessage::KeyRequest(request) => ("key_request", json!({ "Key": bytes_json(&request.key) })),
        SerfMessage::KeyResponse(response) => (
            "key_response",
            json!({
                "Keys": response.keys,
                "Message": response.message,
                "PrimaryKey": response.primary_key,
                "Result": response.result,
            }),
        ),
        SerfMessage::Relay(relay) => return Ok(relay_json(bytes, &relay)),
    };
    Ok(json!({ "type": kind, "bytes": bytes.len(), "body": body }))
}

/// Size, hex digits and text of bytes.
pub(super) fn bytes_json(bytes: &[u8]) -> Value {
    let mut json = json!({ "bytes": bytes.len(), "hex": hex(bytes) });
    if let Some(text) = printable(bytes) {
        json["text"] = text.into();
    }
    json
}

/// Hex digits of bytes.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn printable(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let control = |c: char| c.is_control() && !matches!(c, '\n' | '\t' | '\r');
    (!text.is_empty() && !text.contains(control)).then_some(text)
}

/// An address; old members leave some of them empty.
fn addr_json(bytes: &[u8]) -> Value {
    match ip_from_bytes(bytes) {
        Some(ip) => json!({ "ip": ip.to_string(), "hex": hex(bytes) }),
        None => Value::Null,
    }
}

fn meta_json(meta: &[u8]) -> Value {
    let mut json = bytes_json(meta);
    match decode_tags(meta) {
        Ok(tags) => json["tags"] = json!(tags),
        Err(reason) => json["not_understood"] = reason.as_str().into(),
    }
    json
}

fn versions_json(versions: &[u8]) -> Value {
    let names = ["ProtocolMin", "ProtocolMax", "ProtocolCur", "DelegateMin", "DelegateMax", "DelegateCur"];
    let mut json = Map::from_iter([("hex".to_owned(), hex(versions).into())]);
    json.extend(names.iter().zip(versions).map(|(&name, &version)| (name.to_owned(), version.into())));
    Value::Object(json)
}

/// Serf puts its coordinate into acks. Another payload is not an error: other programs use it for their own data.
fn ack_payload(payload: &[u8]) -> Value {
    let mut json = bytes_json(payload);
    match Coordinate::decode(payload) {
        Ok(Coordinate { vec, error, adjustment, height }) => {
            json["coordinate"] =
                json!({ "Adjustment": adjustment, "Error": error, "Height": height, "Vec": vec });
        }
        Err(DecodeError::Empty) => {}
        Err(reason) => json["not_understood"] = reason.as_str().into(),
    }
    json
}

fn push_pull_json(state: &PushPullState<'_>) -> Value {
    let ltimes: Map<String, Value> =
        state.status_ltimes().map(|(node, ltime)| (node.to_owned(), ltime.0.into())).collect();
    json!({
        "EventLTime": state.event_ltime.0,
        "Events": state.events().map(|slot| slot_json(&slot)).collect::<Vec<Value>>(),
        "LTime": state.ltime.0,
        "LeftMembers": state.left_members().collect::<Vec<&str>>(),
        "QueryLTime": state.query_ltime.0,
        "StatusLTimes": ltimes,
    })
}

fn slot_json(slot: &EventSlot<'_>) -> Value {
    let events =
        slot.events.iter().map(|(name, payload)| json!({ "Name": name, "Payload": bytes_json(payload) }));
    json!({ "Events": events.collect::<Vec<Value>>(), "LTime": slot.ltime.0 })
}

fn query_json(query: &Query<'_>) -> Value {
    let mut payload = bytes_json(&query.payload);
    let about_keys =
        query.name.starts_with("_serf_") && query.name.ends_with("-key") || query.name == "_serf_list-keys";
    if about_keys {
        let held = match SerfMessage::decode(&query.payload) {
            Ok(SerfMessage::KeyRequest(_)) => serf(&query.payload),
            Ok(_) => Err(DecodeError::MisplacedType),
            Err(reason) => Err(reason),
        };
        hold(&mut payload, held);
    }
    json!({
        "Addr": addr_json(&query.addr),
        "Filters": query.filters.iter().map(|filter| filter_json(filter)).collect::<Vec<Value>>(),
        "Flags": query.flags,
        "ID": query.id,
        "LTime": query.ltime.0,
        "Name": query.name,
        "Payload": payload,
        "Port": query.port,
        "RelayFactor": query.relay_factor,
        "SourceNode": query.source_node,
        "Timeout": query.timeout,
    })
}

/// A filter that can't be decoded does not refuse the query: members forward it and don't answer.
fn filter_json(bytes: &[u8]) -> Value {
    let mut json = bytes_json(bytes);
    match Filter::decode(bytes) {
        Ok(Filter::Nodes(nodes)) => json["nodes"] = json!(nodes),
        Ok(Filter::Tag { tag, expr }) => json["tag"] = json!({ "Expr": expr, "Tag": tag }),
        Err(reason) => json["not_understood"] = reason.as_str().into(),
    }
    json
}

/// A response does not name its query. Responses to Serf's internal queries begin with a type byte; a response of an
/// application may begin with the same byte, so a payload that does not decode is shown as bytes only.
fn response_json(response: &QueryResponse<'_>) -> Value {
    let mut payload = bytes_json(&response.payload);
    let internal = SerfMessage::decode(&response.payload);
    if let Ok(SerfMessage::ConflictResponse(_) | SerfMessage::KeyResponse(_)) = internal {
        hold(&mut payload, serf(&response.payload));
    }
    json!({
        "Flags": response.flags,
        "From": response.from,
        "ID": response.id,
        "LTime": response.ltime.0,
        "Payload": payload,
    })
}

fn hold(payload: &mut Value, held: Result<Value, DecodeError>) {
    match held {
        Ok(held) => payload["holds"] = held,
        Err(reason) => payload["not_understood"] = reason.as_str().into(),
    }
}

/// A relaying member does not decode the inner message, so an undecodable one is not an error. A relay inside a
/// relay is not decoded: a datagram can hold thousands of them.
fn relay_json(bytes: &[u8], relay: &Relay<'_>) -> Value {
    let mut json = json!({
        "type": "relay",
        "bytes": bytes.len(),
        "body": {
            "DestAddr": { "IP": addr_json(&relay.dest_addr), "Port": relay.dest_port },
            "DestName": relay.dest_name,
        },
        "inner": bytes_json(relay.inner),
    });
    let again = matches!(SerfMessage::decode(relay.inner), Ok(SerfMessage::Relay(_)));
    let held = if again { Err(DecodeError::NestedTooDeep) } else { serf(relay.inner) };
    hold(&mut json["inner"], held);
    json
}

fn member_json(member: &MemberRecord<'_>) -> Value {
    let [protocol_min, protocol_max, protocol, delegate_min, delegate_max, delegate] = member.versions;
    let status =
        STATUSES.get(usize::from(member.status)).map_or(json!(member.status), |status| json!(status));
    json!({
        "Addr": addr_json(&member.addr),
        "DelegateCur": delegate,
        "DelegateMax": delegate_max,
        "DelegateMin": delegate_min,
        "Name": member.name,
        "Port": member.port,
        "ProtocolCur": protocol,
        "ProtocolMax": protocol_max,
        "ProtocolMin": protocol_min,
        "Status": status,
        "Tags": member.tags,
    })
}
