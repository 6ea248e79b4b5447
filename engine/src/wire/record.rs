//! A member's record in a reconciliation: what a push/pull says about it in SWIM's and in Serf's part, in a third
//! of the bytes, so that most of encoding and decoding is copying.

use crate::wire::decode_error::DecodeError;
use crate::wire::limits::{META_BYTES_MAX, NODE_NAME_BYTES_MAX};
use crate::wire::reconcile::{Cursor, write_number};
use crate::wire::{Incarnation, LamportTime, WireState};

type Result<T> = std::result::Result<T, DecodeError>;

/// Serf's statuses: none, alive, leaving, left, failed.
const STATUS_MAX: u8 = 4;
/// The SWIM state of a member that SWIM has dropped.
const ABSENT: u8 = 4;
const VERSIONS_BYTES_MAX: usize = 6;

/// A member's record, borrowed.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct MemberRecord<'a> {
    /// Node name.
    pub name: &'a str,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Its SWIM state; None if SWIM has dropped it since it left: then the record is about its status alone.
    pub state: Option<WireState>,
    /// Its Serf status as a number: 0 none (pruned, or no Serf member), 1 alive, 2 leaving, 3 left, 4 failed.
    pub status: u8,
    /// Lamport time of the newest intent about it; 0 if there was none.
    pub status_ltime: LamportTime,
    /// Its address: 4 or 16 bytes.
    pub addr: &'a [u8],
    /// Its gossip port.
    pub port: u16,
    /// Its protocol versions: six bytes, or fewer if it announced fewer.
    pub versions: &'a [u8],
    /// Its meta.
    pub meta: &'a [u8],
}

impl<'a> MemberRecord<'a> {
    /// Decodes a record that takes all of `bytes`.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn decode(bytes: &'a [u8]) -> Result<MemberRecord<'a>> {
        let mut cursor = Cursor::new(bytes);
        let incarnation = u32::try_from(cursor.number()?).map_err(|_| DecodeError::FieldOverflow)?;
        let standing = cursor.byte()?;
        let state = match standing & 7 {
            0 => Some(WireState::Alive),
            1 => Some(WireState::Suspect),
            2 => Some(WireState::Dead),
            3 => Some(WireState::Left),
            ABSENT => None,
            _ => return Err(DecodeError::BadState),
        };
        let status = standing >> 3;
        if status > STATUS_MAX {
            return Err(DecodeError::BadState);
        }
        let status_ltime = LamportTime(cursor.number()?);
        let port = u16::from_be_bytes(cursor.array()?);
        let [addr_bytes, versions_bytes] = cursor.array()?.map(usize::from);
        if !matches!(addr_bytes, 4 | 16) {
            return Err(DecodeError::BadAddress);
        }
        if versions_bytes > VERSIONS_BYTES_MAX {
            return Err(DecodeError::BadVersions);
        }
        let name = cursor.sized()?;
        if name.is_empty() || name.len() > NODE_NAME_BYTES_MAX {
            return Err(DecodeError::BadName);
        }
        let name = std::str::from_utf8(name).map_err(|_| DecodeError::BadUtf8)?;
        let (addr, versions) = (cursor.take(addr_bytes)?, cursor.take(versions_bytes)?);
        let meta = cursor.rest();
        if meta.len() > META_BYTES_MAX {
            return Err(DecodeError::MetaTooLong);
        }
        let incarnation = Incarnation(incarnation);
        Ok(MemberRecord { name, incarnation, state, status, status_ltime, addr, port, versions, meta })
    }

    /// Appends the record.
    ///
    /// # Panics
    /// If the address or the versions have more than 255 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        write_number(out, u64::from(self.incarnation.0));
        out.push(self.state.map_or(ABSENT, |state| state as u8) | self.status << 3);
        write_number(out, self.status_ltime.0);
        out.extend_from_slice(&self.port.to_be_bytes());
        for bytes in [self.addr, self.versions] {
            out.push(u8::try_from(bytes.len()).expect("decoding admits few bytes of each"));
        }
        write_number(out, self.name.len() as u64);
        for bytes in [self.name.as_bytes(), self.addr, self.versions, self.meta] {
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RECORD: MemberRecord<'static> = MemberRecord {
        name: "web-17",
        incarnation: Incarnation(300),
        state: Some(WireState::Suspect),
        status: 1,
        status_ltime: LamportTime(77),
        addr: &[127, 0, 0, 1],
        port: 7946,
        versions: &[1, 5, 2, 2, 5, 5],
        meta: b"\xff\x81\xa4role\xa3web",
    };

    #[test]
    fn comes_back_as_it_was_and_no_prefix_of_it_is_a_record() {
        let mut bytes = Vec::new();
        RECORD.encode(&mut bytes);
        assert_eq!(bytes.len(), 36);
        assert_eq!(MemberRecord::decode(&bytes), Ok(RECORD));
        let without_meta = bytes.len() - RECORD.meta.len();
        for end in 0..without_meta {
            assert_eq!(MemberRecord::decode(&bytes[..end]), Err(DecodeError::Truncated), "{end} bytes");
        }
    }

    #[test]
    fn what_no_member_has_is_refused() {
        let long = "x".repeat(NODE_NAME_BYTES_MAX + 1);
        let cases = [
            (MemberRecord { name: "", ..RECORD }, DecodeError::BadName),
            (MemberRecord { name: &long, ..RECORD }, DecodeError::BadName),
            (MemberRecord { addr: &[1, 2, 3], ..RECORD }, DecodeError::BadAddress),
            (MemberRecord { versions: &[1; 7], ..RECORD }, DecodeError::BadVersions),
            (MemberRecord { meta: &[0; 513], ..RECORD }, DecodeError::MetaTooLong),
            (MemberRecord { status: 5, ..RECORD }, DecodeError::BadState),
        ];
        for (record, reason) in cases {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert_eq!(MemberRecord::decode(&bytes), Err(reason), "{record:?}");
        }
    }
}
