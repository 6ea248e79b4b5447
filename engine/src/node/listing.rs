//! A long list of members that a program reads in pieces: references first, the records later.

use super::Node;
use crate::context::Context;
use crate::event::{MemberRef, Members};
use crate::roster::{FactIndex, MemberIndex};
use crate::view::MemberStatus;

/// Members looked up in one slice: 5 ns each.
const SLICE: u32 = 8192;

/// A member as a node listed it. It holds a reference to the fact that was known then, until
/// [`Node::release_listed`] takes it back; copies are not counted.
#[derive(Copy, Clone, Debug)]
pub(crate) struct ListedMember {
    fact: FactIndex,
    status: MemberStatus,
}

impl Node {
    /// Adds references to the next members that this node lists, in index order. Returns where to go on, or
    /// `None` after the last one.
    pub(crate) fn list_members(
        &self,
        ctx: &mut Context,
        from: MemberIndex,
        into: &mut Vec<ListedMember>,
    ) -> Option<MemberIndex> {
        let view = self.view();
        let end = view.index_end().min(from.0.saturating_add(SLICE));
        for member in (from.0..end).map(MemberIndex) {
            if let Some(known) = view.get(member).filter(|known| known.status != MemberStatus::None) {
                ctx.roster.retain_fact(known.fact);
                into.push(ListedMember { fact: known.fact, status: known.status });
            }
        }
        (end < view.index_end()).then_some(MemberIndex(end))
    }

    /// Copies what is known about listed members whose references are still held.
    pub(crate) fn copy_listed(ctx: &Context, listed: &[ListedMember]) -> Members {
        let mut members = Members::with_capacity(listed.len());
        for &ListedMember { fact, status } in listed {
            members.push(&MemberRef::of(&ctx.roster, fact, status));
        }
        members
    }

    /// Takes the references back. The node that listed the members may have ended.
    pub(crate) fn release_listed(ctx: &mut Context, listed: Vec<ListedMember>) {
        listed.into_iter().for_each(|listed| ctx.roster.release_fact(listed.fact));
    }
}
