//! Push/pull: exchanging whole states (PROTOCOL 4.3, 4.5, 7.2, 9.5).

use std::net::SocketAddr;

use crate::dissemination::Source;
use crate::roster::{Fact, MemberIndex, Roster};
use crate::scope::Scope;
use crate::swim::Swim;
use crate::view::{Known, SwimState, View};
use crate::wire::stream::PushPullFrame;
use crate::wire::{Alive, Dead, NodeState, Suspect, WireState, ip_from_bytes};

/// Records merged in one slice, so that no ack waits for a big merge: at 0.5 to 1 µs for a record that is
/// known already and 2 µs for a new one, about a millisecond.
const SLICE_RECORDS: usize = 500;

impl Swim {
    /// Merges the next slice of a push/pull, from `offset` on, and advances `offset`. Returns true once all is
    /// merged.
    pub(crate) fn merge_slice(
        &mut self,
        scope: &mut Scope<'_>,
        frame: &PushPullFrame,
        offset: &mut usize,
        source: Source,
    ) -> bool {
        let mut next = Expected { member: MemberIndex(0), in_order: true, record: Vec::new() };
        for _ in 0..SLICE_RECORDS {
            if next.is_next(scope, frame, offset) {
                continue;
            }
            let Some(state) = frame.next_node(offset) else { return true };
            if !next.is_known(scope, &state) {
                self.merge_state(scope, state, source);
            }
        }
        false
    }

    /// Merges one record of a state.
    pub(crate) fn merge_state(&mut self, scope: &mut Scope<'_>, state: NodeState<'_>, source: Source) {
        let (node, incarnation) = (state.name, state.incarnation);
        match state.state {
            WireState::Alive => self.on_alive(scope, announced(state), source, None),
            WireState::Dead | WireState::Suspect if is_rival(scope, &state) => {
                self.on_rival(scope, &announced(state), source, true);
            }
            WireState::Left => self.on_dead(scope, &Dead { incarnation, node, from: node }, source, None),
            // Others may be wrong about a dead member: it gets the chance to refute.
            WireState::Dead | WireState::Suspect => {
                let from = scope.config.node_name.clone();
                self.on_suspect(scope, &Suspect { incarnation, node, from: &from }, source, None);
            }
        }
    }
}

