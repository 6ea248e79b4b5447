//! Checkers: no input may break a rule of the protocol (safety), and once all faults are over all views
//! become equal within a bound that follows from the settings (liveness).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::command::Ticket;
use crate::config::Config;
use crate::context::NodeId;
use crate::digest::{Fingerprint, member_version, share};
use crate::event::{Completion, Event};
use crate::node::Node;
use crate::roster::{MemberIndex, Roster};
use crate::sim::World;
use crate::swim::{push_pull_scale, suspicion_min};
use crate::time::Time;
use crate::view::{Known, MemberStatus, SwimState};
use crate::wire::limits::UDP_PACKET_BYTES_MAX;
use crate::wire::message::USER;
use crate::wire::{Incarnation, LamportTime};

/// Violations kept; one is enough to fail a run.
const VIOLATIONS_MAX: usize = 100;
/// Answers to queries and relays are sent whatever their size is; Serf's limits bound them.
const DIRECT_BYTES_MAX: usize = 2048;
/// The checksum is not part of the packet budget, as in memberlist.
const CHECKSUM_BYTES: usize = 5;

/// A rule that is checked on every transition.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Lamport clocks never fall.
    ClocksNeverFall,
    /// Queues stay within their limit.
    QueuesStayShort,
    /// Only the owner raises its incarnation.
    OwnersRaise,
    /// Who left or was pruned does not come back as it was.
    DepartedStayGone,
    /// An incarnation never falls.
    IncarnationsNeverFall,
    /// Nobody comes back without a higher incarnation.
    ReturnsAreAnnounced,
    /// Who announced that it leaves is not shown as failed.
    LeaversDoNotFail,
    /// A node announces the digest of its view.
    DigestsAreTrue,
    /// Datagrams stay within the size limit.
    DatagramsFit,
    /// No event is delivered twice.
    EventsComeOnce,
    /// A query ends once and for all.
    QueriesEndOnce,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 11] = [
        Rule::ClocksNeverFall,
        Rule::QueuesStayShort,
        Rule::OwnersRaise,
        Rule::DepartedStayGone,
        Rule::IncarnationsNeverFall,
        Rule::ReturnsAreAnnounced,
        Rule::LeaversDoNotFail,
        Rule::DigestsAreTrue,
        Rule::DatagramsFit,
        Rule::EventsComeOnce,
        Rule::QueriesEndOnce,
    ];

    /// The rule in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Rule::ClocksNeverFall => "Lamport clocks never fall",
            Rule::QueuesStayShort => "queues stay within their limit",
            Rule::OwnersRaise => "only the owner raises its incarnation",
            Rule::DepartedStayGone => "who left or was pruned does not come back as it was",
            Rule::IncarnationsNeverFall => "an incarnation never falls",
            Rule::ReturnsAreAnnounced => "nobody comes back without a higher incarnation",
            Rule::LeaversDoNotFail => "who announced that it leaves is not shown as failed",
            Rule::DigestsAreTrue => "a node announces the digest of its view",
            Rule::DatagramsFit => "datagrams stay within the size limit",
            Rule::EventsComeOnce => "no event is delivered twice",
            Rule::QueriesEndOnce => "a query ends once and for all",
        }
    }
}

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Time,
    /// Which node broke it.
    pub node: NodeId,
    /// The rule.
    pub rule: Rule,
    /// What happened.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} n{}: {}: {}", self.at, self.node.0 + 1, self.rule.as_str(), self.detail)
    }
}

/// What every node believed before its last input.
#[derive(Debug, Default)]
pub(super) struct Checker {
    shadows: BTreeMap<NodeId, Shadow>,
    /// The highest incarnation that each member gave itself, over all its lives.
    owned: BTreeMap<MemberIndex, Incarnation>,
    /// Queries that are over.
    ended: BTreeSet<(NodeId, Ticket)>,
    violations: Vec<Violation>,
}

#[derive(Debug, Default)]
struct Shadow {
    entries: Vec<Option<Held>>,
    clocks: [LamportTime; 3],
    delivered: BTreeSet<(u64, String, Vec<u8>)>,
}

/// What a view held. Its fact may be gone by now.
#[derive(Copy, Clone, Debug)]
struct Held {
    known: Known,
    incarnation: Incarnation,
    addr: SocketAddr,
}

