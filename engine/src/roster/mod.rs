//! The roster interns facts about members: name, address, meta, versions and incarnation, as the raw bytes that a
//! member announced. One roster serves all nodes of a Context, so that thirty thousand nodes that list thirty
//! thousand members store each fact once.
//!
//! The roster says nothing about the state of a member, and no node learns through it: a node knows a member only if
//! its own [`crate::view::View`] has an entry, and knows the fact that this entry refers to. Facts and names are
//! reference counted; those without references are removed.

mod bytes_store;
pub mod circle;
mod order;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use foldhash::quality::SeedableRandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

use self::bytes_store::{BytesStore, Stored};
use self::circle::{Circle, point_of_bytes};
pub use self::order::Order;
use crate::random::Random;
use crate::wire::push_pull::DistinctVersions;
use crate::wire::{Alive, Incarnation, Versions, ip_from_bytes};

/// A member's place in the roster and in every view. It stays the same as long as the member's name has references.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberIndex(pub u32);

/// A fact's place in the roster. Never zero, which marks an empty entry of a view.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct FactIndex(pub(crate) u32);

/// What a member announced about itself in one alive message.
#[derive(Copy, Clone)]
pub struct Fact<'r> {
    /// The member that it is about.
    pub member: MemberIndex,
    /// The incarnation that it was announced with.
    pub incarnation: Incarnation,
    /// Gossip port, UDP and TCP.
    pub port: u16,
    addr_bytes: u8,
    versions_bytes: u8,
    /// Address, versions and meta, in this order, exactly as received.
    bytes: &'r [u8],
}

impl<'r> Fact<'r> {
    /// The address as announced: 4 or 16 raw bytes, passed on unchanged because Serf compares them bytewise
    /// (PROTOCOL 2.9).
    pub fn addr(&self) -> &'r [u8] {
        &self.bytes[..usize::from(self.addr_bytes)]
    }

    /// The six protocol version bytes; fewer if the member sent fewer.
    pub fn versions_bytes(&self) -> &'r [u8] {
        &self.bytes[usize::from(self.addr_bytes)..][..usize::from(self.versions_bytes)]
    }

    /// The protocol versions; zero where the member sent none.
    pub fn versions(&self) -> Versions {
        let mut versions = [0; 6];
        let announced = self.versions_bytes();
        let len = announced.len().min(6);
        versions[..len].copy_from_slice(&announced[..len]);
        Versions(versions)
    }

    /// The meta as announced; for Serf the encoded tags.
    pub fn meta(&self) -> &'r [u8] {
        &self.bytes[usize::from(self.addr_bytes) + usize::from(self.versions_bytes)..]
    }

    /// The IP address; an IPv4 address in IPv6 form is returned as IPv4.
    pub fn ip(&self) -> IpAddr {
        ip_from_bytes(self.addr()).unwrap_or(IpAddr::from([0, 0, 0, 0]))
    }

    /// Where to send gossip.
    pub fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.port)
    }

    /// The alive message that announces the fact.
    pub fn alive(&self, name: &'r str) -> Alive<'r> {
        Alive {
            incarnation: self.incarnation,
            node: name,
            addr: self.addr().into(),
            port: self.port,
            meta: self.meta().into(),
            versions: self.versions_bytes().into(),
        }
    }

    fn says(&self, alive: &Alive<'_>) -> bool {
        self.incarnation == alive.incarnation
            && self.port == alive.port
            && self.addr() == &*alive.addr
            && self.versions_bytes() == &*alive.versions
            && self.meta() == &*alive.meta
    }
}

impl fmt::Debug for Fact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fact({:?} {:?} {})", self.member, self.incarnation, self.socket_addr())
    }
}

/// A fact as it is stored.
struct FactRecord {
    member: MemberIndex,
    incarnation: Incarnation,
    port: u16,
    addr_bytes: u8,
    versions_bytes: u8,
    references: u32,
    /// The next fact about the same member; 0 at the end.
    next: u32,
    bytes: Stored,
}

