//! The message of range reconciliation between Thane peers (docs/protocol.md, "Reconciliation"). Serf peers
//! are never sent one.
//!
//! A message names its set (members, or recent user events and queries), carries a step number, and then
//! sections in any order: sums of ranges, lists of ranges, wanted elements, records. The same body travels in a
//! datagram and, behind a length, on a stream.

use crate::wire::decode_error::DecodeError;
use crate::wire::limits::NODE_NAME_BYTES_MAX;
use crate::wire::message::RECONCILE;

type Result<T> = std::result::Result<T, DecodeError>;

/// The version of the message that this node writes and reads.
pub const RECONCILE_VERSION: u8 = 1;
/// Steps of one exchange. Each message answers one of the step before; honest exchanges need 3 to 6.
pub const STEPS_MAX: u8 = 9;
/// The most ranges that one section of sums splits its range into, as a power of two.
pub const SPLIT_BITS_MAX: u8 = 8;
/// The deepest range, in leading bits that its points share.
pub const RANGE_BITS_MAX: u8 = 32;
/// Bytes of a head without the name and the clocks.
const HEAD_BYTES: usize = 9;

const PADDING: u8 = 0;
const SUMS: u8 = 1;
const LIST: u8 = 2;
const WANT: u8 = 3;
const RECORD: u8 = 4;
const MORE: u8 = 5;

/// What two peers reconcile.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ReconcileSet {
    /// Members that are alive.
    Members,
    /// Recent user events and queries.
    Messages,
}

/// All points of the circle that share their first bits.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct PointRange {
    bits: u8,
    prefix: u32,
}

impl PointRange {
    /// The whole circle.
    pub const ALL: PointRange = PointRange { bits: 0, prefix: 0 };

    /// The range of points that begin with these bits; `prefix` is read as a number of `bits` bits.
    ///
    /// # Errors
    /// `FieldOverflow` if there are more bits than [`RANGE_BITS_MAX`], or the prefix has more than `bits`.
    pub fn new(bits: u8, prefix: u32) -> Result<PointRange> {
        let fits = bits <= RANGE_BITS_MAX && u64::from(prefix) >> bits == 0;
        if fits { Ok(PointRange { bits, prefix }) } else { Err(DecodeError::FieldOverflow) }
    }

    /// The `place`-th of the 2^`split` equal parts; none if they would be too small.
    pub fn part(self, split: u8, place: u32) -> Option<PointRange> {
        let bits = self.bits.checked_add(split).filter(|&bits| bits <= RANGE_BITS_MAX)?;
        let prefix = (u64::from(self.prefix) << split | u64::from(place)) as u32;
        PointRange::new(bits, prefix).ok()
    }

    /// Leading bits that its points share.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// Those bits as a number.
    pub fn prefix(self) -> u32 {
        self.prefix
    }

    /// The lowest point.
    pub fn first(self) -> u64 {
        if self.bits == 0 { 0 } else { u64::from(self.prefix) << (64 - self.bits) }
    }

    /// The highest point.
    pub fn last(self) -> u64 {
        self.first() | u64::MAX.checked_shr(u32::from(self.bits)).unwrap_or(0)
    }

    /// The lowest and the highest point of the range that have this key.
    pub fn points_of(self, key: u32) -> (u64, u64) {
        let free = 32 - self.bits;
        let first = self.first() | u64::from(key) << free;
        (first, first | ((1u64 << free) - 1))
    }

    /// In which of the 2^`split` equal parts a point of the range lies.
    pub fn place_of(self, point: u64, split: u8) -> usize {
        (u64::from(self.key(point)) << split >> 32) as usize
    }

    /// A point's name within the range: the 32 bits behind those that all points of it share.
    pub fn key(self, point: u64) -> u32 {
        (point << self.bits >> 32) as u32
    }
}

/// An element of a list: its key within the range, and its version.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// See [`PointRange::key`].
    pub key: u32,
    /// For members incarnation * 4 + standing; 0 for messages.
    pub version: u64,
}

/// A decoded message, borrowed. Its sections are read by [`sections`](Self::sections).
#[derive(Clone, Debug, PartialEq)]
pub struct Reconcile<'a> {
    /// What is reconciled.
    pub set: ReconcileSet,
    /// 0 in the first message of an exchange, then one more in each answer.
    pub step: u8,
    /// Chosen anew for each exchange; sums are mixed with it, so that two sets whose sums are alike once are not
    /// alike for ever.
    pub salt: u32,
    /// The sender's node name.
    pub from: &'a str,
    /// The sender's event and query clocks; zeros for members.
    pub clocks: [u64; 2],
    body: &'a [u8],
}

