//! The reply to `members` and `members-filtered`, one member at a time: written from the announced bytes and read in
//! place, so that a list of tens of thousands allocates nothing per member.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::event::MemberRef;
use crate::ipc::Value;
use crate::ipc::response::Member;
use crate::ipc::value::{write_bin, write_str};
use crate::wire::msgpack::{Reader, write_array, write_map, write_uint};
use crate::wire::serf::{FewTags, TAG_MAGIC};
use crate::wire::{DecodeError, ip_from_bytes, ip_to_bytes};

/// Key of the list in a [`MembersResponse`](crate::ipc::MembersResponse).
pub(super) const MEMBERS: &str = "Members";
/// Fields of a member.
const FIELDS: u32 = 11;

/// Appends the start of a [`MembersResponse`](crate::ipc::MembersResponse); exactly `count` members follow.
pub fn write_members(out: &mut Vec<u8>, count: usize) {
    write_map(out, 1);
    write_str(out, MEMBERS);
    write_array(out, count as u32);
}

/// Appends a member in the encoding of [`Member`].
pub fn write_member(out: &mut Vec<u8>, member: &MemberRef<'_>) {
    let versions = member.versions;
    let number = |out: &mut Vec<u8>, key: &[u8], number: u64| {
        out.extend_from_slice(key);
        write_uint(out, number);
    };
    write_map(out, FIELDS);
    out.extend_from_slice(b"\xa4Addr");
    write_bin(out, &ip_to_bytes(member.addr));
    number(out, b"\xabDelegateCur", versions.delegate_cur().into());
    number(out, b"\xabDelegateMax", versions.delegate_max().into());
    number(out, b"\xabDelegateMin", versions.delegate_min().into());
    out.extend_from_slice(b"\xa4Name");
    write_str(out, member.name);
    number(out, b"\xa4Port", member.port.into());
    number(out, b"\xabProtocolCur", versions.protocol_cur().into());
    number(out, b"\xabProtocolMax", versions.protocol_max().into());
    number(out, b"\xabProtocolMin", versions.protocol_min().into());
    out.extend_from_slice(b"\xa6Status");
    write_str(out, member.status.as_str());
    out.extend_from_slice(b"\xa4Tags");
    let encoded = member.meta.strip_prefix(&[TAG_MAGIC]);
    match encoded.and_then(|tags| FewTags::read(&mut Reader::new(tags))) {
        Some(tags) => {
            write_map(out, tags.pairs().len() as u32);
            for (tag, value) in tags.pairs() {
                write_str(out, tag);
                write_str(out, value);
            }
        }
        None => member.tags().encode(out),
    }
}

/// A received member, whose texts borrow from the reply. Protocol versions are Serf's.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedMember<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// Its address.
    pub addr: Option<IpAddr>,
    /// Its gossip port.
    pub port: u16,
    /// `none`, `alive`, `leaving`, `left` or `failed`.
    pub status: Cow<'a, str>,
    /// Its tags.
    pub tags: ReceivedTags<'a>,
    /// Lowest Serf protocol version that it understands.
    pub delegate_min: u8,
    /// Highest Serf protocol version that it understands.
    pub delegate_max: u8,
    /// The Serf protocol version that it speaks.
    pub delegate_cur: u8,
}

/// Tags in the order of their names, as they were received.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one lives at a time, on the stack; a box would be an allocation a member"
)]
pub enum ReceivedTags<'a> {
    /// A few tags, received in order.
    Few(FewTags<'a>),
    /// Tags that had to be decoded and sorted.
    Read(std::collections::BTreeMap<String, String>),
}

impl ReceivedTags<'_> {
    /// Calls `with` with the name and value of every tag, in the order of the names.
    pub fn for_each(&self, mut with: impl FnMut(&str, &str)) {
        match self {
            ReceivedTags::Few(tags) => tags.pairs().iter().for_each(|(tag, value)| with(tag, value)),
            ReceivedTags::Read(tags) => tags.iter().for_each(|(tag, value)| with(tag, value)),
        }
    }
}

