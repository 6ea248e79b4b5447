//! One connection: reads requests in order and applies the rules about handshake and authentication (PROTOCOL 6.1).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use thane_engine::ipc::{Command, Frames, REQUEST_BYTES_MAX, Request, RequestHeader, Value};
use thane_engine::wire::msgpack::Reader;
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::outbox::{Gone, Outbox};
use super::streams::Asked;
use crate::agent::backend::Backend;
use crate::agent::level::Level;
use crate::clients::{Client, Stream, equal_in_constant_time};

/// Bytes per read from the socket.
const READ_BYTES: usize = 8 * 1024;
/// Time that a client has for its handshake, and for each further request until it has shown its token, if there is
/// one.
const UNPROVEN_WITHIN: Duration = Duration::from_secs(5);
/// The longest request until then, bytes.
const UNPROVEN_BYTES_MAX: usize = 16 * 1024;

/// Serves one client until the connection ends.
pub(super) async fn run(stream: Stream, from: Client, backend: Rc<Backend>) {
    let client = from.peer;
    // An error means that the connection is broken, which the first read reports.
    let _ = stream.prepare();
    let (reader, writer) = tokio::io::split(stream);
    let outbox = Rc::new(Outbox::default());
    // Also if this task is aborted, so that the writing one ends.
    let _finish = FinishOnDrop(outbox.clone());
    let writing = {
        let outbox = outbox.clone();
        tokio::task::spawn_local(async move { outbox.run(writer).await })
    };
    let mut session = Session {
        input: Input { socket: reader, frames: Frames::new(UNPROVEN_BYTES_MAX) },
        header: RequestHeader::default(),
        handshaken: false,
        authenticated: false,
        wrong_tokens: 0,
        from,
        outbox: outbox.clone(),
        streams: BTreeMap::new(),
        monitor: None,
        tasks: JoinSet::new(),
        queries: JoinSet::new(),
        asked: Rc::default(),
        client: format!("ipc.client: {client}"),
        backend: backend.clone(),
    };
    let ending = session.serve().await;
    // Streams end here; buffered messages are still written.
    drop(session);
    outbox.finish();
    let written = writing.await;
    match (&ending, written) {
        (Ending::Silent, _) => {
            super::count(&backend.rpc.closed_idle);
            let text = format!("Closing client {client}: no request within {}s", UNPROVEN_WITHIN.as_secs());
            backend.log.add(Level::Debug, "agent.ipc", text);
        }
        (Ending::Refused(reason), _) => backend.log.add(Level::Err, "agent.ipc", reason),
        (Ending::Unreachable, Ok(Err(error))) => {
            let text = format!("Failed to write to ipc.client: {client}: {error}");
            backend.log.add(Level::Err, "agent.ipc", text);
        }
        _ => {}
    }
    if matches!(ending, Ending::Left) {
        backend.stop.notify_one();
    }
}

struct FinishOnDrop(Rc<Outbox>);

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// The state of a connection. Dropping it ends its streams.
pub(super) struct Session {
    input: Input,
    /// Each header is decoded over the previous one: a missing field keeps its value, as in Serf.
    header: RequestHeader,
    handshaken: bool,
    authenticated: bool,
    wrong_tokens: u32,
    from: Client,
    /// Replies and records to the client.
    pub(super) outbox: Rc<Outbox>,
    /// Event streams by `Seq`.
    pub(super) streams: BTreeMap<u64, AbortHandle>,
    /// The monitor and its `Seq`.
    pub(super) monitor: Option<(u64, AbortHandle)>,
    /// Runs streams and monitor.
    pub(super) tasks: JoinSet<()>,
    /// Runs the queries, which send their answers as records.
    pub(super) queries: JoinSet<()>,
    /// Queries that the client may respond to.
    pub(super) asked: Rc<RefCell<Asked>>,
    /// The client's name in log lines.
    pub(super) client: String,
    /// The agent.
    pub(super) backend: Rc<Backend>,
}

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum Ending {
    /// The client closed it.
    Closed,
    /// Nothing can be sent to the client any more; the writing task has the reason.
    Unreachable,
    /// The client proved nothing and sent nothing.
    Silent,
    /// The client sent a request that ends the connection; the line for the log.
    Refused(String),
    /// A `leave` of the client has finished: the process exits.
    Left,
}

impl From<Gone> for Ending {
    fn from(_: Gone) -> Ending {
        Ending::Unreachable
    }
}

impl Session {
    async fn serve(&mut self) -> Ending {
        loop {
            if let Err(ending) = self.serve_one().await {
                return ending;
            }
        }
    }