impl Checker {
    /// Watches a node that may have run for long.
    pub(super) fn watch(&mut self, node: &Node, roster: &Roster) {
        let view = node.view();
        let me = node.shared.me;
        if let Some(incarnation) = view.incarnation(roster, me) {
            self.owned.insert(me, incarnation);
        }
        let shadow = self.shadows.entry(node.shared.id).or_default();
        shadow.clocks = node.clocks();
        shadow.entries = (0..view.index_end()).map(|place| held(node, roster, MemberIndex(place))).collect();
    }

    pub(super) fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Compares a node with what it was before the input.
    pub(super) fn after_input(&mut self, at: Time, node: &Node, roster: &Roster) {
        let id = node.shared.id;
        let mut shadow = self.shadows.remove(&id).unwrap_or_default();
        let clocks = node.clocks();
        if (0..3).any(|place| clocks[place] < shadow.clocks[place]) {
            let detail = format!("{:?} after {:?}", clocks, shadow.clocks);
            self.broken(at, id, Rule::ClocksNeverFall, detail);
        }
        shadow.clocks = clocks;
        let (depths, max) = (node.queue_depths(), node.config().queue_depth_max);
        if depths.iter().any(|&depth| depth > max) {
            self.broken(at, id, Rule::QueuesStayShort, format!("{depths:?} above {max}"));
        }
        shadow.entries.resize(node.view().index_end() as usize, None);
        for (place, before) in shadow.entries.iter_mut().enumerate() {
            let member = MemberIndex(place as u32);
            if node.view().get(member) == before.map(|held| held.known) {
                continue;
            }
            let now = held(node, roster, member);
            let old = std::mem::replace(before, now);
            let Some(now) = now else { continue };
            let incarnation = now.incarnation;
            if member == node.shared.me {
                let owned = self.owned.entry(member).or_default();
                *owned = incarnation.max(*owned);
            } else if incarnation > self.owned.get(&member).copied().unwrap_or_default() {
                let detail = format!("{} at {}", roster.name(member), incarnation.0);
                self.broken(at, id, Rule::OwnersRaise, detail);
            }
            let moved = |old: &Held| old.known.swim == SwimState::Left && old.addr != now.addr;
            if let Some(old) = old.filter(|old| is_revived(old, &now)) {
                let name = roster.name(member);
                let rule = Rule::DepartedStayGone;
                self.broken(at, id, rule, format!("{name}: {} became {}", old.text(), now.text()));
            }
            if let Some(old) = old.filter(|old| !moved(old))
                && let Some(rule) = broken_rule(old.known, old.incarnation, now.known, incarnation)
            {
                let name = roster.name(member);
                self.broken(at, id, rule, format!("{name}: {} became {}", old.text(), now.text()));
            }
        }
        self.shadows.insert(id, shadow);
        if node.config().extensions && !node.has_left() && node.announced_digest() != digest_of(node, roster)
        {
            let detail = format!("{:016x}", node.announced_digest());
            self.broken(at, id, Rule::DigestsAreTrue, detail);
        }
    }

    /// A datagram goes out.
    pub(super) fn after_send(&mut self, at: Time, node: &Node, bytes: &[u8]) {
        let direct = node.encrypted() || bytes.first() == Some(&USER);
        let max = if direct { DIRECT_BYTES_MAX } else { UDP_PACKET_BYTES_MAX + CHECKSUM_BYTES };
        if bytes.len() > max {
            let detail = format!("{} bytes", bytes.len());
            self.broken(at, node.shared.id, Rule::DatagramsFit, detail);
        }
    }

    /// The application gets an event.
    pub(super) fn after_event(&mut self, at: Time, id: NodeId, event: &Event) {
        let Event::User { ltime, name, payload, .. } = event else { return };
        let shadow = self.shadows.entry(id).or_default();
        if !shadow.delivered.insert((ltime.0, name.clone(), payload.to_vec())) {
            self.broken(at, id, Rule::EventsComeOnce, format!("{name} of {}", ltime.0));
        }
    }

    /// A command is answered.
    pub(super) fn after_completion(&mut self, at: Time, id: NodeId, ticket: Ticket, completion: &Completion) {
        let is_over = match completion {
            Completion::QueryDone => !self.ended.insert((id, ticket)),
            Completion::QueryAck { .. } | Completion::QueryResponse { .. } => {
                self.ended.contains(&(id, ticket))
            }
            _ => false,
        };
        if is_over {
            self.broken(at, id, Rule::QueriesEndOnce, format!("{completion:?}"));
        }
    }