impl FactRecord {
    fn read<'r>(&self, bytes: &'r BytesStore) -> Fact<'r> {
        Fact {
            member: self.member,
            incarnation: self.incarnation,
            port: self.port,
            addr_bytes: self.addr_bytes,
            versions_bytes: self.versions_bytes,
            bytes: bytes.get(self.bytes),
        }
    }
}

struct Name {
    /// UTF-8.
    name: Stored,
    references: u32,
    first_fact: u32,
}

/// The interned names and facts of one Context.
pub struct Roster {
    names: Vec<Name>,
    by_name: HashTable<u32>,
    free_names: Vec<u32>,
    facts: Vec<FactRecord>,
    free_facts: Vec<u32>,
    /// The bytes of names and facts.
    bytes: BytesStore,
    versions: DistinctVersions,
    hasher: SeedableRandomState,
    circle: Circle,
}

impl Roster {
    /// An empty roster. Its hash table is seeded from `random`, because peers choose names.
    pub fn new(random: &mut Random) -> Roster {
        let nobody = FactRecord {
            member: MemberIndex(u32::MAX),
            incarnation: Incarnation(0),
            port: 0,
            addr_bytes: 0,
            versions_bytes: 0,
            references: 1,
            next: 0,
            bytes: Stored::EMPTY,
        };
        Roster {
            names: Vec::new(),
            by_name: HashTable::new(),
            free_names: Vec::new(),
            facts: vec![nobody],
            free_facts: Vec::new(),
            bytes: BytesStore::default(),
            versions: DistinctVersions::default(),
            hasher: SeedableRandomState::with_seed(random.u64(), foldhash::SharedSeed::global_fixed()),
            circle: Circle::default(),
        }
    }

