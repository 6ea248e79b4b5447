//! `/v1/query`: asks a query and sends the answers while they come.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use thane_engine::api::{Answer, Answers};
use thane_engine::command::QueryParams;
use tokio::sync::mpsc;

use super::body::{self, Body, Refusal, Reply};
use super::json::{Payload, given_payload, refusal};
use super::port::{Port, Slot};

/// Queries of one port at one time.
pub(super) const QUERIES_MAX: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewQuery {
    name: String,
    payload: Option<String>,
    payload_base64: Option<String>,
    #[serde(default)]
    nodes: Vec<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default = "yes")]
    ack: bool,
    #[serde(default)]
    relay_factor: u8,
    timeout_ms: Option<u64>,
}

fn yes() -> bool {
    true
}

/// A line of the response.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Ack {
        from: &'a str,
    },
    Response {
        from: &'a str,
        #[serde(flatten)]
        payload: Payload<'a>,
    },
    Done {
        acks: u64,
        responses: u64,
    },
}

/// Asks, and answers with a line of JSON for each ack and response, and one at the end.
pub(super) async fn ask(port: &Rc<Port>, request: Incoming) -> Result<Reply, Refusal> {
    let query: NewQuery = body::read(request).await?;
    let Some(slot) = Slot::take(&port.queries, QUERIES_MAX) else {
        let text = format!("{QUERIES_MAX} queries are under way, the limit");
        return Err(body::error(StatusCode::SERVICE_UNAVAILABLE, text));
    };
    let params = QueryParams {
        name: query.name,
        payload: given_payload(query.payload, query.payload_base64)?,
        filter_nodes: query.nodes,
        filter_tags: query.tags,
        request_ack: query.ack,
        relay_factor: query.relay_factor,
        timeout: query.timeout_ms.filter(|ms| *ms > 0).map(Duration::from_millis),
    };
    let answers = port.site.query(params).await.map_err(|error| refusal(&error))?;
    let (source, body) = Body::pieces();
    tokio::task::spawn_local(send(answers, source, slot));
    Ok(body::reply(StatusCode::OK, "application/x-ndjson", body))
}

async fn send(mut answers: Answers, to: mpsc::Sender<Bytes>, _slot: Slot) {
    let text = |line: &Line<'_>| {
        let mut text = serde_json::to_vec(line).expect("its keys are texts");
        text.push(b'\n');
        Bytes::from(text)
    };
    let (mut acks, mut responses) = (0, 0);
    loop {
        let answer = tokio::select! {
            answer = answers.next() => answer,
            () = to.closed() => return,
        };
        let line = match &answer {
            Some(Answer::Ack { from }) => {
                acks += 1;
                text(&Line::Ack { from })
            }
            Some(Answer::Response { from, payload }) => {
                responses += 1;
                text(&Line::Response { from, payload: payload.into() })
            }
            None => text(&Line::Done { acks, responses }),
        };
        if to.send(line).await.is_err() || answer.is_none() {
            return;
        }
    }
}