    fn broken(&mut self, at: Time, node: NodeId, rule: Rule, detail: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { at, node, rule, detail });
        }
    }
}

impl Held {
    fn text(&self) -> String {
        format!("{:?} {:?} at {}", self.known.swim, self.known.status, self.incarnation.0)
    }
}

/// Whether a member of which SWIM has only a tombstone is alive again without having announced anything new.
fn is_revived(old: &Held, new: &Held) -> bool {
    old.known.swim == SwimState::Absent
        && matches!(old.known.status, MemberStatus::Left | MemberStatus::None)
        && new.known.swim == SwimState::Alive
        && new.incarnation <= old.incarnation
        && new.addr == old.addr
}

/// The sum over the alive members of a node's view, computed anew: views with equal sums are equal.
fn digest_of(node: &Node, roster: &Roster) -> u64 {
    let here = |known: &Known| matches!(known.swim, SwimState::Alive | SwimState::Suspect);
    let mut fingerprint = Fingerprint::default();
    for (member, known) in node.view().iter().filter(|(_, known)| here(known)) {
        let incarnation = roster.fact(known.fact).incarnation;
        let version = member_version(incarnation, known.status == MemberStatus::Leaving);
        fingerprint.add(share(roster.point(member), version));
    }
    fingerprint.sum
}

fn held(node: &Node, roster: &Roster, member: MemberIndex) -> Option<Held> {
    let known = node.view().get(member)?;
    let fact = roster.fact(known.fact);
    Some(Held { known, incarnation: fact.incarnation, addr: fact.socket_addr() })
}

/// Which rule a step of one entry breaks.
fn broken_rule(old: Known, before: Incarnation, new: Known, now: Incarnation) -> Option<Rule> {
    use MemberStatus::{Failed, Leaving, Left};
    if old.swim == SwimState::Absent {
        // Forgotten by SWIM: it may come back with any incarnation.
        return None;
    }
    if now < before {
        return Some(Rule::IncarnationsNeverFall);
    }
    let accused = matches!(old.swim, SwimState::Suspect | SwimState::Dead | SwimState::Left);
    if accused && new.swim == SwimState::Alive && now <= before {
        return Some(Rule::ReturnsAreAnnounced);
    }
    if matches!(old.status, Leaving | Left) && new.status == Failed {
        return Some(Rule::LeaversDoNotFail);
    }
    None
}

/// Bound on the time from the end of all faults until all views are equal, for a cluster of `n` that loses
/// at most a few percent of its packets. Each term is how long one mechanism may take, so small that it
/// fails once in a million runs, and they follow each other in the worst case:
/// - a member that is gone is probed: 20 probe intervals, each stretched by the highest health score;
/// - suspicions run out: the longest timeout, and members declared dead leave the table;
/// - a member reconnects across a former partition: 10 intervals;
/// - a member that missed the gossip learns it by push/pull: log2 n + 6 intervals, each stretched by the size.
///
/// Serf's LAN settings, n = 16: 160 s + 29 s + 30 s + 300 s + 300 s = 819 s.
pub fn settle_bound(config: &Config, n: usize) -> Duration {
    let probe = config.probe_interval * 20 * config.awareness_max_multiplier;
    let suspicion =
        suspicion_min(config.suspicion_mult, n, config.probe_interval) * config.suspicion_max_timeout_mult;
    let reconnect = config.reconnect_interval * 10;
    let rounds = n.max(2).next_power_of_two().ilog2() + 6;
    let push_pull = config.push_pull_interval * push_pull_scale(n) * rounds;
    probe + suspicion + config.gossip_to_the_dead + reconnect + push_pull
}

