//! Splits a byte stream into whole msgpack values. Reads no byte twice and allocates nothing for a length before its
//! bytes have arrived.

use std::ops::Range;

use crate::wire::limits::MSGPACK_DEPTH_MAX;

/// Bytes of a connection, and the values in them.
#[derive(Debug)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Start of the value at the front.
    start: usize,
    scan: Scan,
    value_bytes_max: usize,
}

impl Frames {
    /// A splitter for values of at most `value_bytes_max` bytes.
    pub fn new(value_bytes_max: usize) -> Frames {
        Frames { bytes: Vec::new(), start: 0, scan: Scan::default(), value_bytes_max }
    }

    /// Adds received bytes. They are kept until they are polled, so poll until `None` before feeding again.
    pub fn feed(&mut self, received: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(received);
    }

    /// Takes the next whole value; `None` until more bytes are fed.
    ///
    /// # Errors
    /// The bytes are no value within the limits. The rest of the connection can't be decoded.
    pub fn poll(&mut self) -> Result<Option<&[u8]>, FrameError> {
        Ok(self.poll_range()?.map(|value| &self.bytes[value]))
    }

    /// Takes the start of a container and returns how many pairs or elements follow, 0 for nil. `None` until more
    /// bytes are fed. Call it between values only.
    ///
    /// # Errors
    /// The bytes are no such container. The rest of the connection can't be decoded.
    pub fn enter(&mut self, container: Container) -> Result<Option<u64>, FrameError> {
        let rest = &self.bytes[self.start..];
        let Some(head) = Head::read(rest) else { return Ok(None) };
        let Head { bytes, values } = head?;
        let inside = match (container, rest[0]) {
            (_, 0xc0) => 0,
            (Container::Map, 0x80..=0x8f | 0xde | 0xdf) => values / 2,
            (Container::Array, 0x90..=0x9f | 0xdc | 0xdd) => values,
            _ => return Err(FrameError::OtherKind),
        };
        self.start += bytes;
        Ok(Some(inside))
    }

    /// Bytes that have arrived and were not taken.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Takes a whole value of `bytes` bytes, which the caller has found at the start of [`rest`](Self::rest).
    pub(super) fn take(&mut self, bytes: usize) {
        self.start += bytes;
        self.scan = Scan::default();
    }

    /// A value that [`poll_range`](Self::poll_range) took, until more bytes are fed.
    pub(super) fn value(&self, value: Range<usize>) -> &[u8] {
        &self.bytes[value]
    }

    /// Like [`poll`](Self::poll), but borrows nothing: [`value`](Self::value) has the bytes.
    pub(super) fn poll_range(&mut self) -> Result<Option<Range<usize>>, FrameError> {
        let Some(len) = self.scan.resume(&self.bytes[self.start..], self.value_bytes_max)? else {
            return Ok(None);
        };
        self.scan = Scan::default();
        let value = self.start..self.start + len;
        self.start = value.end;
        Ok(Some(value))
    }

    /// Whether an incomplete value is left.
    pub fn is_mid_value(&self) -> bool {
        self.start < self.bytes.len()
    }
}

/// Why bytes are refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A value is longer than allowed, or announces a length beyond that.
    #[error("a message is too large")]
    TooLarge,
    /// Containers are nested too deeply.
    #[error("a message is nested too deeply")]
    TooDeep,
    /// The value is not the expected map or array.
    #[error("a message of another kind")]
    OtherKind,
    /// A byte that is no msgpack type.
    #[error("bytes that are not msgpack")]
    NotMsgpack,
}

/// The kind of container that [`Frames::enter`] expects.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Container {
    /// A map: keys and values.
    Map,
    /// An array.
    Array,
}

/// How far the value at the front has been scanned.
#[derive(Debug, Default)]
struct Scan {
    /// Bytes that are known to belong to the value; may exceed those that have arrived.
    at: usize,
    /// Values that are missing in each open container, outermost first.
    open: Vec<u64>,
    begun: bool,
}

impl Scan {
    /// Scans on in `bytes`, which begin with the value. Returns the value's length once it has arrived whole.
    fn resume(&mut self, bytes: &[u8], bytes_max: usize) -> Result<Option<usize>, FrameError> {
        loop {
            if self.begun && self.open.is_empty() {
                return Ok((self.at <= bytes.len()).then_some(self.at));
            }
            let Some(head) = bytes.get(self.at..).and_then(Head::read) else { return Ok(None) };
            let head = head?;
            self.at = self.at.saturating_add(head.bytes);
            // Each missing value has at least one byte.
            let least = head.values.saturating_add(self.at as u64);
            if least > bytes_max as u64 {
                return Err(FrameError::TooLarge);
            }
            self.begun = true;
            if let Some(left) = self.open.last_mut() {
                *left -= 1;
            }
            if head.values > 0 {
                self.open.push(head.values);
            }
            if self.open.len() > MSGPACK_DEPTH_MAX as usize {
                return Err(FrameError::TooDeep);
            }
            while self.open.last() == Some(&0) {
                self.open.pop();
            }
        }
    }
}