    /// The members in the order of their points: everybody whom any node of the Context knows or has heard named.
    /// A node looks only at those that its view has. New members are sorted in at this call.
    pub fn order(&mut self) -> Order<'_> {
        let Roster { circle, names, bytes, .. } = self;
        circle.settle(|member| point_of_bytes(bytes.get(names[member as usize].name)));
        Order { roster: self }
    }

    /// The member's point on the circle.
    #[inline]
    pub fn point(&self, member: MemberIndex) -> u64 {
        point_of_bytes(self.bytes.get(self.names[member.0 as usize].name))
    }

    /// The member with this name, if the name has references.
    pub fn member(&self, name: &str) -> Option<MemberIndex> {
        let hash = hash(&self.hasher, name.as_bytes());
        let is_it = |&i: &u32| self.bytes.get(self.names[i as usize].name) == name.as_bytes();
        self.by_name.find(hash, is_it).map(|&i| MemberIndex(i))
    }

    /// Like [`member`](Self::member), for names that mostly arrive in the order of their indices, as in a push/pull.
    /// Compares with the member at `hint` first, and sets `hint` to the one that probably follows.
    pub(crate) fn member_near(&self, name: &str, hint: &mut u32) -> Option<MemberIndex> {
        let is_it = |near: &&Name| near.references > 0 && self.bytes.get(near.name) == name.as_bytes();
        let near = self.names.get(*hint as usize).filter(is_it);
        let member = if near.is_some() { MemberIndex(*hint) } else { self.member(name)? };
        *hint = member.0 + 1;
        Some(member)
    }

    /// The protocol versions of all facts since the roster was made.
    pub(crate) fn versions(&self) -> &DistinctVersions {
        &self.versions
    }

    /// The member's name.
    pub fn name(&self, member: MemberIndex) -> &str {
        std::str::from_utf8(self.bytes.get(self.names[member.0 as usize].name))
            .expect("names are kept as UTF-8")
    }

    /// Interns a name and takes a reference to it; the caller owes one [`release_name`](Self::release_name).
    pub fn intern_name(&mut self, name: &str) -> MemberIndex {
        let member = match self.member(name) {
            Some(member) => member,
            None => self.add_name(name),
        };
        self.names[member.0 as usize].references += 1;
        member
    }

    /// Takes one more reference to a name.
    pub fn retain_name(&mut self, member: MemberIndex) {
        self.names[member.0 as usize].references += 1;
    }

    /// Releases one reference to a name.
    pub fn release_name(&mut self, member: MemberIndex) {
        let entry = &mut self.names[member.0 as usize];
        assert!(entry.references > 0, "a name's reference is given back once");
        entry.references -= 1;
        if entry.references == 0 {
            let Roster { circle, names, bytes, .. } = self;
            circle.remove(member.0, |member| point_of_bytes(bytes.get(names[member as usize].name)));
            let name = std::mem::replace(&mut self.names[member.0 as usize].name, Stored::EMPTY);
            let hash = hash(&self.hasher, self.bytes.get(name));
            self.bytes.free(name);
            if let Ok(found) = self.by_name.find_entry(hash, |&i| i == member.0) {
                found.remove();
            }
            self.free_names.push(member.0);
        }
    }

    /// Interns the content of an alive message and takes a reference to it; the caller owes one
    /// [`release_fact`](Self::release_fact).
    pub fn intern_fact(&mut self, alive: &Alive<'_>) -> FactIndex {
        self.intern_fact_of(self.member(alive.node), alive)
    }

    /// The same for a name that was looked up already: `member` is what [`member`](Self::member) returned for it.
    pub(crate) fn intern_fact_of(&mut self, member: Option<MemberIndex>, alive: &Alive<'_>) -> FactIndex {
        let member = member.unwrap_or_else(|| self.add_name(alive.node));
        let mut index = self.names[member.0 as usize].first_fact;
        while index != 0 {
            let fact = &mut self.facts[index as usize];
            if fact.read(&self.bytes).says(alive) {
                fact.references += 1;
                return FactIndex(index);
            }
            index = fact.next;
        }
        self.names[member.0 as usize].references += 1;
        self.add_fact(member, alive)
    }

    /// The same fact under another incarnation (a suspect or dead message can carry a newer one).
    pub fn intern_with_incarnation(&mut self, fact: FactIndex, incarnation: Incarnation) -> FactIndex {
        let old = self.fact(fact);
        let (name, bytes) = (self.name(old.member).to_owned(), old.bytes.to_vec());
        let Fact { member, port, addr_bytes, versions_bytes, .. } = old;
        let newer = Fact { member, incarnation, port, addr_bytes, versions_bytes, bytes: &bytes };
        self.intern_fact(&newer.alive(&name))
    }

    /// The fact with this index, to which the caller holds a reference.
    pub fn fact(&self, fact: FactIndex) -> Fact<'_> {
        self.facts[fact.0 as usize].read(&self.bytes)
    }

    /// The incarnation of such a fact.
    #[inline]
    pub(crate) fn incarnation(&self, fact: FactIndex) -> Incarnation {
        self.facts[fact.0 as usize].incarnation
    }

    /// Takes one more reference to a fact.
    pub fn retain_fact(&mut self, fact: FactIndex) {
        self.facts[fact.0 as usize].references += 1;
    }

    /// Releases one reference to a fact.
    pub fn release_fact(&mut self, fact: FactIndex) {
        let entry = &mut self.facts[fact.0 as usize];
        assert!(entry.references > 0, "a fact's reference is given back once");
        entry.references -= 1;
        if entry.references > 0 {
            return;
        }
        let (member, next) = (entry.member, entry.next);
        self.bytes.free(std::mem::replace(&mut entry.bytes, Stored::EMPTY));
        let first = &mut self.names[member.0 as usize].first_fact;
        if *first == fact.0 {
            *first = next;
        } else {
            let mut before = *first;
            while self.facts[before as usize].next != fact.0 {
                before = self.facts[before as usize].next;
            }
            self.facts[before as usize].next = next;
        }
        self.free_facts.push(fact.0);
        self.release_name(member);
    }

    /// The number of names.
    pub fn names_count(&self) -> usize {
        self.names.len() - self.free_names.len()
    }

    /// The number of facts.
    pub fn facts_count(&self) -> usize {
        self.facts.len() - 1 - self.free_facts.len()
    }

    fn add_name(&mut self, name: &str) -> MemberIndex {
        let entry = Name { name: self.bytes.store(&[name.as_bytes()]), references: 0, first_fact: 0 };
        let index = match self.free_names.pop() {
            Some(index) => {
                self.names[index as usize] = entry;
                index
            }
            None => {
                self.names.push(entry);
                u32::try_from(self.names.len() - 1).expect("fewer than 4 billion names fit in memory")
            }
        };
        let Roster { names, hasher, bytes, .. } = self;
        let hash_of = |&i: &u32| hash(hasher, bytes.get(names[i as usize].name));
        self.by_name.insert_unique(hash_of(&index), index, hash_of);
        self.circle.insert(index);
        MemberIndex(index)
    }

    fn add_fact(&mut self, member: MemberIndex, alive: &Alive<'_>) -> FactIndex {
        let bytes = self.bytes.store(&[&*alive.addr, &*alive.versions, &*alive.meta]);
        self.versions.add(&alive.versions);
        let first = &mut self.names[member.0 as usize].first_fact;
        let fact = FactRecord {
            member,
            incarnation: alive.incarnation,
            port: alive.port,
            addr_bytes: u8::try_from(alive.addr.len()).expect("decoding admits 4 or 16 address bytes"),
            versions_bytes: u8::try_from(alive.versions.len()).expect("decoding admits few version bytes"),
            references: 1,
            next: *first,
            bytes,
        };
        let index = match self.free_facts.pop() {
            Some(index) => {
                self.facts[index as usize] = fact;
                index
            }
            None => {
                self.facts.push(fact);
                u32::try_from(self.facts.len() - 1).expect("fewer than 4 billion facts fit in memory")
            }
        };
        *first = index;
        FactIndex(index)
    }
}

