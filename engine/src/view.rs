//! What one node believes about every member: 8 bytes each.
//!
//! An entry names the fact (address, meta, versions, incarnation; held in the [`Roster`]) and packs the
//! SWIM state, the Serf status and the status Lamport time into 32 bits. Entries are indexed by
//! [`MemberIndex`], so a look-up by name is one probe of the roster's table and one array access.
//! Side tables hold what only few members need: since when they are gone, a huge Lamport time.

use std::net::SocketAddr;

use hashbrown::HashMap;

use crate::digest::{Digest, member_version};
use crate::random::Random;
use crate::roster::{Fact, FactIndex, MemberIndex, Roster};
use crate::time::Time;
use crate::wire::{Incarnation, LamportTime};

/// The SWIM state of a member (memberlist's words).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SwimState {
    /// Not in the SWIM table: never heard of, or dead so long that it was dropped while Serf still
    /// lists it as failed or left.
    Absent = 0,
    /// Acks its pings, as far as this node knows.
    Alive = 1,
    /// Accused of not answering; may refute.
    Suspect = 2,
    /// Declared dead by others.
    Dead = 3,
    /// Declared itself dead: it left.
    Left = 4,
}

/// The Serf status of a member.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MemberStatus {
    /// Not a Serf member (yet, or no more).
    None = 0,
    /// In the cluster.
    Alive = 1,
    /// Announced that it leaves, and still acks.
    Leaving = 2,
    /// Left after an announcement.
    Left = 3,
    /// Gone without an announcement.
    Failed = 4,
}

impl MemberStatus {
    /// Serf's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            MemberStatus::None => "none",
            MemberStatus::Alive => "alive",
            MemberStatus::Leaving => "leaving",
            MemberStatus::Left => "left",
            MemberStatus::Failed => "failed",
        }
    }

    /// The status of that number.
    pub(crate) fn from_number(number: u8) -> Option<MemberStatus> {
        MemberStatus::ALL.get(usize::from(number)).copied()
    }

    const ALL: [MemberStatus; 5] = [
        MemberStatus::None,
        MemberStatus::Alive,
        MemberStatus::Leaving,
        MemberStatus::Left,
        MemberStatus::Failed,
    ];
}

/// By the three bits of an entry; the last three are never packed.
const SWIM_STATES: [SwimState; 8] = {
    use SwimState::{Absent, Alive, Dead, Left, Suspect};
    [Absent, Alive, Suspect, Dead, Left, Absent, Absent, Absent]
};
const STATUSES: [MemberStatus; 8] = {
    use MemberStatus::{Alive, Failed, Leaving, Left, None};
    [None, Alive, Leaving, Left, Failed, None, None, None]
};

/// Layout of the packed half of an entry: 3 bits SWIM state, 3 bits Serf status, 26 bits Lamport time.
const STATUS_SHIFT: u32 = 3;
const LTIME_SHIFT: u32 = 6;
/// A status Lamport time from here on is in the side table.
const LTIME_OVERFLOW: u32 = (1 << 26) - 1;

#[derive(Copy, Clone, Default)]
struct Entry {
    /// 0: the view has no such member.
    fact: u32,
    packed: u32,
}

const _: () = assert!(size_of::<Entry>() == 8);

/// One entry, unpacked.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What it last announced.
    pub fact: FactIndex,
    /// Its SWIM state.
    pub swim: SwimState,
    /// Its Serf status.
    pub status: MemberStatus,
    /// Lamport time of the newest intent that set the status; 0 until one was seen.
    pub status_ltime: LamportTime,
}

/// What one node believes about every member.
#[derive(Default)]
pub struct View {
    entries: Vec<Entry>,
    swim_counts: [u32; 5],
    status_counts: [u32; 5],
    swim_since: HashMap<MemberIndex, Time, foldhash::fast::FixedState>,
    status_since: HashMap<MemberIndex, Time, foldhash::fast::FixedState>,
    huge_ltimes: HashMap<MemberIndex, LamportTime, foldhash::fast::FixedState>,
    digest: Digest,
}

/// Random picks before a whole scan from a random place: with half the entries fitting, a scan is needed
/// once in 65,000 picks.
const PICK_TRIES: u32 = 16;

