//! What a node answers to a message of a reconciliation: a function of the message and of its own set.
//!
//! Neither side keeps a session. Each message carries its step, an answer has the next one, and after
//! [`STEPS_MAX`] there is none: no message, honest or not, starts an exchange without an end, and each message causes
//! one answer at most, whose bytes and work are bounded by [`Limits`].

use crate::digest::Fingerprint;
use crate::wire::reconcile::{
    ListReader, Listed, PointRange, RANGE_BITS_MAX, Reconcile, ReconcileSet, ReconcileWriter, STEPS_MAX,
    Section,
};

/// One side's set.
pub(crate) trait Holdings {
    /// Appends the fingerprints of the 2^`split` parts of a range. False if that is more than `work` elements to
    /// look at, which it counts down.
    fn fingerprints(
        &self,
        range: PointRange,
        split: u8,
        work: &mut usize,
        into: &mut Vec<Fingerprint>,
    ) -> bool;

    /// Appends what it knows between two points, both included, in ascending order. False if that is more than
    /// `work` elements.
    fn list(&self, first: u64, last: u64, work: &mut usize, into: &mut Vec<Held>) -> bool;

    /// Appends the record of something listed.
    fn record(&self, held: &Held, out: &mut Vec<u8>);

    /// What it knows better than a record that arrived: its element is gone, and the record no newer than that.
    fn rebuts(&self, record: &[u8]) -> Option<Held>;
}

/// What a side knows of one point.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) point: u64,
    pub(crate) version: u64,
    pub(crate) presence: Presence,
    /// What the set calls it.
    pub(crate) handle: u32,
}

/// Whether an element is in the set.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// In the set.
    Here,
    /// It was, and is known to be gone: news to who has it still.
    Gone,
    /// As `Gone`, and whoever says otherwise is asked for the record, so that the member itself can be asked.
    Departed,
}

/// Bounds of one answer.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Limits {
    /// Bytes.
    pub(crate) bytes: usize,
    /// Elements that are looked at.
    pub(crate) work: usize,
    /// Ranges that differ and have at most so many elements are listed, others are split further.
    pub(crate) list_max: u32,
}

impl Limits {
    /// For one datagram with room for `bytes`.
    pub(crate) fn datagram(bytes: usize) -> Limits {
        Limits { bytes, work: 8192, list_max: 160 }
    }

    /// For one message of a stream.
    pub(crate) fn stream() -> Limits {
        Limits { bytes: STREAM_MESSAGE_BYTES, work: 1 << 17, list_max: u32::MAX }
    }
}

/// Bytes of one message on a stream: some ten thousand records. What does not fit is left to the next exchange.
pub(crate) const STREAM_MESSAGE_BYTES: usize = 512 * 1024;
/// Ranges with more elements than may be listed are split into 2^so many.
const SPLIT: u8 = 4;
/// Sets with at most so many elements are listed at once: their list is shorter than the sums.
const SMALL_SET: u32 = 64;
/// A list of a whole set is cut into ranges of about so many elements.
const LISTED_TOGETHER: u32 = 8;
/// Room that a further section needs.
const SECTION_BYTES: usize = 16;

/// Who writes, in which exchange.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) set: ReconcileSet,
    pub(crate) salt: u32,
    pub(crate) from: &'a str,
    pub(crate) clocks: [u64; 2],
}

impl Head<'_> {
    fn writer(self, step: u8, limits: Limits, out: Vec<u8>) -> ReconcileWriter {
        let Head { set, salt, from, clocks } = self;
        let head = Reconcile::head(set, step, salt, from, clocks);
        ReconcileWriter::new(out, limits.bytes, &head)
    }
}

