//! What goes on after the reply: event streams, monitors, the answers of queries. Each is a task that ends
//! with its connection.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thane_engine::api::{Answer, Answers};
use thane_engine::command::QueryToken;
use thane_engine::event::Event;
use thane_engine::ipc::{
    LogRecord, MemberRecord, QueryEventRecord, QueryRecord, RespondRequest, ResponseHeader, StreamRecord,
    UserEventRecord, Value,
};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::members::to_wire;
use super::outbox::{Gone, Outbox};
use crate::agent::filter::EventFilter;
use crate::agent::level::Level;
use crate::agent::log::{Log, Subscription};

/// Events that wait for a client that reads slowly; further ones are lost to it.
const EVENTS_WAITING_MAX: usize = 512;
/// Queries that a client was told of and may still answer; beyond it the oldest is forgotten.
const ASKED_MAX: usize = 4096;

/// An event stream.
pub(super) struct EventStream {
    /// `Seq` of the request, on every record.
    pub(super) seq: u64,
    /// Which events; one match is enough.
    pub(super) filters: Vec<EventFilter>,
    /// The agent's events.
    pub(super) events: broadcast::Receiver<Arc<Event>>,
    /// Where records go.
    pub(super) outbox: Rc<Outbox>,
    /// Where the numbers of queries come from.
    pub(super) asked: Rc<RefCell<Asked>>,
    /// Where lost events are told of.
    pub(super) log: Log,
    /// Who loses them.
    pub(super) client: String,
}

impl EventStream {
    /// Sends records until the connection is gone.
    pub(super) async fn run(mut self) {
        let mut waiting: VecDeque<Arc<Event>> = VecDeque::new();
        let mut losing = false;
        loop {
            let received = tokio::select! {
                received = self.events.recv() => received,
                room = self.outbox.room(), if !waiting.is_empty() => {
                    if room == Err(Gone) {
                        return;
                    }
                    if let Some(event) = waiting.pop_front() {
                        self.outbox.push(|bytes| self.encode(&event, bytes));
                    }
                    continue;
                }
            };
            let lost = match received {
                Ok(event) if !self.filters.iter().any(|filter| filter.matches(&event)) => continue,
                Ok(_) if waiting.len() == EVENTS_WAITING_MAX => true,
                Ok(event) => {
                    waiting.push_back(event);
                    false
                }
                Err(RecvError::Lagged(_)) => true,
                Err(RecvError::Closed) => return,
            };
            // Told once until it gets better: a line for each lost event would drown the log.
            if lost && !losing {
                self.log.add(Level::Warn, "agent.ipc", format_args!("Dropping event to {}", self.client));
            }
            losing = lost;
        }
    }

    fn encode(&self, event: &Event, bytes: &mut Vec<u8>) {
        ResponseHeader { error: String::new(), seq: self.seq }.encode(bytes);
        self.record(event).encode(bytes);
    }

    fn record(&self, event: &Event) -> StreamRecord {
        match event {
            Event::Member { kind, members } => StreamRecord::Members(MemberRecord {
                event: kind.as_str().to_owned(),
                members: members.iter().map(|member| to_wire(member.to_owned())).collect(),
            }),
            Event::User { ltime, name, payload, coalesce } => StreamRecord::User(UserEventRecord {
                event: "user".to_owned(),
                ltime: *ltime,
                name: name.clone(),
                payload: payload.to_vec(),
                coalesce: *coalesce,
            }),
            Event::Query { token, ltime, name, payload, timeout, .. } => {
                StreamRecord::Query(QueryEventRecord {
                    event: "query".to_owned(),
                    id: self.asked.borrow_mut().add(*token, *timeout),
                    ltime: *ltime,
                    name: name.clone(),
                    payload: payload.to_vec(),
                })
            }
        }
    }
}

/// Sends log lines, kept ones first, until the connection is gone.
pub(super) async fn run_monitor(seq: u64, lines: Subscription, outbox: Rc<Outbox>) {
    let Subscription { backlog, mut live } = lines;
    for line in backlog {
        let record = LogRecord { log: line.text.clone() };
        if outbox.send_with(seq, String::new(), &record).await.is_err() {
            return;
        }
    }
    while let Some(line) = live.recv().await {
        let record = LogRecord { log: line.text.clone() };
        if outbox.send_with(seq, String::new(), &record).await.is_err() {
            return;
        }
    }
}