/// The head of a value: the bytes up to its end, or to the first element of a container.
struct Head {
    bytes: usize,
    values: u64,
}

impl Head {
    /// `None` until the length has arrived.
    fn read(rest: &[u8]) -> Option<Result<Head, FrameError>> {
        let number = |bytes: usize| {
            let digits = rest.get(1..1 + bytes)?;
            Some(digits.iter().fold(0u64, |number, &digit| number << 8 | u64::from(digit)))
        };
        let leaf = |bytes: u64| Some(Ok(Head { bytes: 1 + bytes as usize, values: 0 }));
        let container = |bytes: usize, values: u64| Some(Ok(Head { bytes: 1 + bytes, values }));
        match *rest.first()? {
            marker @ 0x80..=0x8f => container(0, u64::from(marker & 0x0f) * 2),
            marker @ 0x90..=0x9f => container(0, u64::from(marker & 0x0f)),
            0xdc => container(2, number(2)?),
            0xdd => container(4, number(4)?),
            0xde => container(2, number(2)? * 2),
            0xdf => container(4, number(4)? * 2),
            marker @ 0xa0..=0xbf => leaf(u64::from(marker & 0x1f)),
            0xc4 | 0xd9 => leaf(1 + number(1)?),
            0xc5 | 0xda => leaf(2 + number(2)?),
            0xc6 | 0xdb => leaf(4 + number(4)?),
            0xc7 => leaf(2 + number(1)?),
            0xc8 => leaf(3 + number(2)?),
            0xc9 => leaf(5 + number(4)?),
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => leaf(0),
            0xcc | 0xd0 => leaf(1),
            0xcd | 0xd1 | 0xd4 => leaf(2),
            0xd5 => leaf(3),
            0xce | 0xd2 | 0xca => leaf(4),
            0xd6 => leaf(5),
            0xcf | 0xd3 | 0xcb => leaf(8),
            0xd7 => leaf(9),
            0xd8 => leaf(17),
            0xc1 => Some(Err(FrameError::NotMsgpack)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const VALUES: [&[u8]; 9] = [
        b"\x05",
        b"\x80",
        b"\xa0",
        b"\xc4\x02\x00\x01",
        b"\x82\xa7Command\xa5event\xa3Seq\xcd\x01\x00",
        b"\x92\x92\x90\xc0\x81\x01\x92\x02\x03",
        b"\xd7\x00\x01\x02\x03\x04\x05\x06\x07\x08",
        b"\xc7\x01\x00\xff",
        b"\xdc\x00\x02\xcb\x00\x00\x00\x00\x00\x00\x00\x00\xff",
    ];

    #[test]
    fn any_split_of_the_stream_gives_the_same_values() {
        let stream = VALUES.concat();
        for part in 1..=stream.len() {
            let (mut frames, mut got) = (Frames::new(64), Vec::new());
            for piece in stream.chunks(part) {
                frames.feed(piece);
                while let Some(value) = frames.poll().unwrap() {
                    got.push(value.to_vec());
                }
            }
            assert_eq!(got, VALUES, "in parts of {part}");
            assert!(!frames.is_mid_value());
        }
    }

    #[test]
    fn announcements_beyond_the_limit_are_refused_at_once() {
        for (bytes, error) in [
            (&b"\xdb\xff\xff\xff\xff"[..], FrameError::TooLarge),
            (b"\xdf\xff\xff\xff\xff", FrameError::TooLarge),
            (b"\x92\xc4\x3c", FrameError::TooLarge),
            (&[0x91; 40], FrameError::TooDeep),
            (b"\xc1", FrameError::NotMsgpack),
        ] {
            let mut frames = Frames::new(60);
            frames.feed(bytes);
            assert_eq!(frames.poll(), Err(error), "{bytes:x?}");
        }
        let mut frames = Frames::new(60);
        frames.feed(&[&b"\xd9\x3a"[..], &[b'x'; 58]].concat());
        assert_eq!(frames.poll().unwrap().unwrap().len(), 60);
    }

    #[test]
    fn containers_are_entered() {
        let mut frames = Frames::new(60);
        frames.feed(b"\x81");
        assert_eq!(frames.enter(Container::Array), Err(FrameError::OtherKind));
        assert_eq!(frames.enter(Container::Map), Ok(Some(1)));
        frames.feed(b"\xa1k\xdc");
        assert_eq!(frames.poll(), Ok(Some(&b"\xa1k"[..])));
        assert_eq!(frames.enter(Container::Array), Ok(None));
        frames.feed(b"\x00\x02\x07\xc0");
        assert_eq!(frames.enter(Container::Array), Ok(Some(2)));
        assert_eq!(frames.enter(Container::Map), Err(FrameError::OtherKind));
        assert_eq!(frames.poll(), Ok(Some(&b"\x07"[..])));
        assert_eq!(frames.enter(Container::Array), Ok(Some(0)));
    }

    #[test]
    fn half_a_value_is_waited_for() {
        let mut frames = Frames::new(60);
        frames.feed(b"\x82\xa1k\x01");
        assert_eq!(frames.poll(), Ok(None));
        assert!(frames.is_mid_value());
    }
}
