//! What a node tells, as streams: events and notices, and the answers to a query.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::mpsc;

use crate::event::{Event, Notice};

/// What a node tells its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// An event, after coalescing.
    Event(Event),
    /// A line for the log.
    Notice(Notice),
}

/// What a node tells its application, in order. Ends when the node has ended.
#[derive(Debug)]
pub struct Outlet(mpsc::Receiver<Told>);

impl Outlet {
    /// The next event or notice. Losing the future loses nothing.
    pub async fn next(&mut self) -> Option<Told> {
        self.0.recv().await
    }

    /// The next event; notices before it are skipped. Losing the future loses no event.
    pub async fn next_event(&mut self) -> Option<Event> {
        loop {
            match self.0.recv().await? {
                Told::Event(event) => return Some(event),
                Told::Notice(_) => {}
            }
        }
    }
}

/// An outlet that tells what a channel holds, for tests of an application without a node.
impl From<mpsc::Receiver<Told>> for Outlet {
    fn from(told: mpsc::Receiver<Told>) -> Outlet {
        Outlet(told)
    }
}

impl Stream for Outlet {
    type Item = Told;

    fn poll_next(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Option<Told>> {
        self.0.poll_recv(ctx)
    }
}

/// An answer to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A node acked.
    Ack {
        /// Which node.
        from: String,
    },
    /// A node answered.
    Response {
        /// Which node.
        from: String,
        /// What.
        payload: Bytes,
    },
}

/// The answers to a query as they come. Ends at the query's deadline; dropping it earlier is fine.
#[derive(Debug)]
pub struct Answers {
    /// How long answers are taken.
    pub timeout: Duration,
    answers: mpsc::UnboundedReceiver<Answer>,
}

impl Answers {
    pub(super) fn new(timeout: Duration, answers: mpsc::UnboundedReceiver<Answer>) -> Answers {
        Answers { timeout, answers }
    }

    /// The next answer. Losing the future loses nothing.
    pub async fn next(&mut self) -> Option<Answer> {
        self.answers.recv().await
    }
}

impl Stream for Answers {
    type Item = Answer;

    fn poll_next(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Option<Answer>> {
        self.answers.poll_recv(ctx)
    }
}
