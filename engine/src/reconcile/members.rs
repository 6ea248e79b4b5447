//! A view as a set to reconcile: members that are alive, and beside them what is known of those that are gone.

use super::answer::{Held, Holdings, Presence};
use crate::digest::{Fingerprint, KEPT_BITS, member_version, share};
use crate::roster::{MemberIndex, Order};
use crate::view::{Known, MemberStatus, SwimState, View};
use crate::wire::reconcile::PointRange;
use crate::wire::record::MemberRecord;
use crate::wire::{Incarnation, WireState};

/// A view as a set.
pub(crate) struct Members<'a> {
    view: &'a View,
    order: Order<'a>,
}

impl<'a> Members<'a> {
    pub(crate) fn new(view: &'a View, order: Order<'a>) -> Members<'a> {
        Members { view, order }
    }

    fn incarnation(&self, known: Known) -> Incarnation {
        self.order.roster().fact(known.fact).incarnation
    }

    /// Everybody known between two points. Counts `work` down for each member of the roster, known or not; ends with
    /// an error when it is used up.
    fn known<'w>(
        &'w self,
        first: u64,
        last: u64,
        work: &'w mut usize,
    ) -> impl Iterator<Item = Result<(u64, MemberIndex, Known), ()>> + 'w {
        self.order.range(first, last).filter_map(move |(point, member)| {
            let Some(left) = work.checked_sub(1) else { return Some(Err(())) };
            *work = left;
            self.view.get(member).map(|known| Ok((point, member, known)))
        })
    }
}

impl Holdings for Members<'_> {
    fn fingerprints(
        &self,
        range: PointRange,
        split: u8,
        work: &mut usize,
        into: &mut Vec<Fingerprint>,
    ) -> bool {
        let parts = 1usize << split;
        if range.bits() + split <= KEPT_BITS {
            let Some(left) = work.checked_sub(parts) else { return false };
            *work = left;
            let kept = (0..parts as u32).filter_map(|place| range.part(split, place));
            into.extend(kept.filter_map(|part| self.view.digest().range(part)));
            return true;
        }
        let start = into.len();
        into.resize(start + parts, Fingerprint::default());
        for known in self.known(range.first(), range.last(), work) {
            let Ok((point, _, known)) = known else { return false };
            if is_here(known) {
                let place = range.place_of(point, split);
                into[start + place]
                    .add(share(point, member_version(self.incarnation(known), is_leaving(known))));
            }
        }
        true
    }

    fn list(&self, first: u64, last: u64, work: &mut usize, into: &mut Vec<Held>) -> bool {
        for known in self.known(first, last, work) {
            let Ok((point, member, known)) = known else { return false };
            let presence = match (known.swim, known.status) {
                (SwimState::Alive | SwimState::Suspect, _) => Presence::Here,
                (SwimState::Absent, MemberStatus::Left | MemberStatus::None) => Presence::Departed,
                _ => Presence::Gone,
            };
            let leaving = presence == Presence::Here && is_leaving(known);
            let version = member_version(self.incarnation(known), leaving);
            into.push(Held { point, version, presence, handle: member.0 });
        }
        true
    }

    fn record(&self, held: &Held, out: &mut Vec<u8>) {
        let member = MemberIndex(held.handle);
        let known = self.view.get(member).expect("what is listed is in the view");
        let roster = self.order.roster();
        let fact = roster.fact(known.fact);
        let state = match (known.swim, known.status) {
            // A suspicion is left to gossip: it names who accuses, and ends by itself.
            (SwimState::Alive | SwimState::Suspect, _) => Some(WireState::Alive),
            (SwimState::Left, _) => Some(WireState::Left),
            // As in a push/pull: it may be back since.
            (SwimState::Absent, MemberStatus::Left | MemberStatus::None) => None,
            (SwimState::Dead | SwimState::Absent, _) => Some(WireState::Dead),
        };
        let record = MemberRecord {
            name: roster.name(member),
            incarnation: fact.incarnation,
            state,
            status: known.status as u8,
            status_ltime: known.status_ltime,
            addr: fact.addr(),
            port: fact.port,
            versions: fact.versions_bytes(),
            meta: fact.meta(),
        };
        record.encode(out);
    }

    fn rebuts(&self, record: &[u8]) -> Option<Held> {
        let record =
            MemberRecord::decode(record).ok().filter(|record| record.state == Some(WireState::Alive))?;
        let roster = self.order.roster();
        let (member, known) = self.view.by_name(roster, record.name)?;
        let better = !is_here(known) && self.incarnation(known) >= record.incarnation;
        let (point, version) = (roster.point(member), member_version(self.incarnation(known), false));
        better.then_some(Held { point, version, presence: Presence::Gone, handle: member.0 })
    }
}

fn is_here(known: Known) -> bool {
    matches!(known.swim, SwimState::Alive | SwimState::Suspect)
}

fn is_leaving(known: Known) -> bool {
    known.status == MemberStatus::Leaving
}