/// A part of a message, borrowed.
#[derive(Clone, Debug, PartialEq)]
pub enum Section<'a> {
    /// Sums of the equal parts of a range.
    Sums {
        /// The range.
        range: PointRange,
        /// It is split into 2^`split` parts.
        split: u8,
        /// The sums, 4 bytes each.
        sums: &'a [[u8; 4]],
    },
    /// All elements of the sender's set in a range.
    List {
        /// The range.
        range: PointRange,
        /// In ascending order of keys.
        elements: ListReader<'a>,
    },
    /// Elements that the sender wants the records of.
    Want {
        /// The range.
        range: PointRange,
        /// In ascending order; versions are 0.
        elements: ListReader<'a>,
    },
    /// One record.
    Record(&'a [u8]),
    /// So many ranges or records of the answer did not fit.
    More(u32),
}

impl<'a> Reconcile<'a> {
    /// What a message begins with, without sections.
    pub fn head(set: ReconcileSet, step: u8, salt: u32, from: &'a str, clocks: [u64; 2]) -> Reconcile<'a> {
        Reconcile { set, step, salt, from, clocks, body: &[] }
    }

    /// Decodes a message, type byte not included, and checks every section.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn decode(bytes: &'a [u8]) -> Result<Reconcile<'a>> {
        let mut cursor = Cursor(bytes);
        if cursor.byte()? != RECONCILE_VERSION {
            return Err(DecodeError::UnknownType);
        }
        let set = match cursor.byte()? {
            0 => ReconcileSet::Members,
            1 => ReconcileSet::Messages,
            _ => return Err(DecodeError::UnknownType),
        };
        let step = cursor.byte()?;
        if step > STEPS_MAX {
            return Err(DecodeError::FieldOverflow);
        }
        let salt = u32::from_be_bytes(cursor.array()?);
        let name = cursor.sized()?;
        if name.is_empty() || name.len() > NODE_NAME_BYTES_MAX {
            return Err(DecodeError::BadName);
        }
        let from = std::str::from_utf8(name).map_err(|_| DecodeError::BadUtf8)?;
        let clocks = match set {
            ReconcileSet::Members => [0; 2],
            ReconcileSet::Messages => [cursor.number()?, cursor.number()?],
        };
        let message = Reconcile { set, step, salt, from, clocks, body: cursor.0 };
        let mut rest = Cursor(message.body);
        while rest.section()?.is_some() {}
        Ok(message)
    }

    /// Bytes of the message, give or take its clocks.
    pub fn bytes(&self) -> usize {
        HEAD_BYTES + self.from.len() + self.body.len()
    }

    /// Its sections, in the order sent.
    pub fn sections(&self) -> impl Iterator<Item = Section<'a>> + use<'a> {
        let mut rest = Cursor(self.body);
        std::iter::from_fn(move || rest.section().expect("decode checked every section"))
    }
}

/// Reads the elements of a list or of wants. They were checked when the message was decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct ListReader<'a> {
    rest: Cursor<'a>,
    left: usize,
    key: u32,
    versions: bool,
}

impl ListReader<'_> {
    fn read(&mut self) -> Result<Option<Listed>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let step = u32::try_from(self.rest.number()?).map_err(|_| DecodeError::FieldOverflow)?;
        self.key = self.key.checked_add(step).ok_or(DecodeError::FieldOverflow)?;
        let version = if self.versions { self.rest.number()? } else { 0 };
        Ok(Some(Listed { key: self.key, version }))
    }
}

impl Iterator for ListReader<'_> {
    type Item = Listed;

    fn next(&mut self) -> Option<Listed> {
        self.read().expect("decode checked every element")
    }
}

/// What is left to read.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor(bytes)
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        self.take(1).map(|byte| byte[0])
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*array)
    }

    /// A number in groups of 7 bits, the lowest first, all but the last with the high bit set.
    pub(crate) fn number(&mut self) -> Result<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let group = u64::from(byte & 0x7f);
            if group << shift >> shift != group {
                return Err(DecodeError::FieldOverflow);
            }
            number |= group << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(DecodeError::FieldOverflow)
    }

    pub(crate) fn sized(&mut self) -> Result<&'a [u8]> {
        let bytes = usize::try_from(self.number()?).map_err(|_| DecodeError::Truncated)?;
        self.take(bytes)
    }

    fn range(&mut self) -> Result<PointRange> {
        let bits = self.byte()?;
        let prefix = u32::try_from(self.number()?).map_err(|_| DecodeError::FieldOverflow)?;
        PointRange::new(bits, prefix)
    }

    fn section(&mut self) -> Result<Option<Section<'a>>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let section = match self.byte()? {
            PADDING => {
                self.0 = &[];
                return Ok(None);
            }
            SUMS => {
                let (range, split) = (self.range()?, self.byte()?);
                if !(1..=SPLIT_BITS_MAX).contains(&split) || range.bits() + split > RANGE_BITS_MAX {
                    return Err(DecodeError::FieldOverflow);
                }
                let (sums, _) = self.take(4 << split)?.as_chunks();
                Section::Sums { range, split, sums }
            }
            LIST => Section::List { range: self.range()?, elements: self.list(true)? },
            WANT => Section::Want { range: self.range()?, elements: self.list(false)? },
            RECORD => Section::Record(self.sized()?),
            MORE => Section::More(u32::try_from(self.number()?).unwrap_or(u32::MAX)),
            _ => return Err(DecodeError::UnknownType),
        };
        Ok(Some(section))
    }

    fn list(&mut self, versions: bool) -> Result<ListReader<'a>> {
        let left = usize::try_from(self.number()?).map_err(|_| DecodeError::Truncated)?;
        if left > self.0.len() {
            return Err(DecodeError::Truncated);
        }
        let list = ListReader { rest: *self, left, key: 0, versions };
        let mut check = list.clone();
        while check.read()?.is_some() {}
        *self = check.rest;
        Ok(list)
    }
}

