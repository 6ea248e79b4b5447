//! The policy of memberlist and Serf (PROTOCOL 9.6): while anything is queued, a few random members get a
//! packet full of it every gossip interval.

use std::time::Duration;

use super::broadcasts::{Broadcasts, Limits};
use super::piggyback;
use crate::roster::MemberIndex;
use crate::sending::Sending;
use crate::time::Time;
use crate::timers::TimerKind;
use crate::view::SwimState;

/// A packet with less room than this, bytes, counts as full.
const ROOM_MIN: usize = 256;

/// The state of the policy in one node.
#[derive(Debug)]
pub(super) struct Classic {
    /// The gossip timer is armed.
    armed: bool,
    /// Where this node's rounds lie within the gossip interval, so that nodes don't gossip in step.
    phase: Duration,
    /// The members that a round goes to; kept for its memory.
    targets: Vec<MemberIndex>,
}

impl Classic {
    pub(super) fn new(phase: Duration) -> Classic {
        Classic { armed: false, phase, targets: Vec::new() }
    }

    /// mult * ceil(log10(n + 1)) (PROTOCOL 9.1). With mult 4: n = 9: 4, n = 10: 8, n = 1000: 16.
    pub(super) fn limits(&self, sending: &Sending<'_>) -> Limits {
        let limit = |n: usize| sending.config.retransmit_mult.saturating_mul(ceil_log10(n + 1));
        Limits { member: limit(sending.view.table_count()), user: limit(sending.view.members_count()) }
    }

    /// Arms the gossip timer if broadcasts wait, there are members to send them to, and it is not armed.
    pub(super) fn settle(&mut self, broadcasts: &Broadcasts, sending: &mut Sending<'_>) {
        if self.armed || broadcasts.is_empty() && !sending.asks_broadcasts() || !others_in_table(sending) {
            return;
        }
        self.armed = true;
        let interval = sending.config.gossip_interval.as_nanos() as u64;
        let phase = self.phase.as_nanos() as u64;
        let round = (sending.ctx.now.as_nanos() + interval - phase) / interval;
        sending.schedule(Time::from_nanos(round * interval + phase), TimerKind::Gossip, 0, 0);
    }

    /// The round that is due; arms the next one if broadcasts are left. Returns whether its packets had no room for
    /// more.
    pub(super) fn on_timer(&mut self, broadcasts: &mut Broadcasts, sending: &mut Sending<'_>) -> bool {
        let full = self.send_round(broadcasts, sending);
        self.armed = false;
        self.settle(broadcasts, sending);
        full
    }

    /// Gossips without waiting for the round. Returns whether the packets had no room for more.
    pub(super) fn send_round(&mut self, broadcasts: &mut Broadcasts, sending: &mut Sending<'_>) -> bool {
        let mut targets = std::mem::take(&mut self.targets);
        targets.clear();
        add_random(sending, sending.config.gossip_nodes, &mut targets);
        let mut full = false;
        for &target in &targets {
            sending.begin_packet();
            piggyback(broadcasts, |sending| self.limits(sending), sending);
            full = sending.ctx.assembler.remaining() < ROOM_MIN;
            if sending.ctx.assembler.is_empty() {
                break;
            }
            sending.finish_packet_to_member(target);
        }
        self.targets = targets;
        full
    }
}

/// Whether the table has a member other than this node, in whatever state.
fn others_in_table(sending: &Sending<'_>) -> bool {
    let count = sending.view.table_count();
    count > 1 || count == 1 && sending.view.get(sending.me).is_none_or(|me| me.swim == SwimState::Absent)
}

/// Adds `count` random members that gossip goes to: alive, suspect, or dead so recently that they may refute.
pub(super) fn add_random(sending: &mut Sending<'_>, count: u32, targets: &mut Vec<MemberIndex>) {
    let (view, me, now) = (sending.view, sending.me, sending.ctx.now);
    for _ in 0..count {
        let picked = view.random_member(&mut sending.ctx.random, |member, known| {
            let reachable = match known.swim {
                SwimState::Alive | SwimState::Suspect => true,
                SwimState::Dead => view
                    .swim_since(member)
                    .is_some_and(|since| now.since(since) <= sending.config.gossip_to_the_dead),
                SwimState::Absent | SwimState::Left => false,
            };
            reachable && member != me && !targets.contains(&member)
        });
        match picked {
            Some(member) => targets.push(member),
            None => break,
        }
    }
}

/// ceil(log10(n)) without floating point: 0 for 1, 1 for 2 to 10, 2 for 11 to 100.
pub(crate) fn ceil_log10(n: usize) -> u32 {
    n.saturating_sub(1).checked_ilog10().map_or(0, |log| log + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceil_log10_rounds_up() {
        let cases = [(1, 0), (2, 1), (10, 1), (11, 2), (100, 2), (101, 3), (1001, 4)];
        for (n, expected) in cases {
            assert_eq!(ceil_log10(n), expected, "{n}");
        }
    }
}
