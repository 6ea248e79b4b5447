//! The gossip round (PROTOCOL 9.6): every interval, while anything is queued, a few random members get a
//! packet full of it.

use crate::egress::Scope;
use crate::roster::MemberIndex;
use crate::swim::Swim;
use crate::view::SwimState;

/// Members of memberlist protocol 5 and newer understand the checksum (PROTOCOL 2.3).
const CRC_PROTOCOL_MIN: u8 = 5;

impl Swim {
    /// The round that is due; arms the next one if broadcasts are left.
    pub(crate) fn gossip(&mut self, scope: &mut Scope<'_>) {
        self.gossip_once(scope);
        scope.egress.gossip_paused();
        scope.wake_gossip();
    }

    /// Gossips without waiting for the round.
    pub(crate) fn gossip_once(&mut self, scope: &mut Scope<'_>) {
        let mut targets = std::mem::take(&mut self.gossip_targets);
        pick_targets(scope, &mut targets);
        for &target in &targets {
            scope.begin_packet();
            scope.piggyback();
            if scope.ctx.assembler.is_empty() {
                break;
            }
            send_to_member(scope, target);
        }
        self.gossip_targets = targets;
    }
}

/// Ends the packet under assembly with a checksum if the member understands it.
pub(super) fn send_to_member(scope: &mut Scope<'_>, member: MemberIndex) {
    let fact = scope.view.fact(&scope.ctx.roster, member).expect("the member was just picked");
    let (to, crc) = (fact.socket_addr(), fact.versions().protocol_max() >= CRC_PROTOCOL_MIN);
    scope.finish_packet(to, crc);
}

/// Random members that gossip goes to: alive, suspect, or dead so recently that they may refute.
fn pick_targets(scope: &mut Scope<'_>, targets: &mut Vec<MemberIndex>) {
    targets.clear();
    let (view, me, now) = (&*scope.view, scope.me, scope.ctx.now);
    for _ in 0..scope.config.gossip_nodes {
        let picked = view.random_member(&mut scope.ctx.random, |member, known| {
            let reachable = match known.swim {
                SwimState::Alive | SwimState::Suspect => true,
                SwimState::Dead => view
                    .swim_since(member)
                    .is_some_and(|since| now.since(since) <= scope.config.gossip_to_the_dead),
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
