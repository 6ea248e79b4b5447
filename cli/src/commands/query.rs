//! `thane query`: sends a query to the cluster and shows acks and responses.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::process::{self, ExitCode};
use std::time::Duration;

use serde::Serialize;
use thane_engine::duration::Nanoseconds;
use thane_engine::ipc::{Client, ClientError, QueryRecord, QueryRequest, Request};

use crate::command::{Command, Failure};
use crate::commands::{name_and_payload, on_interrupt, query_record};
use crate::escape;
use crate::flags::Argument;
use crate::json;
use crate::output::{say, say_bytes};
use crate::rpc::{ADDR_OPTION, AUTH_OPTION, Rpc, TLS_OPTION};
use crate::tags;

pub(crate) const COMMAND: Command = Command {
    name: "query",
    arguments: "[options] NAME [PAYLOAD]",
    synopsis: "Send a query to the cluster and show the responses",
    about: "Sends a query to the members and shows their acks and responses until the timeout.",
    options: &[
        ("-node=NAME", "Query only this node; can be given several times"),
        ("-tag=NAME=REGEX", "Query only nodes whose tag NAME matches; can be given several times"),
        (
            "-timeout=TIME",
            "How long responses are accepted, such as 5s; default: depends on the size of \
            the cluster",
        ),
        ("-relay-factor=0", "Number of other members that relay each response"),
        ("-no-ack", "Don't ask nodes to acknowledge the query"),
        ("-format=text", "text or json; JSON is printed after the timeout"),
        ADDR_OPTION,
        AUTH_OPTION,
        TLS_OPTION,
    ],
    run,
};

fn run(arguments: &[Argument]) -> Result<ExitCode, Failure> {
    let mut rpc = Rpc::from_environment();
    let (mut filter_nodes, mut tag, mut no_ack, mut relay_factor) = (Vec::new(), Vec::new(), false, 0);
    let (mut timeout, mut format) = (Nanoseconds::default(), "text".to_owned());
    let arguments = rpc
        .flags_without_timeout()
        .flag("node", &mut filter_nodes)
        .flag("tag", &mut tag)
        .flag("timeout", &mut timeout)
        .flag("relay-factor", &mut relay_factor)
        .flag("no-ack", &mut no_ack)
        .flag("format", &mut format)
        .parse(arguments)?;
    let filter_tags = tags::parse(&tag)?;
    let (name, payload) = name_and_payload(arguments, "A query name must be specified.")?;
    let relay_factor = u8::try_from(relay_factor)
        .map_err(|_| Failure::Message("Relay factor must be between 0 and 255".to_owned()))?;
    let mut client = rpc.connect()?;
    let mut answers = match format.as_str() {
        "text" => Answers::Text { acks: 0, responses: 0, no_ack },
        "json" => Answers::Json(Gathered::default()),
        other => return Err(Failure::Message(format!("Invalid format: {other}"))),
    };
    on_interrupt(|| process::exit(1));
    let query = QueryRequest {
        filter_nodes,
        filter_tags,
        request_ack: !no_ack,
        relay_factor,
        timeout_ns: timeout.0,
        name: name.to_owned(),
        payload,
    };
    client.begin(&Request::Query(query)).map_err(|error| Failure::of("Error sending query", error))?;
    answers.begin(name);
    let lasts = Duration::from_nanos(u64::try_from(timeout.0).unwrap_or_default());
    client.wait_at_most(Rpc::patience_with_query(lasts));
    gather(&mut client, &mut answers)
        .map_err(|error| Failure::of("Error waiting for the end of the query", error))?;
    answers.end();
    Ok(ExitCode::SUCCESS)
}

/// Reads records until the last one, or until the agent closes the connection. Some agents send records without a
/// sender at the deadline; these are ignored.
///
/// # Errors
/// The agent stays silent.
fn gather(client: &mut Client, answers: &mut Answers) -> Result<(), ClientError> {
    while let Some(record) = query_record(client)? {
        match record.kind.as_str() {
            QueryRecord::DONE => break,
            QueryRecord::ACK if !record.from.is_empty() => answers.ack(record.from),
            QueryRecord::RESPONSE if !record.from.is_empty() => answers.response(record),
            _ => {}
        }
    }
    Ok(())
}

/// Acks and responses in the format of the output.
enum Answers {
    /// Printed at once, and counted.
    Text { acks: u64, responses: u64, no_ack: bool },
    /// Collected until the query ends.
    Json(Gathered),
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Gathered {
    acks: Option<Vec<String>>,
    responses: BTreeMap<String, String>,
}

impl Answers {
    fn begin(&self, name: &str) {
        if let Answers::Text { .. } = self {
            say(format_args!("Query '{name}' dispatched"));
        }
    }

    fn ack(&mut self, from: String) {
        match self {
            Answers::Text { acks, .. } => {
                *acks += 1;
                say(format_args!("Ack from '{}'", escape::line(&from)));
            }
            Answers::Json(gathered) => gathered.acks.get_or_insert_default().push(from),
        }
    }

    fn response(&mut self, record: QueryRecord) {
        match self {
            Answers::Text { responses, .. } => {
                *responses += 1;
                let mut line = format!("Response from '{}': ", escape::line(&record.from)).into_bytes();
                let payload = record.payload.strip_suffix(b"\n").unwrap_or(&record.payload);
                if io::stdout().is_terminal() {
                    line.extend_from_slice(escape::lines(&String::from_utf8_lossy(payload)).as_bytes());
                } else {
                    // Programs get the bytes.
                    line.extend_from_slice(payload);
                }
                say_bytes(line);
            }
            Answers::Json(gathered) => {
                let payload = String::from_utf8_lossy(&record.payload).into_owned();
                gathered.responses.insert(record.from, payload);
            }
        }
    }

    fn end(&self) {
        match self {
            Answers::Text { acks, responses, no_ack } => {
                if !no_ack {
                    say(format_args!("Total Acks: {acks}"));
                }
                say(format_args!("Total Responses: {responses}"));
            }
            Answers::Json(gathered) => say(json::to_string(gathered)),
        }
    }
}
