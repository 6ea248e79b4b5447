//! DNS messages as multicast DNS uses them (RFC 1035, RFC 6762): the questions and records that discovery needs.
//!
//! Packets come from anybody on the network: nothing in them is trusted, and each cap is checked before memory is
//! taken.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest name on the wire, bytes, and longest label.
const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;
/// Most questions and records that are read of a packet.
const QUESTIONS_MAX: u16 = 64;
const RECORDS_MAX: usize = 512;
const HEADER_BYTES: usize = 12;
/// Offsets up to this one can be named by a compression pointer.
const POINTER_MAX: usize = 0x3fff;

/// Types of records.
pub(super) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const TXT: u16 = 16;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const ANY: u16 = 255;
}
/// The internet class.
const CLASS_IN: u16 = 1;
/// The bit of a question's class by which the asker wants the answer to itself only.
const UNICAST: u16 = 0x8000;
/// Flags: a response, and one by the owner of the records.
const RESPONSE: u16 = 0x8000;
const AUTHORITATIVE: u16 = 0x0400;
/// Flags that no query that can be answered has: another operation than a query, more to come, an error.
const UNANSWERABLE: u16 = 0x7a0f;

/// A name as it is on the wire without compression: labels with their lengths, then a zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(Vec<u8>);

impl Name {
    /// The name with the labels of a text that dots separate.
    ///
    /// # Errors
    /// Why no name can hold that.
    pub(super) fn of(text: &str) -> Result<Name, String> {
        let mut bytes = Vec::with_capacity(text.len() + 2);
        for label in text.trim_end_matches('.').split('.') {
            if label.is_empty() || label.len() > LABEL_BYTES_MAX {
                return Err(format!(
                    "{text:?} is no name for DNS: a part has {} bytes, not 1 to 63",
                    label.len()
                ));
            }
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        if bytes.len() > NAME_BYTES_MAX {
            return Err(format!("{text:?} is no name for DNS: {} bytes, more than 255", bytes.len()));
        }
        Ok(Name(bytes))
    }

    /// The labels, each with where it begins.
    fn labels(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let len = usize::from(self.0[at]);
            let label = (at, &self.0[at + 1..at + 1 + len]);
            at += 1 + len;
            (len > 0).then_some(label)
        })
    }
}

/// Why a packet can't be read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// It ends too early.
    Cut,
    /// A name is too long, or its pointers do not lead back.
    Name,
    /// It holds more questions or records than are read.
    TooMany,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// Whose records are wanted.
    pub(super) name: Name,
    /// Which of them.
    pub(super) kind: u16,
    /// Whether the asker wants the answer to itself only.
    pub(super) unicast: bool,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    Pointer(Name),
    Service {
        port: u16,
        target: Name,
    },
    Text(Vec<u8>),
    Address(IpAddr),
    /// Of another type.
    Other,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) name: Name,
    pub(super) data: Data,
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: u16,
    pub(super) is_response: bool,
    /// Whether it is a query that can be answered.
    pub(super) is_query: bool,
    pub(super) questions: Vec<Question>,
    /// Answers, authorities and additional records.
    pub(super) records: Vec<Record>,
}

/// Reads a packet.
///
/// # Errors
/// Why it can't be read. What could be read of it is not used either.
pub(super) fn read(packet: &[u8]) -> Result<Message, Malformed> {
    let mut reader = Reader { packet, at: 0 };
    let (id, flags) = (reader.number()?, reader.number()?);
    let (questions, answers, authorities, additional) =
        (reader.number()?, reader.number()?, reader.number()?, reader.number()?);
    let records = [answers, authorities, additional].map(usize::from).iter().sum();
    if questions > QUESTIONS_MAX || records > RECORDS_MAX {
        return Err(Malformed::TooMany);
    }
    let is_response = flags & RESPONSE != 0;
    Ok(Message {
        id,
        is_response,
        is_query: !is_response && flags & UNANSWERABLE == 0,
        questions: (0..questions).map(|_| reader.question()).collect::<Result<_, _>>()?,
        records: (0..records).map(|_| reader.record()).collect::<Result<_, _>>()?,
    })
}

struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let taken = self.packet.get(self.at..).and_then(|rest| rest.get(..len)).ok_or(Malformed::Cut)?;
        self.at += len;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u16, Malformed> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A name. Each pointer must lead to before the part that it ends, so that none is followed twice.
    fn name(&mut self) -> Result<Name, Malformed> {
        let mut bytes = Vec::new();
        // Where reading goes on, once a pointer was followed.
        let mut after = None;
        let mut begun = self.at;
        loop {
            let len = self.take(1)?[0];
            match len {
                0 => break,
                1..=0x3f => {
                    bytes.push(len);
                    bytes.extend_from_slice(self.take(usize::from(len))?);
                }
                0xc0.. => {
                    let low = self.take(1)?[0];
                    after = after.or(Some(self.at));
                    self.at = usize::from(len & 0x3f) << 8 | usize::from(low);
                    if self.at >= begun {
                        return Err(Malformed::Name);
                    }
                    begun = self.at;
                }
                _ => return Err(Malformed::Name),
            }
            if bytes.len() >= NAME_BYTES_MAX {
                return Err(Malformed::Name);
            }
        }
        bytes.push(0);
        self.at = after.unwrap_or(self.at);
        Ok(Name(bytes))
    }

    fn question(&mut self) -> Result<Question, Malformed> {
        let (name, kind, class) = (self.name()?, self.number()?, self.number()?);
        Ok(Question { name, kind, unicast: class & UNICAST != 0 })
    }

    fn record(&mut self) -> Result<Record, Malformed> {
        let (name, kind, _class) = (self.name()?, self.number()?, self.number()?);
        self.take(4)?;
        let len = usize::from(self.number()?);
        let begin = self.at;
        let bytes = self.take(len)?;
        let end = self.at;
        self.at = begin;
        let data = match kind {
            kind::PTR => Data::Pointer(self.name()?),
            kind::SRV => {
                self.take(4)?;
                Data::Service { port: self.number()?, target: self.name()? }
            }
            kind::TXT => Data::Text(bytes.to_vec()),
            kind::A => {
                Data::Address(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).map_err(|_| Malformed::Cut)?).into())
            }
            kind::AAAA => {
                Data::Address(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).map_err(|_| Malformed::Cut)?).into())
            }
            _ => Data::Other,
        };
        if self.at > end {
            return Err(Malformed::Cut);
        }
        self.at = end;
        Ok(Record { name, data })
    }
}

/// The query for the pointers of a name. Its class has no unicast bit, as in hashicorp/mdns, whose servers answer the
/// asker in any case.
pub(super) fn query(id: u16, name: &Name) -> Vec<u8> {
    let mut out = header(id, 0, 1, 0);
    out.extend_from_slice(&name.0);
    out.extend_from_slice(&kind::PTR.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    out
}

/// A response with these records, of this time to live in seconds, compressed.
pub(super) fn response(id: u16, time_to_live: u32, records: &[Record]) -> Vec<u8> {
    let mut out = header(id, RESPONSE | AUTHORITATIVE, 0, records.len() as u16);
    let mut known = HashMap::new();
    for record in records {
        put_name(&mut out, &mut known, &record.name, true);
        let kind = match &record.data {
            Data::Pointer(_) => kind::PTR,
            Data::Service { .. } => kind::SRV,
            Data::Text(_) => kind::TXT,
            Data::Address(IpAddr::V4(_)) => kind::A,
            Data::Address(IpAddr::V6(_)) => kind::AAAA,
            Data::Other => kind::ANY,
        };
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&CLASS_IN.to_be_bytes());
        out.extend_from_slice(&time_to_live.to_be_bytes());
        let length_at = out.len();
        out.extend_from_slice(&[0, 0]);
        match &record.data {
            Data::Pointer(name) => put_name(&mut out, &mut known, name, true),
            Data::Service { port, target } => {
                // Priority and weight of hashicorp/mdns. RFC 2782 forbids compression here.
                out.extend_from_slice(&[0, 10, 0, 1]);
                out.extend_from_slice(&port.to_be_bytes());
                put_name(&mut out, &mut known, target, false);
            }
            Data::Text(bytes) => out.extend_from_slice(bytes),
            Data::Address(IpAddr::V4(ip)) => out.extend_from_slice(&ip.octets()),
            Data::Address(IpAddr::V6(ip)) => out.extend_from_slice(&ip.octets()),
            Data::Other => {}
        }
        let len = (out.len() - length_at - 2) as u16;
        out[length_at..length_at + 2].copy_from_slice(&len.to_be_bytes());
    }
    out
}

fn header(id: u16, flags: u16, questions: u16, answers: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    for number in [id, flags, questions, answers, 0, 0] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    debug_assert_eq!(out.len(), HEADER_BYTES);
    out
}

