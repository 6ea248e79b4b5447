//! Push/pull: exchanging whole states (PROTOCOL 4.3, 4.5, 7.2, 9.5).

use crate::egress::Scope;
use crate::roster::Roster;
use crate::swim::{Source, Swim};
use crate::view::{SwimState, View};
use crate::wire::stream::PushPullFrame;
use crate::wire::{Alive, Dead, Incarnation, NodeState, Suspect, WireState};

/// Records merged in one go, so that no ack waits behind a big merge: at 0.5 to 1 µs for a record that is
/// known already and 2 µs for a new one, about a millisecond.
const SLICE_RECORDS: usize = 500;

impl Swim {
    /// Merges the next slice of a push/pull. `offset` is where it goes on; true when all is merged.
    pub(crate) fn merge_slice(
        &mut self,
        scope: &mut Scope<'_>,
        frame: &PushPullFrame,
        offset: &mut usize,
        source: Source,
    ) -> bool {
        for _ in 0..SLICE_RECORDS {
            let Some(state) = frame.next_node(offset) else { return true };
            self.merge_state(scope, &state, source);
        }
        false
    }

    fn merge_state(&mut self, scope: &mut Scope<'_>, state: &NodeState<'_>, source: Source) {
        let (node, incarnation) = (state.name, state.incarnation);
        match state.state {
            WireState::Alive => {
                let alive = Alive {
                    incarnation,
                    node,
                    addr: state.addr.clone(),
                    port: state.port,
                    meta: state.meta.clone(),
                    versions: state.versions.clone(),
                };
                self.on_alive(scope, &alive, source, None);
            }
            WireState::Left => self.on_dead(scope, &Dead { incarnation, node, from: node }, source),
            // A remote's "dead" is only hearsay: the member gets the chance to refute.
            WireState::Dead | WireState::Suspect => {
                let from = scope.config.node_name.clone();
                self.on_suspect(scope, &Suspect { incarnation, node, from: &from }, source);
            }
        }
    }
}

/// Appends the records of all members in the SWIM table. Returns how many.
pub(crate) fn encode_local_states(view: &View, roster: &Roster, out: &mut Vec<u8>) -> usize {
    let mut count = 0;
    for (member, known) in view.iter() {
        let state = match known.swim {
            SwimState::Absent => continue,
            SwimState::Alive => WireState::Alive,
            SwimState::Suspect => WireState::Suspect,
            SwimState::Dead => WireState::Dead,
            SwimState::Left => WireState::Left,
        };
        let fact = roster.fact(known.fact);
        let record = NodeState {
            name: roster.name(member),
            addr: fact.addr().into(),
            port: fact.port,
            meta: fact.meta().into(),
            incarnation: Incarnation(fact.incarnation.0),
            state,
            versions: fact.versions_bytes().into(),
        };
        record.encode(out);
        count += 1;
    }
    count
}

/// Whether everybody in the frame and in the view can talk to each other: each one's current version lies
/// in the range that all alive ones understand (PROTOCOL 7.2).
///
/// # Errors
/// What does not fit, in Serf's words.
pub(crate) fn verify_versions(view: &View, roster: &Roster, frame: &PushPullFrame) -> Result<(), String> {
    let (mut protocol, mut delegate) = (Range::ALL, Range::ALL);
    let mut note = |versions: &[u8], alive: bool| {
        if alive && let &[p_min, p_max, _, d_min, d_max, ..] = versions {
            protocol.narrow(p_min, p_max);
            delegate.narrow(d_min, d_max);
        }
        protocol.speaks(current(versions, PROTOCOL_CURRENT));
        delegate.speaks(current(versions, DELEGATE_CURRENT));
    };
    let mut offset = 0;
    while let Some(state) = frame.next_node(&mut offset) {
        note(&state.versions, state.state == WireState::Alive);
    }
    let known = || view.iter().filter(|(_, known)| known.swim != SwimState::Absent);
    for (_, known) in known() {
        note(roster.fact(known.fact).versions_bytes(), known.swim == SwimState::Alive);
    }
    if protocol.fits() && delegate.fits() {
        return Ok(());
    }
    // Somebody does not fit: look again for who.
    let check = |name: &str, versions: &[u8]| {
        protocol.check(name, "protocol version", current(versions, PROTOCOL_CURRENT))?;
        delegate.check(name, "delegate protocol version", current(versions, DELEGATE_CURRENT))
    };
    let mut offset = 0;
    while let Some(state) = frame.next_node(&mut offset) {
        check(state.name, &state.versions)?;
    }
    for (member, known) in known() {
        check(roster.name(member), roster.fact(known.fact).versions_bytes())?;
    }
    Ok(())
}

/// Places of the versions in use among a member's version bytes.
const PROTOCOL_CURRENT: usize = 2;
const DELEGATE_CURRENT: usize = 5;

fn current(versions: &[u8], place: usize) -> u8 {
    versions.get(place).copied().unwrap_or(0)
}

/// The versions that all alive members understand, and those that anybody speaks.
struct Range {
    min: u8,
    max: u8,
    spoken_min: u8,
    spoken_max: u8,
}

impl Range {
    const ALL: Range = Range { min: 0, max: u8::MAX, spoken_min: u8::MAX, spoken_max: 0 };

    fn narrow(&mut self, min: u8, max: u8) {
        self.min = self.min.max(min);
        self.max = self.max.min(max);
    }

    fn speaks(&mut self, current: u8) {
        self.spoken_min = self.spoken_min.min(current);
        self.spoken_max = self.spoken_max.max(current);
    }

    fn fits(&self) -> bool {
        self.spoken_min >= self.min && self.spoken_max <= self.max
    }

    fn check(&self, name: &str, what: &str, current: u8) -> Result<(), String> {
        if (self.min..=self.max).contains(&current) {
            return Ok(());
        }
        Err(format!("Node '{name}' {what} ({current}) is incompatible: [{}, {}]", self.min, self.max))
    }
}

/// Stretches the push/pull interval in big clusters: times ceil(log2(n) - log2(32)) + 1 beyond 32
/// members (PROTOCOL 9.1). 33 gives 2, 65 gives 3, 10,000 gives 10.
pub(crate) fn push_pull_scale(n: usize) -> u32 {
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
