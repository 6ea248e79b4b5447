//! The interface of a dissemination policy, and the choice of one.
//!
//! A policy owns the targets of broadcasts, the number of their transmissions, their pacing and the timer. It
//! learns of every broadcast that this node sees for the first time and of every one that it hears again. The
//! layers above know none of it: they report what they saw, and where they saw it.

use super::{BroadcastId, Class, Source};
use bytes::Bytes;

use super::broadcasts::{Broadcasts, Limits};
use super::classic::Classic;
use super::eager::Eager;
use crate::config::{Config, DisseminationPolicy};
use crate::context::Context;
use crate::roster::MemberIndex;
use crate::sending::Sending;
use crate::timers::TimerKey;
use crate::view::View;

/// When queued broadcasts go to which members, and how often.
#[derive(Debug)]
pub(super) enum Policy {
    /// The policy of memberlist and Serf.
    Classic(Classic),
    /// Forwarding at first sight down the segment graph.
    Eager(Box<Eager>),
}

impl Policy {
    pub(super) fn new(config: &Config, ctx: &mut Context) -> Policy {
        let rounds = Classic::new(ctx.random.duration(config.gossip_interval));
        match config.dissemination {
            DisseminationPolicy::Classic => Policy::Classic(rounds),
            DisseminationPolicy::Eager => Policy::Eager(Box::new(Eager::new(rounds))),
        }
    }

    /// In how many packets each kind of broadcast may go out.
    pub(super) fn limits(&self, sending: &Sending<'_>) -> Limits {
        match self {
            Policy::Classic(classic) => classic.limits(sending),
            Policy::Eager(eager) => eager.limits(sending),
        }
    }

    /// This node sees a state of a member for the first time: the one that the view holds now. What is queued about
    /// the member is outdated. `from` is the member that the message names as its source.
    pub(super) fn on_member(
        &mut self,
        broadcasts: &mut Broadcasts,
        ctx: &mut Context,
        view: &View,
        member: MemberIndex,
        from: MemberIndex,
        source: Source,
    ) {
        match self {
            // A thousand joiners that gossip all members to all members would delay all other news (Serf's do).
            _ if source == Source::JoinAnswer => broadcasts.forget_member(ctx, member),
            Policy::Classic(_) => {
                broadcasts.queue_member(ctx, view, member, from, false);
            }
            Policy::Eager(eager) => eager.on_member(broadcasts, ctx, view, member, from, source),
        }
    }

    /// This node sees a serf message (serf type byte first) for the first time. Beyond `max` messages of its class
    /// those sent most often are dropped. Returns how many.
    pub(super) fn on_message(
        &mut self,
        broadcasts: &mut Broadcasts,
        ctx: &mut Context,
        class: Class,
        message: Bytes,
        max: usize,
        source: Source,
    ) -> (BroadcastId, usize) {
        match self {
            // It makes no difference between its own messages and those of others.
            Policy::Classic(_) => broadcasts.queue_user(ctx, class, message, max, None),
            Policy::Eager(eager) => eager.on_message(broadcasts, ctx, class, message, max, source),
        }
    }

    /// A datagram repeats the state of a member that this node has seen before.
    pub(super) fn on_repeated_member(
        &mut self,
        broadcasts: &mut Broadcasts,
        ctx: &mut Context,
        member: MemberIndex,
    ) {
        match self {
            // It sends every broadcast as often as its limits say, however often it hears it.
            Policy::Classic(_) => {}
            Policy::Eager(eager) => eager.on_repeated_member(broadcasts, ctx, member),
        }
    }

    /// A datagram repeats a serf message (serf type byte first) that this node has seen before.
    pub(super) fn on_repeated_message(
        &mut self,
        broadcasts: &mut Broadcasts,
        ctx: &mut Context,
        message: &[u8],
    ) {
        match self {
            Policy::Classic(_) => {}
            Policy::Eager(eager) => eager.on_repeated_message(broadcasts, ctx, message),
        }
    }

    /// An input is over: sends what must not wait, and arms the timer for the rest.
    pub(super) fn settle(&mut self, broadcasts: &mut Broadcasts, sending: &mut Sending<'_>) {
        match self {
            Policy::Classic(classic) => classic.settle(broadcasts, sending),
            Policy::Eager(eager) => eager.settle(broadcasts, sending),
        }
    }

    /// The timer that the policy armed is due.
    pub(super) fn on_timer(&mut self, broadcasts: &mut Broadcasts, sending: &mut Sending<'_>, key: TimerKey) {
        match self {
            // It has one timer, and at most one of that is armed.
            Policy::Classic(classic) => {
                classic.on_timer(broadcasts, sending);
            }
            Policy::Eager(eager) => eager.on_timer(broadcasts, sending, key),
        }
    }

    /// Sends at once, without waiting for the timer.
    pub(super) fn send_now(&mut self, broadcasts: &mut Broadcasts, sending: &mut Sending<'_>) {
        match self {
            Policy::Classic(classic) => {
                classic.send_round(broadcasts, sending);
            }
            Policy::Eager(eager) => eager.send_now(broadcasts, sending),
        }
    }

    /// Forgets what waits, and the size of the view: both were emptied.
    pub(super) fn clear(&mut self) {
        match self {
            Policy::Classic(_) => {}
            Policy::Eager(eager) => eager.clear(),
        }
    }
}
