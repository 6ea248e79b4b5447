//! Forged departures of members that run: a node is told that other nodes left and are pruned. Each of them still
//! answers, so every view must have all of them again.

use super::{STRANGER, World};
use crate::context::NodeId;
use crate::wire::message::USER;
use crate::wire::serf::LeaveIntent;
use crate::wire::{Dead, LamportTime};

/// How much later than what a node knows the leave is.
const LATER: u64 = 100;

impl World {
    /// Tells the node that the other nodes left and are pruned.
    pub(super) fn expel(&mut self, at: NodeId, others: &[NodeId]) {
        let Some(node) = self.node(at) else { return };
        let (view, roster) = (node.view(), &self.ctx.roster);
        let mut messages = Vec::new();
        for other in others.iter().filter(|&&other| other != at).filter_map(|&other| self.node(other)) {
            let member = other.shared.me;
            let Some(known) = view.get(member) else { continue };
            let (name, incarnation) = (roster.name(member), roster.fact(known.fact).incarnation);
            let mut dead = Vec::new();
            Dead { incarnation, node: name, from: name }.encode(&mut dead);
            let mut leave = vec![USER];
            let ltime = LamportTime(known.status_ltime.0 + LATER);
            LeaveIntent { ltime, node: name, prune: true }.encode(&mut leave);
            messages.extend([dead, leave]);
        }
        for message in messages {
            self.inject(at, STRANGER, &message);
        }
    }
}
