//! The push/pull message of a stream (PROTOCOL 4.3): a header, member records, serf's part.

use crate::wire::decode_error::DecodeError;
use crate::wire::limits::{PUSH_PULL_NODES_MAX, USER_STATE_BYTES_MAX};
use crate::wire::message::{NodeState, PUSH_PULL};
use crate::wire::msgpack::{Reader, write_bool, write_map, write_raw, write_uint};
use crate::wire::stream::SMALL_MESSAGE_BYTES_MAX;

/// A whole, validated push/pull.
#[derive(Clone, Debug)]
pub struct PushPullFrame {
    bytes: Vec<u8>,
    /// Whether the stream was opened in order to join.
    pub join: bool,
    /// How many member records there are.
    pub nodes_count: u32,
    nodes_start: usize,
    user_start: usize,
    versions: DistinctVersions,
}

/// The different protocol versions among many members; nearly always there is one.
#[derive(Clone, Debug, Default)]
pub(crate) struct DistinctVersions(Vec<Vec<u8>>);

/// Kept at most; beyond it each member has to be checked.
const DISTINCT_VERSIONS_MAX: usize = 8;

impl DistinctVersions {
    /// One more member's.
    pub(crate) fn add(&mut self, versions: &[u8]) {
        if self.0.len() <= DISTINCT_VERSIONS_MAX && !self.0.iter().any(|known| known == versions) {
            self.0.push(versions.to_vec());
        }
    }

    /// All of them; none if there are too many.
    pub(crate) fn all(&self) -> Option<impl Iterator<Item = &[u8]>> {
        (self.0.len() <= DISTINCT_VERSIONS_MAX).then(|| self.0.iter().map(Vec::as_slice))
    }
}

impl PushPullFrame {
    /// The protocol versions that its members announce.
    pub(crate) fn versions(&self) -> &DistinctVersions {
        &self.versions
    }

    /// The member record at `offset`, which it moves on; 0 is the first. None after the last.
    pub fn next_node(&self, offset: &mut usize) -> Option<NodeState<'_>> {
        let records = &self.bytes[self.nodes_start..self.user_start];
        let mut reader = Reader::new(records.get(*offset..).filter(|rest| !rest.is_empty())?);
        let node = NodeState::decode(&mut reader).expect("the frame was validated when it was decoded");
        *offset += reader.position();
        Some(node)
    }

    /// Serf's part, its type byte first; may be empty.
    pub fn user_state(&self) -> &[u8] {
        &self.bytes[self.user_start..]
    }

    /// Whether the record at `offset` is exactly this one; if so, moves `offset` to the next.
    pub(crate) fn skip_record(&self, offset: &mut usize, record: &[u8]) -> bool {
        let records = &self.bytes[self.nodes_start..self.user_start];
        let is_it = records.get(*offset..).is_some_and(|rest| rest.starts_with(record));
        *offset += if is_it { record.len() } else { 0 };
        is_it
    }

    /// Its buffer, for another one.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes the frame holds in memory.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it holds nothing (it never does: there is a header at least).
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Appends the header of a push/pull, type byte first. The records and the user state follow.
pub fn encode_push_pull_header(nodes: usize, user_bytes: usize, join: bool, out: &mut Vec<u8>) {
    out.push(PUSH_PULL);
    write_map(out, 3);
    write_raw(out, b"Join");
    write_bool(out, join);
    write_raw(out, b"Nodes");
    write_uint(out, nodes as u64);
    write_raw(out, b"UserStateLen");
    write_uint(out, user_bytes as u64);
}

/// How far a plain push/pull has been parsed, so that no byte is parsed twice in vain.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Bytes known to be whole records, header included; 0: the header is not whole yet.
    checked: usize,
    nodes_start: usize,
    nodes_left: u64,
    nodes_count: u32,
    user_bytes: u64,
    join: bool,
    versions: DistinctVersions,
}

impl Progress {
    /// Looks on through the bytes of a push/pull, type byte first.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        if self.checked == 0 {
            self.read_header(bytes)?;
        }
        while self.nodes_left > 0 {
            let mut reader = Reader::new(&bytes[self.checked..]);
            self.versions.add(&NodeState::decode(&mut reader)?.versions);
            self.checked += reader.position();
            self.nodes_left -= 1;
        }
        if ((bytes.len() - self.checked) as u64) < self.user_bytes {
            return Err(DecodeError::Truncated);
        }
        Ok(())
    }

    /// Whether the header or one record is longer than any may be.
    pub(super) fn stuck(&self, bytes: &[u8]) -> bool {
        let parsing = self.checked == 0 || self.nodes_left > 0;
        parsing && bytes.len() - self.checked > SMALL_MESSAGE_BYTES_MAX
    }

    fn read_header(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes.get(1..).ok_or(DecodeError::Truncated)?);
        let (mut nodes, mut user, mut join) = (0, 0, false);
        reader.fields(&["Nodes", "UserStateLen", "Join"], |r, field| {
            match field {
                0 => nodes = r.u64()?,
                1 => user = r.u64()?,
                _ => join = r.bool()?,
            }
            Ok(())
        })?;
        if nodes > PUSH_PULL_NODES_MAX || user > USER_STATE_BYTES_MAX {
            return Err(DecodeError::StreamTooLarge);
        }
        self.checked = 1 + reader.position();
        self.nodes_start = self.checked;
        self.nodes_left = nodes;
        self.nodes_count = nodes as u32;
        self.user_bytes = user;
        self.join = join;
        Ok(())
    }

    pub(super) fn frame(&mut self, mut bytes: Vec<u8>) -> PushPullFrame {
        bytes.truncate(self.checked + self.user_bytes as usize);
        PushPullFrame {
            bytes,
            join: self.join,
            nodes_count: self.nodes_count,
            nodes_start: self.nodes_start,
            user_start: self.checked,
            versions: std::mem::take(&mut self.versions),
        }
    }
}