impl World {
    /// The first thing about which a running node's view is wrong: another running node is not alive there
    /// with the incarnation it gave itself, or one that does not run is. None: all views agree.
    pub fn disagreement(&self) -> Option<String> {
        let mut running: BTreeMap<MemberIndex, Option<Incarnation>> = BTreeMap::new();
        for node in self.nodes.iter().flatten().filter(|node| !node.has_left()) {
            let me = node.shared.me;
            running.insert(me, node.view().incarnation(&self.ctx.roster, me));
        }
        for node in self.nodes.iter().flatten().filter(|node| !node.has_left()) {
            let view = node.view();
            let of = |member| format!("{} about {}", node.config().node_name, self.ctx.roster.name(member));
            for (&member, &incarnation) in &running {
                let known = view.get(member);
                let alive = known.is_some_and(|known| {
                    known.swim == SwimState::Alive && known.status == MemberStatus::Alive
                });
                if !alive {
                    return Some(format!("{}, which runs: {known:?}", of(member)));
                }
                let held = view.incarnation(&self.ctx.roster, member);
                if held != incarnation {
                    return Some(format!("{}: {held:?}, not {incarnation:?}", of(member)));
                }
            }
            let gone = view.iter().find(|(member, known)| {
                let here = matches!(known.swim, SwimState::Alive | SwimState::Suspect)
                    || matches!(known.status, MemberStatus::Alive | MemberStatus::Leaving);
                here && !running.contains_key(member)
            });
            if let Some((member, known)) = gone {
                return Some(format!("{}, which is gone: {known:?}", of(member)));
            }
        }
        self.disagreement_about_the_gone()
    }

    /// A node lists a member as failed although another view knows of a leave that is no older, or as
    /// failed or left although another has erased it later.
    fn disagreement_about_the_gone(&self) -> Option<String> {
        use MemberStatus::{Failed, Left, None as Erased};
        let mut newest: BTreeMap<MemberIndex, [Option<LamportTime>; 2]> = BTreeMap::new();
        let nodes = || self.nodes.iter().flatten().filter(|node| !node.has_left());
        for (member, known) in nodes().flat_map(|node| node.view().iter()) {
            let [left, erased] = newest.entry(member).or_default();
            match known.status {
                Left => *left = (*left).max(Some(known.status_ltime)),
                Erased => *erased = (*erased).max(Some(known.status_ltime)),
                _ => {}
            }
        }
        nodes().find_map(|node| {
            let (member, known) = node.view().iter().find(|(member, known)| {
                let [left, erased] = newest[member];
                let time = Some(known.status_ltime);
                known.status == Failed && left >= time
                    || matches!(known.status, Failed | Left) && erased > time
            })?;
            let (node, name) = (&node.config().node_name, self.ctx.roster.name(member));
            let [left, erased] = newest[&member];
            Some(format!("{node} about {name}, left at {left:?}, erased at {erased:?}: {known:?}"))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::RawConfig;
    use crate::roster::FactIndex;

    fn known(swim: SwimState, status: MemberStatus) -> Known {
        Known { fact: FactIndex(1), swim, status, status_ltime: LamportTime(0) }
    }

    #[test]
    fn steps_that_break_a_rule_are_told_from_those_that_do_not() {
        use MemberStatus as M;
        use SwimState as S;
        let cases = [
            ((S::Alive, M::Alive, 3), (S::Alive, M::Alive, 2), true),
            ((S::Dead, M::Failed, 3), (S::Alive, M::Alive, 3), true),
            ((S::Dead, M::Failed, 3), (S::Alive, M::Alive, 4), false),
            ((S::Suspect, M::Alive, 3), (S::Alive, M::Alive, 3), true),
            ((S::Absent, M::Failed, 3), (S::Alive, M::Alive, 1), false),
            ((S::Alive, M::Leaving, 1), (S::Dead, M::Failed, 1), true),
            ((S::Alive, M::Alive, 1), (S::Dead, M::Failed, 1), false),
            ((S::Left, M::Left, 1), (S::Left, M::Failed, 1), true),
        ];
        for (old, new, breaks) in cases {
            let rule =
                broken_rule(known(old.0, old.1), Incarnation(old.2), known(new.0, new.1), Incarnation(new.2));
            assert_eq!(rule.is_some(), breaks, "{old:?} to {new:?}: {rule:?}");
        }
    }

    #[test]
    fn the_bound_has_its_worked_value() {
        let config = RawConfig::lan("a", "127.0.0.1:1".parse().unwrap()).check().unwrap();
        // 160 + 4 * 1.204 * 6 + 30 + 300 + 30 * 1 * 10
        assert_eq!(
            settle_bound(&config, 16),
            Duration::from_millis(160_000 + 28_896 + 30_000 + 300_000 + 300_000)
        );
    }
}
