//! How news reaches all members: the queued broadcasts of a node, and the policy that decides which of them go
//! to whom, when and how often.

mod broadcasts;
mod budget;
mod classic;
mod eager;
mod graph;
mod growth;
mod policy;
mod queue;

use bytes::Bytes;

use self::broadcasts::{Broadcasts, Limits};
use self::policy::Policy;
use crate::config::Config;
use crate::context::Context;
use crate::roster::{MemberIndex, Roster};
use crate::sending::Sending;
use crate::time::Time;
use crate::timers::TimerKey;
use crate::view::{SwimState, View};
use crate::wire::message;

pub(crate) use self::classic::ceil_log10;
pub use self::queue::Class;
pub use crate::ids::BroadcastId;

/// Where this node has a broadcast from.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// This node says it: its own announcements, accusations, events and queries.
    Own,
    /// A datagram said it, or a stream that carried one message.
    Gossip,
    /// A record of a push/pull.
    Exchange,
    /// A record of the answer to this node's own join: the cluster knows it.
    JoinAnswer,
    /// A record about a member that is alive, of a reconciliation: whoever lacks it learns it the same way.
    Reconciled,
}

/// The dissemination of one node.
#[derive(Debug)]
pub(crate) struct Dissemination {
    broadcasts: Broadcasts,
    policy: Policy,
    /// Much news about members: what others say of those that are alive is not passed on.
    quiet: bool,
}

impl Dissemination {
    pub(crate) fn new(config: &Config, ctx: &mut Context) -> Dissemination {
        Dissemination { broadcasts: Broadcasts::default(), policy: Policy::new(config, ctx), quiet: false }
    }

    /// This node sees a state of a member for the first time: the one that the view holds now. `from` is the member
    /// that the message names as its source.
    pub(crate) fn on_member(
        &mut self,
        ctx: &mut Context,
        view: &View,
        member: MemberIndex,
        from: MemberIndex,
        source: Source,
    ) {
        if source == Source::Reconciled || self.is_quiet_about(source) && is_alive(view, member) {
            return self.broadcasts.forget_member(ctx, member);
        }
        self.policy.on_member(&mut self.broadcasts, ctx, view, member, from, source);
    }

    /// Sets whether there is so much news about members that are alive that it is left to reconciliation.
    pub(crate) fn set_quiet(&mut self, quiet: bool) {
        self.quiet = quiet;
    }

    /// Whether such news from that source is left to reconciliation.
    pub(crate) fn is_quiet_about(&self, source: Source) -> bool {
        self.quiet && source != Source::Own
    }

    /// This node sees a serf message (serf type byte first) for the first time. Beyond `max` messages of its class
    /// those sent most often are dropped. Returns how many.
    pub(crate) fn on_message(
        &mut self,
        ctx: &mut Context,
        class: Class,
        message: Bytes,
        max: usize,
        source: Source,
    ) -> (BroadcastId, usize) {
        self.policy.on_message(&mut self.broadcasts, ctx, class, message, max, source)
    }

    /// A datagram repeats the state of a member that this node has seen before.
    #[inline]
    pub(crate) fn on_repeated_member(&mut self, ctx: &mut Context, member: MemberIndex) {
        self.policy.on_repeated_member(&mut self.broadcasts, ctx, member);
    }

    /// A datagram repeats a serf message (serf type byte first) that this node has seen before.
    #[inline]
    pub(crate) fn on_repeated_message(&mut self, ctx: &mut Context, message: &[u8]) {
        self.policy.on_repeated_message(&mut self.broadcasts, ctx, message);
    }

    /// Drops what is queued about a member: it became stale or the member is gone.
    pub(crate) fn forget_member(&mut self, ctx: &mut Context, member: MemberIndex) {
        self.broadcasts.forget_member(ctx, member);
    }

    /// From now on the news about this member goes before all other news: this node, once it leaves.
    pub(crate) fn send_first(&mut self, member: MemberIndex) {
        self.broadcasts.first = Some(member);
    }

    /// An input is over: the policy sends what must not wait, and arms its timer for the rest.
    pub(crate) fn settle(&mut self, sending: &mut Sending<'_>) {
        self.policy.settle(&mut self.broadcasts, sending);
    }

    /// The policy's timer is due.
    pub(crate) fn on_timer(&mut self, sending: &mut Sending<'_>, key: TimerKey) {
        self.policy.on_timer(&mut self.broadcasts, sending, key);
    }

    /// Sends without waiting for the timer.
    pub(crate) fn send_now(&mut self, sending: &mut Sending<'_>) {
        self.policy.send_now(&mut self.broadcasts, sending);
    }

    /// Fills the packet under assembly, which goes out anyway, with queued broadcasts.
    pub(crate) fn piggyback(&mut self, sending: &mut Sending<'_>) {
        piggyback(&mut self.broadcasts, |sending| self.policy.limits(sending), sending);
    }

    /// Serf messages of a class that wait.
    pub(crate) fn user_len(&self, class: Class) -> usize {
        self.broadcasts.user_len(class)
    }

    /// Members with news that waits.
    pub(crate) fn news_len(&self) -> usize {
        self.broadcasts.news_len()
    }

    /// Since when the oldest serf message of a class waits.
    pub(crate) fn oldest_user(&self, class: Class) -> Option<Time> {
        self.broadcasts.oldest_user(class)
    }

    /// Since when the oldest news about a member waits.
    pub(crate) fn oldest_news(&self) -> Option<Time> {
        self.broadcasts.oldest_news()
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
        self.policy.clear();
    }
}

fn is_alive(view: &View, member: MemberIndex) -> bool {
    view.get(member).is_some_and(|known| known.swim == SwimState::Alive)
}

/// Fills the packet under assembly with queued broadcasts, then with those of the delegate.
fn piggyback(
    broadcasts: &mut Broadcasts,
    limits: impl FnOnce(&Sending<'_>) -> Limits,
    sending: &mut Sending<'_>,
) {
    broadcasts.count_packet();
    if !broadcasts.is_empty() {
        let limits = limits(sending);
        broadcasts.fill(sending.ctx, sending.view, limits);
    }
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
