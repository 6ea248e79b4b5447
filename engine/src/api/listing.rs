//! A long list of members, read in pieces: the shard copies the records, the reader's thread filters and sorts.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{ApiError, Handle, ShardOwner};
use crate::context::Context;
use crate::event::{Member, MemberRef, Members};
use crate::node::{ListedMember, Node};
use crate::roster::MemberIndex;
use crate::shard::Request;

/// Members copied at one time: about 100 ns each, with what they announced.
pub(crate) const LIST_PIECE: usize = 512;

/// The members that a node listed at one time, each as it was then, even if it has changed or been erased since.
/// Uses 8 bytes per member while it lives.
#[derive(Debug)]
pub struct Listing {
    handle: Handle,
    held: Arc<Held>,
    /// Those of `held` that [`retain`](Self::retain) kept; `None`: all.
    chosen: Option<Vec<ListedMember>>,
    /// How many were requested so far.
    asked: usize,
    /// The next piece, which the shard copies while the reader works with the previous one.
    coming: Option<oneshot::Receiver<Members>>,
}

/// References to members, which go back to the shard when they are dropped.
#[derive(Debug)]
struct Held {
    shard: Arc<ShardOwner>,
    listed: Vec<ListedMember>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shard.mailbox.give_back(std::mem::take(&mut self.listed));
    }
}

impl Listing {
    /// Lists all members of the node.
    pub(super) async fn of(handle: &Handle) -> Result<Listing, ApiError> {
        let mut held = Held { shard: Arc::clone(&handle.shard), listed: Vec::new() };
        let mut from = Some(MemberIndex(0));
        while let Some(start) = from {
            let looked = handle.call(move |node, ctx| {
                let next = node.list_members(ctx, start, &mut held.listed);
                (held, next)
            });
            (held, from) = looked.await?;
        }
        Ok(Listing { handle: handle.clone(), held: Arc::new(held), chosen: None, asked: 0, coming: None })
    }

    /// The number of listed members.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether no member is listed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps the members for which `keep` returns true, and starts again with the first of them.
    ///
    /// # Errors
    /// The node has stopped, or the mailbox is full. All members that were listed before are then listed still.
    pub async fn retain(&mut self, mut keep: impl FnMut(&MemberRef<'_>) -> bool) -> Result<(), ApiError> {
        let (mut chosen, mut place) = (Vec::new(), 0);
        (self.asked, self.coming) = (0, None);
        while let Some(piece) = self.next().await? {
            for member in piece.iter() {
                if keep(&member) {
                    chosen.push(self.all()[place]);
                }
                place += 1;
            }
        }
        (self.chosen, self.asked) = (Some(chosen), 0);
        Ok(())
    }

    /// The next members, at most 512, in no order; `None` after the last. Cancel safe.
    ///
    /// # Errors
    /// The node has stopped, or the mailbox is full. No member is lost: after a full mailbox the next call goes
    /// on.
    pub async fn next(&mut self) -> Result<Option<Members>, ApiError> {
        if self.coming.is_none() {
            self.ask()?;
        }
        let Some(coming) = &mut self.coming else { return Ok(None) };
        let piece = coming.await.map_err(|_| ApiError::Stopped);
        self.coming = None;
        let piece = piece?;
        // The next call asks again if this can't be.
        let _ = self.ask();
        Ok(Some(piece))
    }

    fn all(&self) -> &[ListedMember] {
        self.chosen.as_ref().unwrap_or(&self.held.listed)
    }

    /// Requests the next piece, if there is one.
    fn ask(&mut self) -> Result<(), ApiError> {
        let rest = &self.all()[self.asked..];
        if rest.is_empty() {
            return Ok(());
        }
        let wanted = rest[..rest.len().min(LIST_PIECE)].to_vec();
        let count = wanted.len();
        let (reply, coming) = oneshot::channel();
        // The call may run after the listing was dropped; its references must still be held then.
        let held = Arc::clone(&self.held);
        let call = Box::new(move |_: &mut _, ctx: &mut Context| {
            let _ = reply.send(Node::copy_listed(ctx, &wanted));
            drop(held);
        });
        self.held.shard.mailbox.push(Request::Call(self.handle.id, call))?;
        self.asked += count;
        self.coming = Some(coming);
        Ok(())
    }
}

impl Handle {
    /// All members that this node lists, sorted by name. For thousands of members see [`list`](Self::list).
    ///
    /// # Errors
    /// The node has stopped, or the mailbox is full.
    pub async fn members(&self) -> Result<Vec<Member>, ApiError> {
        let mut listing = self.list().await?;
        let mut members = Vec::with_capacity(listing.len());
        while let Some(piece) = listing.next().await? {
            members.extend(piece.iter().map(|member| member.to_owned()));
        }
        members.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(members)
    }

    /// All members that this node lists, read in pieces: neither side holds more than a few hundred records at a
    /// time, and the node handles other input between two pieces.
    ///
    /// # Errors
    /// The node has stopped, or the mailbox is full.
    pub async fn list(&self) -> Result<Listing, ApiError> {
        Listing::of(self).await
    }
}
