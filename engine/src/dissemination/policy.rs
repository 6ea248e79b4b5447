//! The interface of a dissemination policy, and the choice of one.
//!
//! A policy owns the targets of broadcasts, the number of their transmissions, their pacing and the timer. It
//! learns of every broadcast that this node sees for the first time and of every one that it hears again. The
//! layers above know none of it: they report what they saw, and where they saw it.

use super::Source;
use super::broadcasts::{Broadcasts, Limits};
use super::classic::Classic;
use crate::config::Config;
use crate::context::Context;
use crate::roster::MemberIndex;
use crate::sending::Sending;
use crate::timers::TimerKey;

/// When queued broadcasts go to which members, and how often.
#[derive(Debug)]
pub(super) enum Policy {
    /// The policy of memberlist and Serf.
    Classic(Classic),
}

impl Policy {
    pub(super) fn new(config: &Config, ctx: &mut Context) -> Policy {
        Policy::Classic(Classic::new(ctx.random.duration(config.gossip_interval)))
    }

    /// In how many packets each kind of broadcast may go out.
    pub(super) fn limits(&self, sending: &Sending<'_>) -> Limits {
        match self {
            Policy::Classic(classic) => classic.limits(sending),
        }
    }

    /// Whether a broadcast that this node sees for the first time is queued.
    pub(super) fn wants(&self, source: Source) -> bool {
        match self {
            Policy::Classic(classic) => classic.wants(source),
        }
    }

    /// A datagram repeats the state of a member that this node has seen before.
    pub(super) fn on_repeated_member(&mut self, _member: MemberIndex) {
        match self {
            // It sends every broadcast as often as its limits say, however often it hears it.
            Policy::Classic(_) => {}
        }
    }

    /// A datagram repeats a serf message (serf type byte first) that this node has seen before.
    pub(super) fn on_repeated_message(&mut self, _message: &[u8]) {
        match self {
            Policy::Classic(_) => {}
        }
    }

    /// An input is over: sends what must not wait, and arms the timer for the rest.
    pub(super) fn settle(&mut self, broadcasts: &mut Broadcasts, sending: &mut Sending<'_>) {
        match self {
            Policy::Classic(classic) => classic.settle(broadcasts, sending),
        }
    }

    /// The timer that the policy armed is due.
    pub(super) fn on_timer(
        &mut self,
        broadcasts: &mut Broadcasts,
        sending: &mut Sending<'_>,
        _key: TimerKey,
    ) {
        match self {
            // It has one timer, and at most one of that is armed.
            Policy::Classic(classic) => classic.on_timer(broadcasts, sending),
        }
    }

    /// Sends at once, without waiting for the timer.
    pub(super) fn send_now(&mut self, broadcasts: &mut Broadcasts, sending: &mut Sending<'_>) {
        match self {
            Policy::Classic(classic) => classic.send_round(broadcasts, sending),
        }
    }
}