impl<'a> ReceivedMember<'a> {
    /// Decodes a member with fields in any order and dialect.
    ///
    /// # Errors
    /// The bytes are no member, with the reason.
    pub fn decode(bytes: &'a [u8]) -> Result<ReceivedMember<'a>, DecodeError> {
        match Self::read_usual(&mut Reader::new(bytes)) {
            Some(member) => Ok(member),
            None => Member::decode(bytes).map(Self::from),
        }
    }

    /// Decodes a member in the form that agents send: all fields, by name and in order. `None` if it has another form
    /// or has not arrived whole; the reader's position is then undefined.
    pub(super) fn read_usual(reader: &mut Reader<'a>) -> Option<ReceivedMember<'a>> {
        if reader.map().ok()? != FIELDS {
            return None;
        }
        let number =
            |reader: &mut Reader<'a>, key: &[u8]| reader.literal(key).and_then(|()| reader.u8().ok());
        let text = |reader: &mut Reader<'a>, key: &[u8]| reader.literal(key).and_then(|()| reader.str().ok());
        reader.literal(b"\xa4Addr")?;
        let addr = ip_from_bytes(reader.raw().ok()?);
        let delegate_cur = number(reader, b"\xabDelegateCur")?;
        let delegate_max = number(reader, b"\xabDelegateMax")?;
        let delegate_min = number(reader, b"\xabDelegateMin")?;
        let name = text(reader, b"\xa4Name")?;
        reader.literal(b"\xa4Port")?;
        let port = reader.u16().ok()?;
        number(reader, b"\xabProtocolCur")?;
        number(reader, b"\xabProtocolMax")?;
        number(reader, b"\xabProtocolMin")?;
        let status = text(reader, b"\xa6Status")?.into();
        reader.literal(b"\xa4Tags")?;
        let tags = ReceivedTags::Few(FewTags::read(reader)?);
        Some(ReceivedMember {
            name: name.into(),
            addr,
            port,
            status,
            tags,
            delegate_min,
            delegate_max,
            delegate_cur,
        })
    }
}

impl From<Member> for ReceivedMember<'_> {
    fn from(member: Member) -> Self {
        let Member { name, addr, port, tags, status, delegate_min, delegate_max, delegate_cur, .. } = member;
        ReceivedMember {
            name: name.into(),
            addr,
            port,
            status: status.into(),
            tags: ReceivedTags::Read(tags),
            delegate_min,
            delegate_max,
            delegate_cur,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;
    use crate::ipc::MembersResponse;
    use crate::view::MemberStatus;
    use crate::wire::{Versions, encode_tags};

    fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(tag, value)| (tag.to_owned(), value.to_owned())).collect()
    }

    fn meta(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut meta = Vec::new();
        encode_tags(&tags(pairs), &mut meta);
        meta
    }

    /// Every kind of meta: sorted, long, unsorted, with a duplicate, not UTF-8, none, a bare role.
    fn metas() -> Vec<Vec<u8>> {
        let long = "v".repeat(300);
        vec![
            meta(&[]),
            meta(&[("dc", "east"), ("role", "web")]),
            meta(&[("a", &long), ("b", &long[..40]), ("z", "")]),
            meta(&["a", "b", "c", "d", "e", "f", "g", "h", "i"].map(|tag| (tag, "x"))),
            b"\xff\x82\xa1b\xa11\xa1a\xa12".to_vec(),
            b"\xff\x82\xa1a\xa11\xa1a\xa12".to_vec(),
            b"\xff\x81\xa1a\xa1\xff".to_vec(),
            b"\xff\xc0".to_vec(),
            b"\xff\x81\xa1a".to_vec(),
            b"".to_vec(),
            b"web\xfe".to_vec(),
        ]
    }

    fn member(meta: &[u8]) -> MemberRef<'_> {
        let (addr, status) = ("127.44.0.1".parse().unwrap(), MemberStatus::Leaving);
        MemberRef { name: "n\u{e9}", addr, port: 7946, meta, status, versions: Versions([1, 5, 2, 2, 5, 4]) }
    }

    fn as_record(member: &MemberRef<'_>) -> Member {
        let versions = member.versions;
        Member {
            name: member.name.to_owned(),
            addr: Some(member.addr),
            port: member.port,
            tags: member.tags(),
            status: member.status.as_str().to_owned(),
            protocol_min: versions.protocol_min(),
            protocol_max: versions.protocol_max(),
            protocol_cur: versions.protocol_cur(),
            delegate_min: versions.delegate_min(),
            delegate_max: versions.delegate_max(),
            delegate_cur: versions.delegate_cur(),
        }
    }

    #[test]
    fn members_are_written_byte_for_byte_as_their_records() {
        for count in [0, 1, 10, 20, 70_000] {
            let metas: Vec<Vec<u8>> = metas().into_iter().cycle().take(count).collect();
            let mut streamed = Vec::new();
            write_members(&mut streamed, count);
            metas.iter().for_each(|meta| write_member(&mut streamed, &member(meta)));
            let members = metas.iter().map(|meta| as_record(&member(meta))).collect();
            let mut whole = Vec::new();
            MembersResponse { members }.encode(&mut whole);
            assert!(streamed == whole, "{count} members");
        }
    }

    #[test]
    fn members_are_read_as_their_records() {
        for meta in metas() {
            let record = as_record(&member(&meta));
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            let read = ReceivedMember::decode(&bytes).unwrap();
            assert_eq!(matches!(read.tags, ReceivedTags::Few(_)), record.tags.len() <= 8);
            let mut tags = BTreeMap::new();
            read.tags.for_each(|tag, value| drop(tags.insert(tag.to_owned(), value.to_owned())));
            assert_eq!((&*read.name, read.addr, read.port), ("n\u{e9}", record.addr, 7946));
            assert_eq!((&*read.status, tags), ("leaving", record.tags));
            assert_eq!((read.delegate_min, read.delegate_max, read.delegate_cur), (2, 5, 4));
        }
    }

    #[test]
    fn other_dialects_and_orders_are_read_too() {
        // Tags in any order, as Go's maps have them; then fewer fields; then bytes that are no member.
        let bytes = b"\x83\xa4Name\xc4\x01n\xa4Tags\x82\xa1b\xa11\xa1a\xa1\xff\xa5Other\x01";
        let read = ReceivedMember::decode(bytes).unwrap();
        assert_eq!((&*read.name, read.addr, &*read.status), ("n", None, ""));
        let mut seen = Vec::new();
        read.tags.for_each(|tag, value| seen.push(format!("{tag}={value}")));
        assert_eq!(seen, ["a=\u{fffd}", "b=1"]);
        assert!(ReceivedMember::decode(b"\x81\xa4Name").is_err());
        assert!(ReceivedMember::decode(b"\x05").is_err());
    }
}