impl View {
    /// The entry of a member, if the node knows it.
    #[inline]
    pub fn get(&self, member: MemberIndex) -> Option<Known> {
        let entry = self.entries.get(member.0 as usize)?;
        if entry.fact == 0 {
            return None;
        }
        let packed_ltime = entry.packed >> LTIME_SHIFT;
        let status_ltime = if packed_ltime == LTIME_OVERFLOW {
            self.huge_ltimes.get(&member).copied().unwrap_or_default()
        } else {
            LamportTime(u64::from(packed_ltime))
        };
        Some(Known {
            fact: FactIndex(entry.fact),
            swim: SWIM_STATES[(entry.packed & 7) as usize],
            status: STATUSES[(entry.packed >> STATUS_SHIFT & 7) as usize],
            status_ltime,
        })
    }

    /// The entry of the member of that name, if the node knows it.
    pub fn by_name(&self, roster: &Roster, name: &str) -> Option<(MemberIndex, Known)> {
        let member = roster.member(name)?;
        Some((member, self.get(member)?))
    }

    /// The fact a known member's entry names.
    pub fn fact<'r>(&self, roster: &'r Roster, member: MemberIndex) -> Option<Fact<'r>> {
        self.get(member).map(|known| roster.fact(known.fact))
    }

    /// A known member's incarnation.
    pub fn incarnation(&self, roster: &Roster, member: MemberIndex) -> Option<Incarnation> {
        self.fact(roster, member).map(|fact| fact.incarnation)
    }

    /// A known member's gossip address.
    pub fn socket_addr(&self, roster: &Roster, member: MemberIndex) -> Option<SocketAddr> {
        self.fact(roster, member).map(|fact| fact.socket_addr())
    }

    /// Sets what a member announced. Takes over the caller's reference to `fact` and releases the one to
    /// the entry's old fact. A new entry starts absent in SWIM, none in Serf.
    pub fn set_fact(&mut self, roster: &mut Roster, fact: FactIndex) -> MemberIndex {
        let member = roster.fact(fact).member;
        let place = member.0 as usize;
        if place >= self.entries.len() {
            self.entries.resize(place + 1, Entry::default());
        }
        let entry = self.entries[place];
        let old = std::mem::replace(&mut self.entries[place].fact, fact.0);
        if is_here(entry.packed) {
            let before = roster.incarnation(FactIndex(old));
            let after = roster.incarnation(fact);
            if before != after {
                let (point, leaving) = (roster.point(member), is_leaving(entry.packed));
                self.digest.depart(point, member_version(before, leaving));
                self.digest.enter(point, member_version(after, leaving));
            }
        }
        if old == 0 {
            self.swim_counts[SwimState::Absent as usize] += 1;
            self.status_counts[MemberStatus::None as usize] += 1;
        } else {
            roster.release_fact(FactIndex(old));
        }
        member
    }

    /// Sets the SWIM state of a known member; remembers since when it is dead or left.
    pub fn set_swim(&mut self, roster: &Roster, member: MemberIndex, state: SwimState, now: Time) {
        let entry = self.known_entry(member);
        let old = entry.packed & 7;
        let before = *entry;
        entry.packed = entry.packed & !7 | state as u32;
        let after = *entry;
        self.count_in_digest(roster, member, before, after);
        self.swim_counts[old as usize] -= 1;
        self.swim_counts[state as usize] += 1;
        match state {
            SwimState::Dead | SwimState::Left => {
                self.swim_since.insert(member, now);
            }
            _ => forget(&mut self.swim_since, member),
        }
    }

    /// Sets the Serf status of a known member; remembers since when it is left, failed or erased.
    pub fn set_status(&mut self, roster: &Roster, member: MemberIndex, status: MemberStatus, now: Time) {
        self.depart_gone(roster, member);
        let entry = self.known_entry(member);
        let old = entry.packed >> STATUS_SHIFT & 7;
        let before = *entry;
        entry.packed = entry.packed & !(7 << STATUS_SHIFT) | (status as u32) << STATUS_SHIFT;
        let after = *entry;
        self.count_in_digest(roster, member, before, after);
        self.enter_gone(roster, member);
        self.status_counts[old as usize] -= 1;
        self.status_counts[status as usize] += 1;
        match status {
            MemberStatus::Left | MemberStatus::Failed | MemberStatus::None => {
                self.status_since.insert(member, now);
            }
            _ => forget(&mut self.status_since, member),
        }
    }

    /// Sets the Lamport time of the newest intent about a known member.
    pub fn set_status_ltime(&mut self, roster: &Roster, member: MemberIndex, ltime: LamportTime) {
        self.depart_gone(roster, member);
        let packed = u32::try_from(ltime.0).unwrap_or(u32::MAX).min(LTIME_OVERFLOW);
        let entry = self.known_entry(member);
        entry.packed = entry.packed & ((1 << LTIME_SHIFT) - 1) | packed << LTIME_SHIFT;
        if packed == LTIME_OVERFLOW {
            self.huge_ltimes.insert(member, ltime);
        } else {
            forget(&mut self.huge_ltimes, member);
        }
        self.enter_gone(roster, member);
    }

    /// Since when a member is dead or left in SWIM.
    pub fn swim_since(&self, member: MemberIndex) -> Option<Time> {
        self.swim_since.get(&member).copied()
    }

    /// Since when a member is left or failed in Serf, or erased.
    pub fn status_since(&self, member: MemberIndex) -> Option<Time> {
        self.status_since.get(&member).copied()
    }

    /// Removes a member's entry and releases the reference to its fact.
    pub fn remove(&mut self, roster: &mut Roster, member: MemberIndex) {
        self.depart_gone(roster, member);
        let entry = std::mem::take(self.known_entry(member));
        self.count_in_digest(roster, member, entry, Entry { packed: 0, ..entry });
        self.swim_counts[(entry.packed & 7) as usize] -= 1;
        self.status_counts[(entry.packed >> STATUS_SHIFT & 7) as usize] -= 1;
        forget(&mut self.swim_since, member);
        forget(&mut self.status_since, member);
        forget(&mut self.huge_ltimes, member);
        roster.release_fact(FactIndex(entry.fact));
    }

    /// Removes all entries and releases all references; the node ends.
    pub fn clear(&mut self, roster: &mut Roster) {
        for entry in self.entries.drain(..).filter(|entry| entry.fact != 0) {
            roster.release_fact(FactIndex(entry.fact));
        }
        *self = View::default();
    }

    /// The same knowledge for another node of a simulation; takes a reference to each fact.
    #[cfg(feature = "sim")]
    pub(crate) fn share(&self, roster: &mut Roster) -> View {
        for entry in self.entries.iter().filter(|entry| entry.fact != 0) {
            roster.retain_fact(FactIndex(entry.fact));
        }
        View {
            entries: self.entries.clone(),
            swim_counts: self.swim_counts,
            status_counts: self.status_counts,
            swim_since: self.swim_since.clone(),
            status_since: self.status_since.clone(),
            huge_ltimes: self.huge_ltimes.clone(),
            digest: self.digest.clone(),
        }
    }

    /// What it is compared by with other nodes' views. Every change of an entry keeps it up to date.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Members in the given SWIM state.
    pub fn swim_count(&self, state: SwimState) -> usize {
        self.swim_counts[state as usize] as usize
    }

    /// Members in the SWIM table: alive, suspect, dead and left. The n of SWIM's formulas.
    pub fn table_count(&self) -> usize {
        self.swim_counts[1..].iter().sum::<u32>() as usize
    }

    /// Members with the given Serf status.
    pub fn status_count(&self, status: MemberStatus) -> usize {
        self.status_counts[status as usize] as usize
    }

    /// Serf members of any status.
    pub fn members_count(&self) -> usize {
        self.status_counts[1..].iter().sum::<u32>() as usize
    }

    /// One more than the largest member index that may be known: the range of probe permutations.
    pub fn index_end(&self) -> u32 {
        self.entries.len() as u32
    }

    /// All known members in index order.
    pub fn iter(&self) -> impl Iterator<Item = (MemberIndex, Known)> + '_ {
        (0..self.index_end()).filter_map(|i| Some((MemberIndex(i), self.get(MemberIndex(i))?)))
    }

    /// Members that are dead or left in SWIM, in index order.
    pub fn gone(&self) -> Vec<MemberIndex> {
        let mut gone: Vec<MemberIndex> = self.swim_since.keys().copied().collect();
        gone.sort_unstable();
        gone
    }

    /// Members that are left or failed in Serf, or erased and not forgotten yet, in index order.
    pub fn departed(&self) -> Vec<MemberIndex> {
        let mut departed: Vec<MemberIndex> = self.status_since.keys().copied().collect();
        departed.sort_unstable();
        departed
    }

    /// Whether the address is that of a member that is left or failed in Serf, or erased and not forgotten yet.
    pub fn has_departed(&self, roster: &Roster, addr: SocketAddr) -> bool {
        self.status_since.keys().any(|&member| self.socket_addr(roster, member) == Some(addr))
    }

    /// A random known member for which `fits` holds. Expected O(1) while a good part of the entries fit.
    pub fn random_member(
        &self,
        random: &mut Random,
        mut fits: impl FnMut(MemberIndex, Known) -> bool,
    ) -> Option<MemberIndex> {
        if self.entries.is_empty() {
            return None;
        }
        let end = self.index_end();
        let mut check = |place: u32| {
            let member = MemberIndex(place);
            self.get(member).filter(|&known| fits(member, known)).map(|_| member)
        };
        for _ in 0..PICK_TRIES {
            if let Some(member) = check(random.below(end)) {
                return Some(member);
            }
        }
        let start = random.below(end);
        (start..end).chain(0..start).find_map(check)
    }

    /// An entry changed its state or status: takes it out of the digest, or puts it in.
    #[inline]
    fn count_in_digest(&mut self, roster: &Roster, member: MemberIndex, before: Entry, after: Entry) {
        let [was, is] =
            [before, after].map(|entry| is_here(entry.packed).then_some(is_leaving(entry.packed)));
        if was != is {
            self.change_in_digest(roster, member, before, was, is);
        }
    }

    /// Whether the member leaves, if it was or is in the digest.
    fn change_in_digest(
        &mut self,
        roster: &Roster,
        member: MemberIndex,
        before: Entry,
        was: Option<bool>,
        is: Option<bool>,
    ) {
        let (point, incarnation) = (roster.point(member), roster.incarnation(FactIndex(before.fact)));
        if let Some(leaving) = was {
            self.digest.depart(point, member_version(incarnation, leaving));
        }
        if let Some(leaving) = is {
            self.digest.enter(point, member_version(incarnation, leaving));
        }
    }

    /// Takes a member that failed or left out of the digest of those.
    #[inline]
    fn depart_gone(&mut self, roster: &Roster, member: MemberIndex) {
        if let Some(fact) = self.gone_fact(member) {
            self.digest.depart_gone(roster.point(member), fact);
        }
    }

    #[inline]
    fn enter_gone(&mut self, roster: &Roster, member: MemberIndex) {
        if let Some(fact) = self.gone_fact(member) {
            self.digest.enter_gone(roster.point(member), fact);
        }
    }

    /// What counts of a member that failed or left.
    #[inline]
    fn gone_fact(&self, member: MemberIndex) -> Option<u64> {
        let entry = self.entries.get(member.0 as usize)?;
        let status = entry.packed >> STATUS_SHIFT & 7;
        let failed = status == MemberStatus::Failed as u32;
        if !failed && status != MemberStatus::Left as u32 {
            return None;
        }
        let known = self.get(member)?;
        Some(known.status_ltime.0.wrapping_mul(2).wrapping_add(u64::from(failed)))
    }

    fn known_entry(&mut self, member: MemberIndex) -> &mut Entry {
        let entry = &mut self.entries[member.0 as usize];
        assert!(entry.fact != 0, "only known members have a state");
        entry
    }
}

/// Removes a member from a side table. Mostly there is nothing in it.
#[inline]
fn forget<T>(table: &mut HashMap<MemberIndex, T, foldhash::fast::FixedState>, member: MemberIndex) {
    if !table.is_empty() {
        table.remove(&member);
    }
}

/// Whether a packed entry's SWIM state is alive or suspect. Both are one to the digest: a suspicion is gossiped, and
/// ends by itself.
fn is_here(packed: u32) -> bool {
    let swim = packed & 7;
    swim == SwimState::Alive as u32 || swim == SwimState::Suspect as u32
}

fn is_leaving(packed: u32) -> bool {
    packed >> STATUS_SHIFT & 7 == MemberStatus::Leaving as u32
}

#[cfg(test)]
mod tests;
