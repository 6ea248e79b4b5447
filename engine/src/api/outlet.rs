//! What a node tells, as streams: events and notices, and the answers to a query.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::mpsc;

use super::{Answer, OutletItem};
use crate::event::Event;

/// What a node tells its application, in order. Ends when the node has ended.
#[derive(Debug)]
pub struct Outlet(mpsc::Receiver<OutletItem>);

impl Outlet {
    /// The next event or notice. Losing the future loses nothing.
    pub async fn next(&mut self) -> Option<OutletItem> {
        self.0.recv().await
    }

    /// The next event; notices before it are skipped. Losing the future loses no event.
    pub async fn next_event(&mut self) -> Option<Event> {
        loop {
            match self.0.recv().await? {
                OutletItem::Event(event) => return Some(event),
                OutletItem::Notice(_) => {}
            }
        }
    }
}

/// An outlet that tells what a channel holds, for tests of an application without a node.
impl From<mpsc::Receiver<OutletItem>> for Outlet {
    fn from(told: mpsc::Receiver<OutletItem>) -> Outlet {
        Outlet(told)
    }
}

impl Stream for Outlet {
    type Item = OutletItem;

    fn poll_next(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Option<OutletItem>> {
        self.0.poll_recv(ctx)
    }
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
