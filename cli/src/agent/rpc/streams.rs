//! Tasks that continue after the reply: event streams, monitors, the answers of queries. Each ends with its
//! connection.

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

/// Events queued for a client that reads slowly; it loses further ones.
const EVENTS_WAITING_MAX: usize = 512;
/// Queries of one connection that the client may still respond to; beyond it the oldest is forgotten.
const ASKED_MAX: usize = 4096;

/// An event stream.
pub(super) struct EventStream {
    /// `Seq` of the request, on every record.
    pub(super) seq: u64,
    /// Filters; an event needs to match one of them.
    pub(super) filters: Vec<EventFilter>,
    /// The agent's events.
    pub(super) events: broadcast::Receiver<Arc<Event>>,
    /// Records to the client.
    pub(super) outbox: Rc<Outbox>,
    /// Assigns the IDs of queries.
    pub(super) asked: Rc<RefCell<Asked>>,
    /// Gets the warning about lost events.
    pub(super) log: Log,
    /// The client's name in that warning.
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
            // One line until an event is queued again: a line per lost event would flood the log.
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
    // An error means that the connection is gone.
    let _ = outbox.send_with(seq, String::new(), &done).await;
}

/// The queries that were streamed to a client, by ID: 1, 2, 3… on each connection. A query that is streamed twice
/// has two IDs.
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

    /// The query of a response; `None` if the ID is unknown or the query is over.
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
