//! `/v1/events`: events as server-sent events, numbered, and new ones.

use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use thane_engine::event::Event;
use tokio::sync::mpsc;

use super::body::{self, Body, Refusal, Reply};
use super::counters::add;
use super::json::{Member, Payload, given_payload, refusal};
use super::port::{Port, Slot};
use super::ring::Position;
use super::site::Site;

/// Streams of one port at one time.
pub(super) const STREAMS_MAX: usize = 64;
/// A line is sent after this time without events, so that both sides learn of an end of the connection.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// Shorter events are copied and sent together.
const SHARED_BYTES_MIN: usize = 4096;
/// How soon a browser connects again, milliseconds.
const RETRY_MS: u32 = 2000;

#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    Members {
        members: Vec<Member<'a>>,
    },
    User {
        name: &'a str,
        ltime: u64,
        coalesce: bool,
        #[serde(flatten)]
        payload: Payload<'a>,
    },
    Query {
        name: &'a str,
        ltime: u64,
        from: &'a str,
        timeout_ms: u64,
        #[serde(flatten)]
        payload: Payload<'a>,
    },
}

/// The word for the kind of an event, and its content.
fn shown(event: &Event) -> (&'static str, Shown<'_>) {
    match event {
        Event::Member { kind, members } => {
            // A reference to a member lives as long as the event: its text is in it.
            (kind.as_str(), Shown::Members { members: members.iter().map(|m| Member::from(&m)).collect() })
        }
        Event::User { ltime, name, payload, coalesce } => {
            let coalesce = *coalesce;
            ("user", Shown::User { name, ltime: ltime.0, coalesce, payload: payload.into() })
        }
        Event::Query { ltime, name, payload, source_node, timeout, .. } => {
            let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            (
                "query",
                Shown::Query { name, ltime: ltime.0, from: source_node, timeout_ms, payload: payload.into() },
            )
        }
    }
}

/// A stream of events from the position on that the client names.
pub(super) fn stream(port: &Rc<Port>, last_id: Option<&str>) -> Result<Reply, Refusal> {
    let Some(slot) = Slot::take(&port.streams, STREAMS_MAX) else {
        let text = format!("{STREAMS_MAX} event streams are open, the limit");
        return Err(body::error(StatusCode::SERVICE_UNAVAILABLE, text));
    };
    let position = port.ring.position(last_id);
    let (source, body) = Body::pieces();
    tokio::task::spawn_local(send(port.clone(), position, source, slot));
    Ok(body::reply(StatusCode::OK, "text/event-stream", body))
}

/// An event as a reader gets it.
fn told(id: &str, event: &Event) -> String {
    let (kind, content) = shown(event);
    let data = serde_json::to_string(&content).expect("its keys are texts");
    format!("id: {id}\nevent: {kind}\ndata: {data}\n\n")
}

/// A text that several readers send.
struct Shared(Arc<String>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

async fn send(port: Rc<Port>, position: Position, to: mpsc::Sender<Bytes>, _slot: Slot) {
    let mut newest = port.ring.newest();
    let mut text = format!("retry: {RETRY_MS}\n");
    let mut number = match position {
        Position::After(number) => number,
        Position::Unknown => {
            text.push_str("event: missed\ndata: {\"missed\":null}\n");
            port.ring.start()
        }
    };
    // The position without an event, for a reader that loses the connection before the first one.
    let _ = write!(text, "id: {}\n\n", port.ring.id(number));
    loop {
        loop {
            let taken = port.ring.after(number, told);
            if taken.missed > 0 {
                add(&port.site.counters().events_missed, taken.missed);
                number += taken.missed;
                let id = port.ring.id(number);
                let _ = write!(text, "id: {id}\nevent: missed\ndata: {{\"missed\":{}}}\n\n", taken.missed);
            }
            let Some((last, _)) = taken.events.last() else { break };
            number = *last;
            for (_, event) in taken.events {
                if event.len() < SHARED_BYTES_MIN {
                    text.push_str(&event);
                    continue;
                }
                for piece in [std::mem::take(&mut text).into(), Bytes::from_owner(Shared(event))] {
                    if to.send(piece).await.is_err() {
                        return;
                    }
                }
            }
            if to.send(std::mem::take(&mut text).into()).await.is_err() {
                return;
            }
        }
        if !text.is_empty() && to.send(std::mem::take(&mut text).into()).await.is_err() {
            return;
        }
        tokio::select! {
            changed = newest.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(SIGN_OF_LIFE) => text.push_str(": nothing new\n\n"),
            () = to.closed() => return,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewEvent {
    name: String,
    payload: Option<String>,
    payload_base64: Option<String>,
    #[serde(default)]
    coalesce: bool,
}

/// Sends a user event.
pub(super) async fn fire(site: &dyn Site, request: Incoming) -> Result<Reply, Refusal> {
    let NewEvent { name, payload, payload_base64, coalesce } = body::read(request).await?;
    let payload = given_payload(payload, payload_base64)?;
    site.user_event(&name, payload, coalesce).await.map_err(|error| refusal(&error))?;
    Ok(body::done())
}