fn hash(hasher: &SeedableRandomState, name: &[u8]) -> u64 {
    hasher.hash_one(name)
}

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roster({} names, {} facts)", self.names_count(), self.facts_count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(node: &str, incarnation: u32) -> Alive<'_> {
        Alive {
            incarnation: Incarnation(incarnation),
            node,
            addr: (&[127, 0, 0, 1][..]).into(),
            port: 7946,
            meta: (&b"\xff\x80"[..]).into(),
            versions: (&[1, 5, 2, 2, 5, 5][..]).into(),
        }
    }

    #[test]
    fn equal_facts_are_held_once_and_freed_with_the_last_reference() {
        let mut roster = Roster::new(&mut Random::new(1));
        let a = roster.intern_fact(&alive("a", 1));
        let b = roster.intern_fact(&alive("a", 1));
        assert_eq!(a, b);
        let newer = roster.intern_with_incarnation(a, Incarnation(2));
        assert_ne!(a, newer);
        assert_eq!(roster.fact(newer).meta(), b"\xff\x80");
        assert_eq!((roster.names_count(), roster.facts_count()), (1, 2));
        roster.release_fact(a);
        roster.release_fact(b);
        assert_eq!(roster.facts_count(), 1);
        roster.release_fact(newer);
        assert_eq!((roster.names_count(), roster.facts_count()), (0, 0));
        assert_eq!(roster.member("a"), None);
    }

    #[test]
    fn a_name_keeps_its_index_while_referred_to() {
        let mut roster = Roster::new(&mut Random::new(1));
        let a = roster.intern_name("a");
        let fact = roster.intern_fact(&alive("a", 1));
        roster.release_name(a);
        assert_eq!(roster.member("a"), Some(a));
        roster.release_fact(fact);
        let b = roster.intern_name("b");
        assert_eq!(a, b, "the slot is used again");
        assert_eq!(roster.name(b), "b");
    }
}