/// The first message of an exchange, appended to `out`.
pub(crate) fn open(holdings: &dyn Holdings, head: Head<'_>, limits: Limits, out: Vec<u8>) -> Vec<u8> {
    let mut answer = Answer::new(holdings, head, 0, limits, out);
    let mut whole = Vec::new();
    let counted = holdings.fingerprints(PointRange::ALL, 0, &mut answer.work, &mut whole);
    let count = whole.first().map_or(u32::MAX, |whole| whole.count);
    if counted && count > SMALL_SET && limits.list_max < u32::MAX {
        answer.sums(PointRange::ALL, crate::digest::KEPT_BITS);
    } else {
        let bits =
            (count / LISTED_TOGETHER).checked_ilog2().unwrap_or(0).min(u32::from(crate::digest::KEPT_BITS));
        // What does not fit is another part of the circle in each exchange.
        for place in 0..1u32 << bits {
            let place = place.wrapping_add(head.salt) & ((1 << bits) - 1);
            if let Some(range) = PointRange::ALL.part(bits as u8, place) {
                answer.list(range);
            }
        }
    }
    answer.writer.finish()
}

/// The answer to a message, appended to `out`; none if there is nothing to say or the exchange is long enough.
pub(crate) fn answer(
    message: &Reconcile<'_>,
    holdings: &dyn Holdings,
    head: Head<'_>,
    limits: Limits,
    out: Vec<u8>,
) -> Option<Vec<u8>> {
    if message.step >= STEPS_MAX {
        return None;
    }
    let mut answer = Answer::new(holdings, head, message.step + 1, limits, out);
    for section in message.sections() {
        match section {
            Section::Sums { range, split, sums } => answer.on_sums(range, split, sums),
            Section::List { range, elements } => answer.on_list(range, elements),
            Section::Want { range, elements } => answer.on_wants(range, elements),
            Section::Record(record) => {
                if let Some(own) = holdings.rebuts(record) {
                    answer.send(&own);
                }
            }
            Section::More(_) => {}
        }
    }
    answer.name_differences();
    (!answer.writer.is_empty()).then(|| answer.writer.finish())
}

struct Answer<'h> {
    holdings: &'h dyn Holdings,
    writer: ReconcileWriter,
    salt: u32,
    work: usize,
    list_max: u32,
    /// Ranges whose sums differ, with the number of own elements.
    differing: Vec<(PointRange, u32)>,
    held: Vec<Held>,
    prints: Vec<Fingerprint>,
    record: Vec<u8>,
}