/// Writes a name. `known` has the endings of names written so far, with where they are.
fn put_name(out: &mut Vec<u8>, known: &mut HashMap<Vec<u8>, u16>, name: &Name, compress: bool) {
    for (begin, label) in name.labels() {
        let ending = &name.0[begin..];
        if let Some(&at) = known.get(ending).filter(|_| compress) {
            out.extend_from_slice(&(0xc000 | at).to_be_bytes());
            return;
        }
        if out.len() <= POINTER_MAX {
            known.entry(ending.to_vec()).or_insert(out.len() as u16);
        }
        out.push(label.len() as u8);
        out.extend_from_slice(label);
    }
    out.push(0);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::of(text).unwrap()
    }

    fn records() -> Vec<Record> {
        let record = |of: &str, data| Record { name: name(of), data };
        vec![
            record("_serf_x._tcp.local", Data::Pointer(name("n.1._serf_x._tcp.local"))),
            record("n.1._serf_x._tcp.local", Data::Service { port: 7946, target: name("vm.local") }),
            record("vm.local", Data::Address("10.41.0.1".parse().unwrap())),
            record("vm.local", Data::Address("fd41::1".parse().unwrap())),
            record("n.1._serf_x._tcp.local", Data::Text(b"\x01x".to_vec())),
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        let message = read(&response(7, 120, &records())).unwrap();
        assert_eq!((message.id, message.is_response, message.is_query), (7, true, false));
        assert_eq!(message.records, records());
        let asked = read(&query(9, &name("a.b"))).unwrap();
        assert!(asked.is_query && !asked.is_response && asked.records.is_empty());
        assert_eq!(asked.questions, [Question { name: name("a.b"), kind: kind::PTR, unicast: false }]);
    }

    #[test]
    fn names_that_dns_cannot_hold_are_refused_with_the_reason() {
        assert!(Name::of(&"a".repeat(63)).is_ok());
        assert!(Name::of(&"a".repeat(64)).unwrap_err().ends_with("a part has 64 bytes, not 1 to 63"));
        assert!(Name::of("a..b").unwrap_err().contains("a part has 0 bytes"));
        let long = vec!["a".repeat(62); 4].join(".");
        assert!(
            Name::of(&long).is_ok()
                && Name::of(&format!("{long}.aaa")).unwrap_err().contains("more than 255")
        );
    }

    fn packet(questions: u16, answers: u16, rest: &[u8]) -> Vec<u8> {
        [header(0, 0, questions, answers), rest.to_vec()].concat()
    }

    #[test]
    fn pointers_lead_back_and_names_are_short() {
        let question = |name: &[u8]| packet(1, 0, &[name, &[0, 12, 0, 1]].concat());
        assert_eq!(read(&question(&[0xc0, 12])), Err(Malformed::Name), "to itself");
        assert_eq!(read(&question(&[1, b'a', 0xc0, 12])), Err(Malformed::Name), "to its own begin");
        assert_eq!(read(&question(&[0xc0, 200])), Err(Malformed::Name), "forward");
        assert_eq!(read(&question(&[0x40, 0])), Err(Malformed::Name), "of no known form");
        assert_eq!(read(&question(&[[1, b'a']; 130].concat())), Err(Malformed::Name), "too long");
        // Two names that end in each other's beginnings.
        let loops = packet(2, 0, &[1, b'a', 0xc0, 20, 0, 12, 0, 1, 1, b'b', 0xc0, 12, 0, 12, 0, 1]);
        assert_eq!(read(&loops), Err(Malformed::Name));
    }

    #[test]
    fn counts_are_capped_before_anything_is_read() {
        assert_eq!(read(&packet(QUESTIONS_MAX + 1, 0, &[])), Err(Malformed::TooMany));
        assert_eq!(read(&packet(0, RECORDS_MAX as u16 + 1, &[])), Err(Malformed::TooMany));
        assert_eq!(read(&packet(1, 0, &[])), Err(Malformed::Cut));
    }

    proptest! {
        /// A packet of noise, and a packet with noise in it, are read or refused.
        #[test]
        fn no_packet_is_too_bad(noise in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = read(&noise);
            let mut framed = packet(noise.first().map_or(0, |n| u16::from(n % 4)), 3, &noise);
            let _ = read(&framed);
            framed.truncate(framed.len() / 2);
            let _ = read(&framed);
        }

        #[test]
        fn a_changed_or_cut_response_never_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), cut in any::<prop::sample::Index>()) {
            let whole = response(1, 120, &records());
            prop_assert_eq!(read(&whole[..cut.index(whole.len())]), Err(Malformed::Cut));
            let mut changed = whole;
            for (at, byte) in changes {
                let at = at.index(changed.len());
                changed[at] = byte;
            }
            if let Ok(message) = read(&changed) {
                // Names are whole: their labels end where their bytes do.
                for record in &message.records {
                    prop_assert!(record.name.labels().map(|(_, label)| 1 + label.len()).sum::<usize>() < NAME_BYTES_MAX);
                }
            }
        }
    }
}