/// Puts a message together, within a number of bytes.
#[derive(Debug)]
pub struct ReconcileWriter {
    out: Vec<u8>,
    start: usize,
    bytes_max: usize,
    /// Ranges and records that did not fit.
    missing: u32,
}

impl ReconcileWriter {
    /// Begins a message, type byte first, of at most `bytes_max` bytes, behind what `out` holds already.
    pub fn new(out: Vec<u8>, bytes_max: usize, head: &Reconcile<'_>) -> ReconcileWriter {
        let mut out = out;
        let begin = out.len();
        out.push(RECONCILE);
        out.push(RECONCILE_VERSION);
        out.push(head.set as u8);
        out.push(head.step);
        out.extend_from_slice(&head.salt.to_be_bytes());
        write_number(&mut out, head.from.len() as u64);
        out.extend_from_slice(head.from.as_bytes());
        if head.set == ReconcileSet::Messages {
            head.clocks.iter().for_each(|&clock| write_number(&mut out, clock));
        }
        // What did not fit must still be said.
        let bytes_max = (begin + bytes_max).saturating_sub(MORE_BYTES_MAX);
        ReconcileWriter { start: out.len(), out, bytes_max, missing: 0 }
    }

    /// Bytes that are left.
    pub fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.out.len())
    }

    /// Appends the sums of the 2^`split` parts of a range. False, and counted as missing, if they don't fit.
    pub fn sums(&mut self, range: PointRange, split: u8, sums: impl Iterator<Item = u32>) -> bool {
        self.section(|out| {
            write_range(out, SUMS, range);
            out.push(split);
            sums.for_each(|sum| out.extend_from_slice(&sum.to_be_bytes()));
        })
    }

    /// Appends a whole list, in ascending order of keys. False, and counted as missing, if it does not fit.
    pub fn list(&mut self, range: PointRange, elements: &[Listed]) -> bool {
        self.section(|out| {
            write_range(out, LIST, range);
            write_keys(out, elements, true);
        })
    }

    /// Appends wanted elements, in ascending order of keys; as many as fit.
    pub fn want(&mut self, range: PointRange, elements: &[Listed]) {
        // A key takes 5 bytes at most, their number 3, the range 6.
        let fit = elements.len().min(self.room().saturating_sub(10) / 5);
        if fit > 0 {
            self.section(|out| {
                write_range(out, WANT, range);
                write_keys(out, &elements[..fit], false);
            });
        }
        self.missing += (elements.len() - fit) as u32;
    }

    /// Appends a record. False, and counted as missing, if it does not fit.
    pub fn record(&mut self, record: &[u8]) -> bool {
        self.section(|out| {
            out.push(RECORD);
            write_number(out, record.len() as u64);
            out.extend_from_slice(record);
        })
    }

    /// Counts what was not even tried.
    pub fn leave_out(&mut self, count: u32) {
        self.missing = self.missing.saturating_add(count);
    }

    /// Whether nothing was appended and nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.out.len() == self.start && self.missing == 0
    }

    /// The message, with the number of what is missing at its end.
    pub fn finish(mut self) -> Vec<u8> {
        if self.missing > 0 {
            self.out.push(MORE);
            write_number(&mut self.out, u64::from(self.missing));
        }
        self.out
    }

    fn section(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let before = self.out.len();
        write(&mut self.out);
        let fits = self.out.len() <= self.bytes_max;
        if !fits {
            self.out.truncate(before);
            self.missing = self.missing.saturating_add(1);
        }
        fits
    }
}

/// Bytes of the section that says how much is missing.
const MORE_BYTES_MAX: usize = 1 + 5;

/// Appends a number in groups of 7 bits, the lowest first.
pub fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn write_range(out: &mut Vec<u8>, kind: u8, range: PointRange) {
    out.push(kind);
    out.push(range.bits);
    write_number(out, u64::from(range.prefix));
}

fn write_keys(out: &mut Vec<u8>, elements: &[Listed], versions: bool) {
    write_number(out, elements.len() as u64);
    let mut before = 0;
    for element in elements {
        write_number(out, u64::from(element.key - before));
        before = element.key;
        if versions {
            write_number(out, element.version);
        }
    }
}
