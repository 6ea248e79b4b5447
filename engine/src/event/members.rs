//! Members packed one behind the other: a report of ten thousand needs no allocation for each.

use std::net::IpAddr;

use super::MemberRef;
use crate::view::MemberStatus;
use crate::wire::Versions;

/// Members, each as it was when it was added. What they announced is decoded on demand
/// ([`MemberRef::tags`], [`MemberRef::to_owned`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    records: Vec<Record>,
    /// Name and meta of one member after the other.
    bytes: Vec<u8>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Record {
    name_bytes: u32,
    meta_bytes: u32,
    addr: IpAddr,
    port: u16,
    status: MemberStatus,
    versions: Versions,
}

impl Members {
    /// No members, with room for `count` of them.
    pub fn with_capacity(count: usize) -> Members {
        /// Of a name of usual length and a few tags.
        const BYTES: usize = 64;
        Members { records: Vec::with_capacity(count), bytes: Vec::with_capacity(count * BYTES) }
    }

    /// Adds a member.
    pub fn push(&mut self, member: &MemberRef<'_>) {
        self.bytes.extend_from_slice(member.name.as_bytes());
        self.bytes.extend_from_slice(member.meta);
        self.records.push(Record {
            name_bytes: member.name.len() as u32,
            meta_bytes: member.meta.len() as u32,
            addr: member.addr,
            port: member.port,
            status: member.status,
            versions: member.versions,
        });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The first of them.
    pub fn first(&self) -> Option<MemberRef<'_>> {
        self.iter().next()
    }

    /// The members in the order in which they were added.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = MemberRef<'_>> {
        let mut rest = self.bytes.as_slice();
        self.records.iter().map(move |record| {
            let mut take = |bytes: u32| {
                let (part, after) = rest.split_at(bytes as usize);
                rest = after;
                part
            };
            let (name, meta) = (take(record.name_bytes), take(record.meta_bytes));
            let &Record { addr, port, status, versions, .. } = record;
            let name = std::str::from_utf8(name).expect("it was added as text");
            MemberRef { name, addr, port, meta, status, versions }
        })
    }
}

impl<'a> FromIterator<MemberRef<'a>> for Members {
    fn from_iter<I: IntoIterator<Item = MemberRef<'a>>>(iter: I) -> Members {
        let mut members = Members::default();
        iter.into_iter().for_each(|member| members.push(&member));
        members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_out_as_they_went_in() {
        let member = |name, meta| MemberRef {
            name,
            addr: [127, 0, 0, 1].into(),
            port: 7946,
            meta,
            status: MemberStatus::Alive,
            versions: Versions::SERF,
        };
        let several = [member("a", b"x".as_slice()), member("", b""), member("é", b"\xff\x80")];
        let members: Members = several.into_iter().collect();
        assert_eq!(members.iter().collect::<Vec<_>>(), several);
        assert_eq!((members.len(), members.first()), (3, Some(several[0])));
        assert!(Members::default().first().is_none());
    }
}
