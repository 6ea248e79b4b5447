//! A long list of members, read a piece at a time: the shard copies what facts say, whoever asks does the rest.

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

/// The members that a node listed at one time, each as it was then, also if it has changed or gone since. Takes
/// 8 bytes for each while it lives.
#[derive(Debug)]
pub struct Listing {
    handle: Handle,
    held: Arc<Held>,
    /// Those of `held` that were chosen; all, if nobody chose.
    chosen: Option<Vec<ListedMember>>,
    /// How many were asked for so far.
    asked: usize,
    /// The next piece, which the shard copies while the last one is worked with.
    coming: Option<oneshot::Receiver<Members>>,
}

/// Members with references to their facts, which the shard gets back at the end.
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

    /// How many members are listed.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether nobody is listed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps the members for which `keep` holds, and begins again with the first.
    ///
    /// # Errors
    /// The node has stopped.
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

    /// The next members, in no order; `None` after the last.
    ///
    /// # Errors
    /// The node has stopped, or its mailbox is full.
    pub async fn next(&mut self) -> Result<Option<Members>, ApiError> {
        if self.coming.is_none() {
            self.ask()?;
        }
        let Some(coming) = self.coming.take() else { return Ok(None) };
        let piece = coming.await.map_err(|_| ApiError::Stopped)?;
        self.ask()?;
        Ok(Some(piece))
    }

    fn all(&self) -> &[ListedMember] {
        self.chosen.as_ref().unwrap_or(&self.held.listed)
    }

    /// Has the shard copy what comes next, if anything does.
    fn ask(&mut self) -> Result<(), ApiError> {
        let rest = &self.all()[self.asked..];
        if rest.is_empty() {
            return Ok(());
        }
        let wanted = rest[..rest.len().min(LIST_PIECE)].to_vec();
        self.asked += wanted.len();
        let (reply, coming) = oneshot::channel();
        // The call may run after the listing is gone; its facts must not be.
        let held = Arc::clone(&self.held);
        let call = Box::new(move |_: &mut _, ctx: &mut Context| {
            let _ = reply.send(Node::copy_listed(ctx, &wanted));
            drop(held);
        });
        self.held.shard.mailbox.push(Request::Call(self.handle.id, call))?;
        self.coming = Some(coming);
        Ok(())
    }
}

impl Handle {
    /// Everybody this node lists, by name. For thousands of members see [`list`](Self::list).
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn members(&self) -> Result<Vec<Member>, ApiError> {
        let mut listing = self.list().await?;
        let mut members = Vec::with_capacity(listing.len());
        while let Some(piece) = listing.next().await? {
            members.extend(piece.iter().map(|member| member.to_owned()));
        }
        members.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(members)
    }

    /// Everybody this node lists, to be read piece by piece: neither side ever holds more than a few hundred
    /// of them in full, and the node's other work goes on in between.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn list(&self) -> Result<Listing, ApiError> {
        Listing::of(self).await
    }
}
