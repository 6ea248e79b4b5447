//! How news reaches all members: the queued broadcasts of a node, and the policy that decides when they go to
//! whom.

mod broadcasts;
mod classic;
pub(crate) mod queue;

use bytes::Bytes;

use self::broadcasts::{Broadcasts, Limits};
use self::classic::Classic;
use crate::config::Config;
use crate::context::Context;
use crate::roster::{MemberIndex, Roster};
use crate::sending::Sending;
use crate::view::View;
use crate::wire::message;

pub(crate) use self::classic::ceil_log10;
pub use self::queue::Class;
pub use crate::ids::BroadcastId;

/// The dissemination of one node.
#[derive(Debug)]
pub(crate) struct Dissemination {
    broadcasts: Broadcasts,
    policy: Classic,
}

impl Dissemination {
    pub(crate) fn new(config: &Config, ctx: &mut Context) -> Dissemination {
        let phase = ctx.random.duration(config.gossip_interval);
        Dissemination { broadcasts: Broadcasts::default(), policy: Classic::new(phase) }
    }

    /// Queues the member's state as the view has it; replaces what is queued about the member.
    pub(crate) fn queue_member(
        &mut self,
        ctx: &mut Context,
        view: &View,
        member: MemberIndex,
        from: MemberIndex,
    ) {
        self.broadcasts.queue_member(ctx, view, member, from);
    }

    /// Queues a serf message. Beyond `max` of a class those sent most often are dropped; returns how many.
    pub(crate) fn queue_user(
        &mut self,
        ctx: &mut Context,
        class: Class,
        message: Bytes,
        max: usize,
    ) -> (BroadcastId, usize) {
        self.broadcasts.queue_user(ctx, class, message, max)
    }

    /// Drops what is queued about a member: it became stale or the member is gone.
    pub(crate) fn forget_member(&mut self, ctx: &mut Context, member: MemberIndex) {
        self.broadcasts.forget_member(ctx, member);
    }

    /// From now on the news about this member goes before all other news: this node, once it leaves.
    pub(crate) fn send_first(&mut self, member: MemberIndex) {
        self.broadcasts.first = Some(member);
    }

    /// Arms the timer that the queued broadcasts need.
    pub(crate) fn wake(&mut self, sending: &mut Sending<'_>) {
        self.policy.settle(&self.broadcasts, sending);
    }

    /// The timer is due.
    pub(crate) fn on_timer(&mut self, sending: &mut Sending<'_>) {
        self.policy.on_timer(&mut self.broadcasts, sending);
    }

    /// Sends without waiting for the timer.
    pub(crate) fn send_round(&mut self, sending: &mut Sending<'_>) {
        self.policy.send_round(&mut self.broadcasts, sending);
    }

    /// Fills the packet under assembly, which goes out anyway, with queued broadcasts.
    pub(crate) fn piggyback(&mut self, sending: &mut Sending<'_>) {
        piggyback(&mut self.broadcasts, self.policy.limits(sending), sending);
    }

    /// Serf messages of a class that wait.
    pub(crate) fn user_len(&self, class: Class) -> usize {
        self.broadcasts.user_len(class)
    }

    /// How many serf messages of a class were dropped since the last call.
    pub(crate) fn take_dropped(&mut self, class: Class) -> usize {
        self.broadcasts.take_dropped(class)
    }

    /// Whether a command waits for broadcasts to finish.
    pub(crate) fn watched(&self) -> bool {
        self.broadcasts.watched
    }

    /// Starts or ends the deferring of finished broadcasts.
    pub(crate) fn watch(&mut self, watched: bool) {
        self.broadcasts.watched = watched;
    }

    /// Returns the references to names; the node is gone.
    pub(crate) fn clear(&mut self, roster: &mut Roster) {
        self.broadcasts.clear(roster);
    }
}

/// Fills the packet under assembly with queued broadcasts, then with those of the delegate.
fn piggyback(broadcasts: &mut Broadcasts, limits: Limits, sending: &mut Sending<'_>) {
    broadcasts.fill(sending.ctx, sending.view, limits);
    if !sending.asks_broadcasts() {
        return;
    }
    while let room = sending.ctx.assembler.remaining().saturating_sub(1)
        && room > 0
        && let Some(message) = sending.delegate.as_mut().and_then(|delegate| delegate.broadcast(room))
        && sending.fits("broadcast", message.len(), room)
    {
        sending.ctx.assembler.push(|out| {
            out.push(message::USER);
            out.extend_from_slice(&message);
        });
    }
}