/// The alive message that a record stands for.
pub(super) fn announced(state: NodeState<'_>) -> Alive<'_> {
    Alive {
        incarnation: state.incarnation,
        node: state.name,
        addr: state.addr,
        port: state.port,
        meta: state.meta,
        versions: state.versions,
    }
}

/// The record that is expected next: nodes of one implementation list members in similar orders, and most
/// records say what this node knows.
struct Expected {
    member: MemberIndex,
    /// Whether the last record was about the expected member.
    in_order: bool,
    record: Vec<u8>,
}

impl Expected {
    /// Whether the next record is, byte for byte, what this node would send about the expected member. Then it
    /// changes nothing, and this is found out without decoding it.
    fn is_next(&mut self, scope: &Scope<'_>, frame: &PushPullFrame, offset: &mut usize) -> bool {
        let Some(known) = scope.view.get(self.member).filter(|known| known.swim == SwimState::Alive) else {
            return false;
        };
        if !self.in_order || self.member == scope.me {
            return false;
        }
        self.record.clear();
        let roster = &scope.ctx.roster;
        record(roster, self.member, roster.fact(known.fact), WireState::Alive).encode(&mut self.record);
        let is_it = frame.skip_record(offset, &self.record);
        self.member.0 += u32::from(is_it);
        is_it
    }

    /// Whether a record says exactly what the view holds about another alive member.
    fn is_known(&mut self, scope: &Scope<'_>, state: &NodeState<'_>) -> bool {
        let roster = &scope.ctx.roster;
        let expected = self.member;
        let Some(member) = roster.member_near(state.name, &mut self.member.0) else { return false };
        self.in_order = member == expected;
        let Some(known) = scope.view.get(member) else { return false };
        let fact = roster.fact(known.fact);
        state.state == WireState::Alive
            && known.swim == SwimState::Alive
            && member != scope.me
            && fact.incarnation == state.incarnation
            && fact.port == state.port
            && fact.addr() == &*state.addr
            && fact.versions_bytes() == &*state.versions
            && fact.meta() == &*state.meta
    }
}

/// Whether a record is about this node's name at another address.
fn is_rival(scope: &Scope<'_>, state: &NodeState<'_>) -> bool {
    let there = ip_from_bytes(&state.addr).map(|ip| SocketAddr::new(ip, state.port));
    state.name == scope.config.node_name && there.is_some_and(|there| there != scope.config.advertise)
}

/// What a push/pull says about a member.
fn record<'r>(roster: &'r Roster, member: MemberIndex, fact: Fact<'r>, state: WireState) -> NodeState<'r> {
    NodeState {
        name: roster.name(member),
        addr: fact.addr().into(),
        port: fact.port,
        meta: fact.meta().into(),
        incarnation: fact.incarnation,
        state,
        versions: fact.versions_bytes().into(),
    }
}

/// Appends the records of those members that are in the SWIM table. Returns how many.
pub(crate) fn encode_local_states(
    members: impl Iterator<Item = (MemberIndex, Known)>,
    roster: &Roster,
    out: &mut Vec<u8>,
) -> usize {
    let mut count = 0;
    for (member, known) in members {
        let state = match known.swim {
            SwimState::Absent => continue,
            SwimState::Alive => WireState::Alive,
            SwimState::Suspect => WireState::Suspect,
            SwimState::Dead => WireState::Dead,
            SwimState::Left => WireState::Left,
        };
        record(roster, member, roster.fact(known.fact), state).encode(out);
        count += 1;
    }
    count
}

/// Whether all members in the frame and in the view can talk to each other: the current version of each lies in
/// the range that all alive members understand (PROTOCOL 7.2).
///
/// # Errors
/// The first version that does not fit, in Serf's words. Nothing was changed.
pub(crate) fn verify_versions(view: &View, roster: &Roster, frame: &PushPullFrame) -> Result<(), String> {
    // If all versions that were ever announced fit together, so do those of the frame and the view.
    if let (Some(known), Some(theirs)) = (roster.versions().all(), frame.versions().all())
        && go_together(known.chain(theirs))
    {
        return Ok(());
    }
    let mut protocol = Range { min: 0, max: u8::MAX };
    let mut delegate = Range { min: 0, max: u8::MAX };
    let mut narrow = |versions: &[u8]| {
        if let &[p_min, p_max, _, d_min, d_max, ..] = versions {
            protocol.narrow(p_min, p_max);
            delegate.narrow(d_min, d_max);
        }
    };
    let mut offset = 0;
    while let Some(state) = frame.next_node(&mut offset) {
        if state.state == WireState::Alive {
            narrow(&state.versions);
        }
    }
    for (_, known) in view.iter().filter(|(_, known)| known.swim == SwimState::Alive) {
        narrow(roster.fact(known.fact).versions_bytes());
    }
    let check = |name: &str, versions: &[u8]| {
        let current = |place: usize| versions.get(place).copied().unwrap_or(0);
        protocol.check(name, "protocol version", current(2))?;
        delegate.check(name, "delegate protocol version", current(5))
    };
    let mut offset = 0;
    while let Some(state) = frame.next_node(&mut offset) {
        check(state.name, &state.versions)?;
    }
    for (member, known) in view.iter().filter(|(_, known)| known.swim != SwimState::Absent) {
        check(roster.name(member), roster.fact(known.fact).versions_bytes())?;
    }
    Ok(())
}

/// Whether members with these versions can all talk to each other.
fn go_together<'a>(versions: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut protocol = Range { min: 0, max: u8::MAX };
    let mut delegate = Range { min: 0, max: u8::MAX };
    let all: Vec<&[u8]> = versions.collect();
    for versions in &all {
        if let &&[p_min, p_max, _, d_min, d_max, ..] = versions {
            protocol.narrow(p_min, p_max);
            delegate.narrow(d_min, d_max);
        }
    }
    let current = |versions: &[u8], place: usize| versions.get(place).copied().unwrap_or(0);
    all.iter().all(|versions| {
        (protocol.min..=protocol.max).contains(&current(versions, 2))
            && (delegate.min..=delegate.max).contains(&current(versions, 5))
    })
}

struct Range {
    min: u8,
    max: u8,
}

impl Range {
    fn narrow(&mut self, min: u8, max: u8) {
        self.min = self.min.max(min);
        self.max = self.max.min(max);
    }

    fn check(&self, name: &str, what: &str, current: u8) -> Result<(), String> {
        if (self.min..=self.max).contains(&current) {
            return Ok(());
        }
        Err(format!("Node '{name}' {what} ({current}) is incompatible: [{}, {}]", self.min, self.max))
    }
}

/// Stretches the push/pull interval in big clusters: times ceil(log2(n) - log2(32)) + 1 beyond 32
/// members (PROTOCOL 9.1). 33 members: 2, 65: 3, 10,000: 10.
pub fn push_pull_scale(n: usize) -> u32 {
    if n <= 32 { 1 } else { n.div_ceil(32).next_power_of_two().ilog2() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn push_pull_interval_grows_with_log2() {
        let cases = [(1, 1), (32, 1), (33, 2), (64, 2), (65, 3), (128, 3), (129, 4), (10_000, 10)];
        for (n, scale) in cases {
            assert_eq!(push_pull_scale(n), scale, "{n}");
        }
    }
}
