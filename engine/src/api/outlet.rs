//! Streams for the program: a node's events and notices, and the answers to a query.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::mpsc;

use super::{Answer, OutletEntry, OutletItem};
use crate::event::Event;

/// A node's events and notices, in order. Ends when the node has ended.
#[derive(Debug)]
pub struct Outlet {
    items: mpsc::Receiver<OutletEntry>,
    waited: Duration,
}

impl Outlet {
    /// The next event or notice; `None` once the node has ended and all items were read. Cancel safe.
    pub async fn next(&mut self) -> Option<OutletItem> {
        let entry = self.items.recv().await;
        self.take(entry)
    }

    /// The next event; notices before it are discarded. Cancel safe: no event is lost.
    pub async fn next_event(&mut self) -> Option<Event> {
        loop {
            match self.next().await? {
                OutletItem::Event(event) => return Some(event),
                OutletItem::Notice(_) => {}
            }
        }
    }

    /// How long the item that came last had waited to be read.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    fn take(&mut self, entry: Option<OutletEntry>) -> Option<OutletItem> {
        let (at, item) = entry?;
        self.waited = at.elapsed();
        Some(item)
    }
}

/// An outlet that yields what a channel holds, for tests of a program without a node.
impl From<mpsc::Receiver<OutletEntry>> for Outlet {
    fn from(items: mpsc::Receiver<OutletEntry>) -> Outlet {
        Outlet { items, waited: Duration::ZERO }
    }
}

impl Stream for Outlet {
    type Item = OutletItem;

    fn poll_next(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Option<OutletItem>> {
        self.items.poll_recv(ctx).map(|entry| self.take(entry))
    }
}

/// The answers to a query, as they arrive. Ends at the query's deadline; dropping it earlier discards the rest.
#[derive(Debug)]
pub struct Answers {
    /// How long answers are accepted, counted from the query.
    pub timeout: Duration,
    answers: mpsc::UnboundedReceiver<Answer>,
}

impl Answers {
    pub(super) fn new(timeout: Duration, answers: mpsc::UnboundedReceiver<Answer>) -> Answers {
        Answers { timeout, answers }
    }

    /// The next answer; `None` once the deadline has passed and all answers were read. Cancel safe.
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