/// Sends the answers of a query and, at its deadline, the record that ends them.
pub(super) async fn run_query(seq: u64, mut answers: Answers, outbox: Rc<Outbox>) {
    while let Some(answer) = answers.next().await {
        let (kind, from, payload) = match answer {
            Answer::Ack { from } => (QueryRecord::ACK, from, Bytes::new()),
            Answer::Response { from, payload } => (QueryRecord::RESPONSE, from, payload),
        };
        let record = QueryRecord { kind: kind.to_owned(), from, payload: payload.into() };
        if outbox.send_with(seq, String::new(), &record).await.is_err() {
            return;
        }
    }
    let done = QueryRecord { kind: QueryRecord::DONE.to_owned(), ..QueryRecord::default() };
    // Nobody is left to tell if this fails.
    let _ = outbox.send_with(seq, String::new(), &done).await;
}

/// The queries that a client was told of, by the numbers that it knows them under: 1, 2, 3… on each
/// connection. Two streams that tell of the same query give it two numbers.
#[derive(Default)]
pub(super) struct Asked {
    last_id: u64,
    queries: BTreeMap<u64, AskedQuery>,
}

struct AskedQuery {
    token: QueryToken,
    since: Instant,
    timeout: Duration,
}

impl Asked {
    fn add(&mut self, token: QueryToken, timeout: Duration) -> u64 {
        if self.queries.len() == ASKED_MAX {
            self.queries.retain(|_, query| !query.is_over());
        }
        if self.queries.len() == ASKED_MAX {
            self.queries.pop_first();
        }
        self.last_id += 1;
        self.queries.insert(self.last_id, AskedQuery { token, since: Instant::now(), timeout });
        self.last_id
    }

    /// The query that the client answers; `None` if there is none, or its time is over.
    pub(super) fn find(&mut self, request: &RespondRequest) -> Option<QueryToken> {
        let query = self.queries.get(&request.id)?;
        if query.is_over() {
            self.queries.remove(&request.id);
            return None;
        }
        Some(query.token)
    }
}

impl AskedQuery {
    fn is_over(&self) -> bool {
        self.since.elapsed() >= self.timeout
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn find(asked: &mut Asked, id: u64) -> Option<QueryToken> {
        asked.find(&RespondRequest { id, payload: Vec::new() })
    }

    #[test]
    fn asked_queries_are_numbered_from_one_and_end_with_their_time() {
        let mut asked = Asked::default();
        assert_eq!(asked.add(QueryToken(70), LONG), 1);
        assert_eq!(asked.add(QueryToken(70), LONG), 2);
        assert_eq!(asked.add(QueryToken(71), Duration::ZERO), 3);
        assert_eq!(find(&mut asked, 2), Some(QueryToken(70)));
        assert_eq!(find(&mut asked, 2), Some(QueryToken(70)));
        assert_eq!(find(&mut asked, 3), None);
        assert_eq!(find(&mut asked, 0), None);
        assert_eq!(find(&mut asked, 4), None);
        assert_eq!(asked.queries.len(), 2);
    }

    #[test]
    fn asked_queries_are_bounded_and_the_oldest_goes_first() {
        let mut asked = Asked::default();
        for n in 0..ASKED_MAX as u64 {
            asked.add(QueryToken(n), if n == 9 { Duration::ZERO } else { LONG });
        }
        asked.add(QueryToken(9999), LONG);
        assert_eq!(asked.queries.len(), ASKED_MAX);
        assert_eq!(find(&mut asked, 1), Some(QueryToken(0)), "one that was over went instead");
        asked.add(QueryToken(10_000), LONG);
        assert_eq!(asked.queries.len(), ASKED_MAX);
        assert_eq!(find(&mut asked, 1), None);
        assert_eq!(find(&mut asked, 2), Some(QueryToken(1)));
    }
}