    async fn serve_one(&mut self) -> Result<(), Ending> {
        let Some(header) = self.next_value().await? else { return Err(Ending::Closed) };
        self.header
            .decode_over(&mut Reader::new(&header))
            .map_err(|reason| Ending::Refused(format!("failed to decode request header: {reason}")))?;
        self.backend.counters.count("agent.ipc.command");
        let command = Command::parse(&self.header.command);
        if !self.handshaken && command != Some(Command::Handshake) {
            self.reply(Err("Handshake required")).await?;
            return Err(evaluation("Handshake required"));
        }
        if !self.may_execute(command) {
            self.backend.log.add(Level::Warn, "agent.ipc", "Client sending commands before auth");
            self.reply(Err("Authentication required")).await?;
            // Serf does not read the body and decodes it as the next header.
            if command.is_some_and(Command::has_body) {
                self.next_body().await?;
            }
            return Ok(());
        }
        let Some(command) = command else {
            self.reply(Err("Unsupported command")).await?;
            return Err(evaluation(format_args!("command '{}' not recognized", self.header.command)));
        };
        let body = if command.has_body() { self.next_body().await? } else { Vec::new() };
        let request = Request::decode(command, &body)
            .map_err(|reason| evaluation(format_args!("decode failed: {reason}")))?;
        self.from.standing.busy.set(true);
        let executed = self.execute(request).await;
        self.from.standing.busy.set(!self.streams.is_empty() || self.monitor.is_some());
        self.from.standing.last.set(Instant::now());
        executed
    }

    /// Once a client has proven itself it has the usual time and room for its requests.
    fn note_proof(&mut self) {
        if self.handshaken && self.may_execute(None) {
            self.from.standing.proven.set(true);
            self.input.frames.set_value_bytes_max(REQUEST_BYTES_MAX);
        }
    }

    /// Whether the command needs no token, or the client has sent the right one.
    fn may_execute(&self, command: Option<Command>) -> bool {
        self.backend.auth.is_empty()
            || self.authenticated
            || matches!(command, Some(Command::Auth | Command::Handshake))
    }

    /// The first request of a connection.
    pub(super) fn handshake(&mut self, version: i32) -> Result<(), &'static str> {
        if version != thane_engine::ipc::IPC_VERSION {
            return Err("Unsupported IPC version");
        }
        if std::mem::replace(&mut self.handshaken, true) {
            return Err("Handshake already performed");
        }
        self.note_proof();
        Ok(())
    }

    /// A wrong token does not revoke an earlier right one.
    pub(super) async fn authenticate(&mut self, token: &str) -> Result<(), &'static str> {
        let Client { peer, source, .. } = self.from;
        let guesses = &self.backend.guesses;
        guesses.turn(source).await;
        if !equal_in_constant_time(token.as_bytes(), self.backend.auth.as_bytes()) {
            self.wrong_tokens = self.wrong_tokens.saturating_add(1);
            super::count(&self.backend.rpc.wrong_tokens);
            guesses.wrong(source, peer, self.wrong_tokens).await;
            return Err("Invalid authentication token");
        }
        self.authenticated = true;
        self.note_proof();
        Ok(())
    }

    /// The number of the request that is being executed.
    pub(super) fn seq(&self) -> u64 {
        self.header.seq
    }

    /// Replies without a body.
    pub(super) async fn reply(&self, outcome: Result<(), impl fmt::Display>) -> Result<(), Ending> {
        Ok(self.outbox.send(self.seq(), error_text(&outcome)).await?)
    }

    /// Replies with a body, which clients expect after an error too.
    pub(super) async fn reply_with(
        &self,
        outcome: Result<(), impl fmt::Display>,
        body: &impl Value,
    ) -> Result<(), Ending> {
        Ok(self.outbox.send_with(self.seq(), error_text(&outcome), body).await?)
    }

    async fn next_body(&mut self) -> Result<Vec<u8>, Ending> {
        self.next_value().await?.ok_or_else(|| evaluation("decode failed: EOF"))
    }

    /// The next whole value; `None` at the end. This is the only place that ends when the client disconnects, so a
    /// request that is being executed is never interrupted.
    async fn next_value(&mut self) -> Result<Option<Vec<u8>>, Ending> {
        let unproven = !self.from.standing.proven.get();
        tokio::select! {
            value = self.input.next_value() => value,
            () = tokio::time::sleep(UNPROVEN_WITHIN), if unproven => Err(Ending::Silent),
            () = self.outbox.gone() => Err(Ending::Unreachable),
        }
    }
}

/// Serf's line about a request that ends the connection.
pub(super) fn evaluation(reason: impl fmt::Display) -> Ending {
    Ending::Refused(format!("Failed to evaluate request: {reason}"))
}

fn error_text(outcome: &Result<(), impl fmt::Display>) -> String {
    outcome.as_ref().err().map(ToString::to_string).unwrap_or_default()
}

struct Input {
    socket: ReadHalf<Stream>,
    frames: Frames,
}

impl Input {
    async fn next_value(&mut self) -> Result<Option<Vec<u8>>, Ending> {
        let refused =
            |reason: &dyn fmt::Display| Ending::Refused(format!("failed to decode request: {reason}"));
        loop {
            match self.frames.poll() {
                Ok(Some(value)) => return Ok(Some(value.to_vec())),
                Ok(None) => {}
                Err(error) => return Err(refused(&error)),
            }
            let mut chunk = [0; READ_BYTES];
            match self.socket.read(&mut chunk).await {
                Ok(0) => return Ok(None),
                Ok(read) => self.frames.feed(&chunk[..read]),
                // A client that ends before it has read everything.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(refused(&error)),
            }
        }
    }
}
