//! Forwards the node's events and notices to the log, the event handlers and the RPC streams, in order.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use thane_engine::api::{Outlet, OutletItem};
use thane_engine::event::{Event, Notice};
use thane_engine::stats::Durations;
use tokio::sync::broadcast;

use super::handlers::Handlers;
use super::level::Level;
use super::log::Log;
use super::notices::NoticeLog;
use super::telemetry::Counters;
use crate::escape::line as shown;

/// Forwards until the node ends; returns why, if another node has its name. Never waits: slow handlers
/// and streams lose events, each with a warning.
pub(crate) async fn forward(
    mut outlet: Outlet,
    log: Log,
    handlers: Handlers,
    streams: broadcast::Sender<Arc<Event>>,
    counters: Counters,
    delivery: Rc<RefCell<Durations>>,
) -> Option<String> {
    let mut name_taken = None;
    let mut notices = NoticeLog::new(log.clone());
    loop {
        let due = notices.due();
        let window_over = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            item = outlet.next() => match item {
                Some(OutletItem::Notice(notice)) => {
                    if let Notice::Members { kind, members, .. } = &notice {
                        counters.members(*kind, members.len());
                    }
                    if let Notice::NameTaken { name, addr } = &notice {
                        name_taken = Some(name_taken_by(name, addr));
                    }
                    notices.add(&notice, Instant::now());
                }
                Some(OutletItem::Event(event)) => {
                    log.add(Level::Info, "agent", format_args!("Received event: {}", described(&event)));
                    counters.event(&event);
                    let event = Arc::new(event);
                    handlers.offer(&event);
                    // An error means that no stream is open.
                    let _ = streams.send(event);
                    delivery.borrow_mut().add(outlet.waited());
                }
                None => return name_taken,
            },
            () = window_over => notices.report_left_out(Instant::now()),
        }
    }
}

/// Why a node ends whose name another one has.
pub(super) fn name_taken_by(name: &str, addr: &SocketAddr) -> String {
    format!("the name {} belongs to {addr}, which answers", shown(name))
}

fn described(event: &Event) -> String {
    match event {
        Event::Member { kind, .. } => kind.as_str().to_owned(),
        Event::User { name, .. } => format!("user-event: {}", shown(name)),
        Event::Query { name, .. } => format!("query: {}", shown(name)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use thane_engine::command::QueryToken;
    use thane_engine::event::{MemberEventKind, Members};
    use thane_engine::wire::LamportTime;
    use tokio::sync::mpsc;

    use super::super::handlers::{EventHandler, HandlerOptions, Responder};
    use super::super::identity::SelfIdentity;
    use super::*;

    struct NoResponder;

    impl Responder for NoResponder {
        async fn respond(&self, _: QueryToken, _: Bytes) -> Result<(), String> {
            panic!("no handler of this test responds");
        }
    }

    #[test]
    fn log_handlers_and_streams_get_everything_in_order() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let log = Log::new(Level::Err);
        let identity = Rc::new(SelfIdentity { name: "n".to_owned(), tags: RefCell::default() });
        let list = EventHandler::parse("user:a=true").unwrap();
        let (handlers, _handler_loop) =
            Handlers::new(list, HandlerOptions::default(), identity, NoResponder, log.clone());
        let (streams, mut stream) = broadcast::channel(8);
        let (outlet_in, outlet) = mpsc::channel(8);
        let user = |name: &str| Event::User {
            ltime: LamportTime(1),
            name: name.to_owned(),
            payload: Bytes::new(),
            coalesce: false,
        };
        let query = Event::Query {
            token: QueryToken(1),
            ltime: LamportTime(1),
            name: "q".to_owned(),
            payload: Bytes::new(),
            source_node: "n".to_owned(),
            timeout: std::time::Duration::from_secs(1),
        };
        let member = Event::Member { kind: MemberEventKind::Failed, members: Members::default() };
        let events = [user("a"), query, user("x\ny"), member];
        outlet_in.try_send((Instant::now(), OutletItem::Notice(Notice::ReconnectSkipped))).unwrap();
        for event in events.clone() {
            outlet_in.try_send((Instant::now(), OutletItem::Event(event))).unwrap();
        }
        drop(outlet_in);
        let delivery = Rc::default();
        let counters = Counters::default();
        runtime.block_on(forward(
            outlet.into(),
            log.clone(),
            handlers,
            streams,
            counters,
            Rc::clone(&delivery),
        ));
        assert_eq!(delivery.borrow().counts().iter().sum::<u64>(), 4, "each event's wait is counted");

        let received: Vec<Event> =
            std::iter::from_fn(|| stream.try_recv().ok()).map(|event| (*event).clone()).collect();
        assert_eq!(received, events);
        let backlog = log.subscribe("t", Level::Trace).backlog;
        let lines: Vec<&str> = backlog.iter().map(|line| line.text.split_once("] ").unwrap().1).collect();
        let expected = [
            "serf: forgoing reconnect for random throttling",
            "agent: Received event: user-event: a",
            "agent: Received event: query: q",
            "agent: Received event: user-event: x\\ny",
            "agent: Received event: member-failed",
        ];
        assert_eq!(lines, expected);
    }
}