impl<'h> Answer<'h> {
    fn new(holdings: &'h dyn Holdings, head: Head<'_>, step: u8, limits: Limits, out: Vec<u8>) -> Answer<'h> {
        Answer {
            holdings,
            writer: head.writer(step, limits, out),
            salt: head.salt,
            work: limits.work,
            list_max: limits.list_max,
            differing: Vec::new(),
            held: Vec::new(),
            prints: Vec::new(),
            record: Vec::new(),
        }
    }

    fn on_sums(&mut self, range: PointRange, split: u8, sums: &[[u8; 4]]) {
        self.prints.clear();
        if !self.holdings.fingerprints(range, split, &mut self.work, &mut self.prints) {
            return self.writer.leave_out(1);
        }
        for (place, (mine, theirs)) in self.prints.iter().zip(sums).enumerate() {
            if mine.salted(self.salt) != u32::from_be_bytes(*theirs)
                && let Some(part) = range.part(split, place as u32)
            {
                self.differing.push((part, mine.count));
            }
        }
    }

    /// Compares the sender's list with what is held here: sends what the sender lacks, asks for what it has.
    fn on_list(&mut self, range: PointRange, theirs: ListReader<'_>) {
        let mut held = std::mem::take(&mut self.held);
        held.clear();
        if self.holdings.list(range.first(), range.last(), &mut self.work, &mut held) {
            let mut wants = Vec::new();
            let (mut own, mut theirs) = (held.iter().peekable(), theirs.peekable());
            while let Some(listed) = theirs.next() {
                while let Some(own) = own.next_if(|own| range.key(own.point) < listed.key) {
                    self.send_missing(own);
                }
                let Some(mine) = own.next_if(|own| range.key(own.point) == listed.key) else {
                    wants.push(listed);
                    continue;
                };
                // Elements that share a key, which hardly happens by chance, are compared together.
                let mut group = vec![*mine];
                group.extend(std::iter::from_fn(|| own.next_if(|own| range.key(own.point) == listed.key)));
                let mut versions = vec![listed.version];
                while let Some(next) = theirs.next_if(|next| next.key == listed.key) {
                    versions.push(next.version);
                }
                let (sends, asks) = precedence(&group, &versions);
                if sends {
                    for own in &group {
                        self.send(own);
                    }
                }
                if asks {
                    wants.push(listed);
                }
            }
            own.for_each(|own| self.send_missing(own));
            if !wants.is_empty() {
                self.writer.want(range, &wants);
            }
        } else {
            self.writer.leave_out(1);
        }
        self.held = held;
    }

    fn on_wants(&mut self, range: PointRange, wanted: ListReader<'_>) {
        let mut held = std::mem::take(&mut self.held);
        for listed in wanted {
            held.clear();
            let (first, last) = range.points_of(listed.key);
            if !self.holdings.list(first, last, &mut self.work, &mut held)
                || !held.iter().all(|own| self.send(own))
            {
                self.writer.leave_out(1);
                break;
            }
        }
        self.held = held;
    }

    /// Lists the ranges that differ, or splits them further.
    fn name_differences(&mut self) {
        let differing = std::mem::take(&mut self.differing);
        let total = differing.len();
        for (done, (range, count)) in differing.into_iter().enumerate() {
            if self.writer.room() < SECTION_BYTES {
                return self.writer.leave_out((total - done) as u32);
            }
            if count <= self.list_max || range.bits() + SPLIT > RANGE_BITS_MAX {
                self.list(range);
            } else {
                self.sums(range, SPLIT);
            }
        }
    }

    fn sums(&mut self, range: PointRange, split: u8) {
        self.prints.clear();
        if !self.holdings.fingerprints(range, split, &mut self.work, &mut self.prints) {
            return self.writer.leave_out(1);
        }
        let sums = self.prints.iter().map(|print| print.salted(self.salt));
        self.writer.sums(range, split, sums);
    }

    fn list(&mut self, range: PointRange) {
        let mut held = std::mem::take(&mut self.held);
        held.clear();
        if self.holdings.list(range.first(), range.last(), &mut self.work, &mut held) {
            let here = held.iter().filter(|own| own.presence == Presence::Here);
            let listed: Vec<Listed> =
                here.map(|own| Listed { key: range.key(own.point), version: own.version }).collect();
            self.writer.list(range, &listed);
        } else {
            self.writer.leave_out(1);
        }
        self.held = held;
    }

    /// Sends what the sender of a list does not have in it. What is gone here is nothing to it.
    fn send_missing(&mut self, own: &Held) {
        if own.presence == Presence::Here {
            self.send(own);
        }
    }

    fn send(&mut self, own: &Held) -> bool {
        self.record.clear();
        self.holdings.record(own, &mut self.record);
        self.writer.record(&self.record)
    }
}

/// Whether the own records of one key go out, and whether the other's are asked for.
fn precedence(own: &[Held], theirs: &[u64]) -> (bool, bool) {
    let ([own], [theirs]) = (own, theirs) else {
        let equal = own.len() == theirs.len()
            && own.iter().all(|own| own.presence == Presence::Here && theirs.contains(&own.version));
        return (!equal, !equal);
    };
    let (mine, other) = (own.version >> 2, theirs >> 2);
    match own.presence {
        Presence::Here if own.version == *theirs => (false, false),
        Presence::Here => (mine >= other, mine <= other),
        Presence::Gone => (mine >= other, mine < other),
        Presence::Departed => (mine >= other, true),
    }
}
