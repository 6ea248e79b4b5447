//! The msgpack of gossip: written in the old raw dialect, read in every dialect that Serf's
//! decoders take (PROTOCOL section 1).

use std::borrow::Cow;

use crate::wire::decode_error::DecodeError;
use crate::wire::limits::MSGPACK_DEPTH_MAX;

/// Reads msgpack values from a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Result<T> = std::result::Result<T, DecodeError>;

/// How a struct is laid out: fields by name, or in declaration order.
#[derive(Copy, Clone, Debug)]
pub enum Struct {
    /// So many name and value pairs.
    Map(u32),
    /// So many values in declaration order.
    Array(u32),
    /// Nothing: all fields are zero.
    Nil,
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The next marker byte, left unread.
    #[inline]
    pub fn peek(&self) -> Result<u8> {
        self.bytes.get(self.at).copied().ok_or(DecodeError::Truncated)
    }

    /// Skips exactly these bytes if they come next.
    #[inline]
    pub fn literal(&mut self, bytes: &[u8]) -> Option<()> {
        self.bytes.get(self.at..)?.starts_with(bytes).then(|| self.at += bytes.len())
    }

    /// Skips `n` raw bytes and returns them.
    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(n).ok_or(DecodeError::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(DecodeError::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    fn big_endian(&mut self, n: usize) -> Result<u64> {
        let mut value = [0; 8];
        value[8 - n..].copy_from_slice(self.take(n)?);
        Ok(u64::from_be_bytes(value))
    }

    #[inline]
    fn marker(&mut self) -> Result<u8> {
        let marker = self.peek()?;
        self.at += 1;
        Ok(marker)
    }

    /// Whether the next value is nil; skips it if so.
    pub fn nil(&mut self) -> Result<bool> {
        let nil = self.peek()? == 0xc0;
        self.at += usize::from(nil);
        Ok(nil)
    }

    /// An integer of any width and sign; nil is zero.
    pub fn int(&mut self) -> Result<i128> {
        Ok(match self.marker()? {
            marker @ 0x00..=0x7f => i128::from(marker),
            marker @ 0xe0..=0xff => i128::from(marker as i8),
            0xc0 => 0,
            0xcc => i128::from(self.big_endian(1)?),
            0xcd => i128::from(self.big_endian(2)?),
            0xce => i128::from(self.big_endian(4)?),
            0xcf => i128::from(self.big_endian(8)?),
            0xd0 => i128::from(self.big_endian(1)? as u8 as i8),
            0xd1 => i128::from(self.big_endian(2)? as u16 as i16),
            0xd2 => i128::from(self.big_endian(4)? as u32 as i32),
            0xd3 => i128::from(self.big_endian(8)? as i64),
            _ => return Err(DecodeError::BadMsgpack),
        })
    }

    /// A non-negative integer that fits 64 bits.
    #[inline]
    pub fn u64(&mut self) -> Result<u64> {
        match self.bytes.get(self.at..) {
            Some(&[small @ 0x00..=0x7f, ..]) => {
                self.at += 1;
                Ok(u64::from(small))
            }
            // Ports.
            Some(&[0xcd, high, low, ..]) => {
                self.at += 3;
                Ok(u64::from(u16::from_be_bytes([high, low])))
            }
            _ => self.long_u64(),
        }
    }

    fn long_u64(&mut self) -> Result<u64> {
        u64::try_from(self.int()?).map_err(|_| DecodeError::FieldOverflow)
    }

    /// A non-negative integer that fits 32 bits.
    #[inline]
    pub fn u32(&mut self) -> Result<u32> {
        u32::try_from(self.u64()?).map_err(|_| DecodeError::FieldOverflow)
    }

    /// A non-negative integer that fits 16 bits.
    #[inline]
    pub fn u16(&mut self) -> Result<u16> {
        u16::try_from(self.u64()?).map_err(|_| DecodeError::FieldOverflow)
    }

    /// A non-negative integer that fits 8 bits.
    #[inline]
    pub fn u8(&mut self) -> Result<u8> {
        u8::try_from(self.u64()?).map_err(|_| DecodeError::FieldOverflow)
    }

    /// An integer that fits 64 bits with sign.
    pub fn i64(&mut self) -> Result<i64> {
        i64::try_from(self.int()?).map_err(|_| DecodeError::FieldOverflow)
    }

    /// A boolean; 0, 1 and nil count.
    pub fn bool(&mut self) -> Result<bool> {
        match self.marker()? {
            0xc0 | 0xc2 | 0x00 => Ok(false),
            0xc3 | 0x01 => Ok(true),
            _ => Err(DecodeError::BadMsgpack),
        }
    }

    /// A float of 64 or 32 bits; nil is zero.
    pub fn f64(&mut self) -> Result<f64> {
        match self.marker()? {
            0xc0 => Ok(0.0),
            0xca => Ok(f64::from(f32::from_bits(self.big_endian(4)? as u32))),
            0xcb => Ok(f64::from_bits(self.big_endian(8)?)),
            _ => Err(DecodeError::BadMsgpack),
        }
    }

    /// The bytes of a raw, string or binary value; nil is empty.
    #[inline]
    pub fn raw(&mut self) -> Result<&'a [u8]> {
        if let marker @ 0xa0..=0xbf = self.peek()? {
            self.at += 1;
            return self.take(usize::from(marker & 0x1f));
        }
        self.long_raw()
    }

    fn long_raw(&mut self) -> Result<&'a [u8]> {
        // All that is longer than 31 bytes, as gossip writes it.
        if let Some(&[0xda, high, low, ..]) = self.bytes.get(self.at..) {
            self.at += 3;
            return self.take(usize::from(u16::from_be_bytes([high, low])));
        }
        let len = match self.marker()? {
            0xc0 => 0,
            0xc4 | 0xd9 => self.big_endian(1)?,
            0xc5 | 0xda => self.big_endian(2)?,
            0xc6 | 0xdb => self.big_endian(4)?,
            _ => return Err(DecodeError::BadMsgpack),
        };
        self.take(usize::try_from(len).map_err(|_| DecodeError::Truncated)?)
    }

    /// Bytes that the raw value at the reader takes with its header, whether or not they are there yet.
    pub fn raw_announced(&self) -> Option<usize> {
        let rest = self.rest();
        let length = |bytes: usize| {
            let field = rest.get(1..1 + bytes)?;
            let length = field.iter().fold(0usize, |value, &byte| value << 8 | usize::from(byte));
            Some(1 + bytes + length)
        };
        match *rest.first()? {
            marker @ 0xa0..=0xbf => Some(1 + usize::from(marker & 0x1f)),
            0xc4 | 0xd9 => length(1),
            0xc5 | 0xda => length(2),
            0xc6 | 0xdb => length(4),
            _ => None,
        }
    }

    /// A UTF-8 string; nil is empty.
    #[inline]
    pub fn str(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.raw()?).map_err(|_| DecodeError::BadUtf8)
    }

    /// Bytes; a [`list`](Self::list) of small integers counts too (Go accepts it).
    #[inline]
    pub fn bytes(&mut self) -> Result<Cow<'a, [u8]>> {
        if !matches!(self.peek()?, 0x80..=0x9f | 0xdc..=0xdf) {
            return self.raw().map(Cow::Borrowed);
        }
        self.bytes_in_list()
    }

    fn bytes_in_list(&mut self) -> Result<Cow<'a, [u8]>> {
        let len = self.list()?;
        // Each element takes a byte at least, so this can't reserve more than arrived.
        if len as usize > self.rest().len() {
            return Err(DecodeError::Truncated);
        }
        (0..len).map(|_| self.u8()).collect::<Result<Vec<u8>>>().map(Cow::Owned)
    }

    /// The length of an array; nil is empty.
    pub fn array(&mut self) -> Result<u32> {
        match self.marker()? {
            marker @ 0x90..=0x9f => Ok(u32::from(marker & 0x0f)),
            0xc0 => Ok(0),
            0xdc => Ok(self.big_endian(2)? as u32),
            0xdd => Ok(self.big_endian(4)? as u32),
            _ => Err(DecodeError::BadMsgpack),
        }
    }

    /// The elements of a list: an array, or a map, whose keys and values count one after the other, as for Go; nil is
    /// empty.
    pub fn list(&mut self) -> Result<u32> {
        match self.peek()? {
            0x80..=0x8f | 0xde | 0xdf => self.map()?.checked_mul(2).ok_or(DecodeError::Truncated),
            _ => self.array(),
        }
    }

    /// The number of pairs of a map; nil is empty.
    pub fn map(&mut self) -> Result<u32> {
        match self.marker()? {
            marker @ 0x80..=0x8f => Ok(u32::from(marker & 0x0f)),
            0xc0 => Ok(0),
            0xde => Ok(self.big_endian(2)? as u32),
            0xdf => Ok(self.big_endian(4)? as u32),
            _ => Err(DecodeError::BadMsgpack),
        }
    }

    /// The start of a struct.
    pub fn open_struct(&mut self) -> Result<Struct> {
        match self.peek()? {
            0xc0 => {
                self.at += 1;
                Ok(Struct::Nil)
            }
            0x90..=0x9f | 0xdc | 0xdd => self.array().map(Struct::Array),
            _ => self.map().map(Struct::Map),
        }
    }

    /// Reads a struct: calls `field` with the place in `names` of each field that is there. Unknown fields
    /// and surplus array elements are skipped; missing ones stay as they are.
    pub fn fields(
        &mut self,
        names: &[&str],
        mut field: impl FnMut(&mut Reader<'a>, usize) -> Result<()>,
    ) -> Result<()> {
        match self.open_struct()? {
            Struct::Nil => {}
            Struct::Array(len) => {
                for place in 0..len as usize {
                    if place < names.len() { field(self, place)? } else { self.skip()? }
                }
            }
            Struct::Map(pairs) => {
                for _ in 0..pairs {
                    let name = self.raw()?;
                    // Lengths and last letters distinguish nearly all names; comparing whole names costs a call.
                    let is_it = |known: &&str| {
                        let known = known.as_bytes();
                        known.len() == name.len() && known.last() == name.last() && known == name
                    };
                    match names.iter().position(is_it) {
                        Some(place) => field(self, place)?,
                        None => self.skip()?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Skips one value, whatever it is.
    pub fn skip(&mut self) -> Result<()> {
        self.skip_within(MSGPACK_DEPTH_MAX)
    }

    fn skip_within(&mut self, depth: u32) -> Result<()> {
        let depth = depth.checked_sub(1).ok_or(DecodeError::BadMsgpack)?;
        let (values, bytes) = match self.peek()? {
            0x80..=0x8f | 0xde | 0xdf => (u64::from(self.map()?) * 2, 0),
            0x90..=0x9f | 0xdc | 0xdd => (u64::from(self.array()?), 0),
            0xa0..=0xbf | 0xc4..=0xc6 | 0xd9..=0xdb => {
                self.raw()?;
                (0, 0)
            }
            marker => {
                self.at += 1;
                let bytes = match marker {
                    0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => 0,
                    0xcc | 0xd0 => 1,
                    0xcd | 0xd1 | 0xd4 => 2,
                    0xd5 => 3,
                    0xce | 0xd2 | 0xca => 4,
                    0xd6 => 5,
                    0xcf | 0xd3 | 0xcb => 8,
                    0xd7 => 9,
                    0xd8 => 17,
                    0xc7 => self.big_endian(1)? as usize + 1,
                    0xc8 => self.big_endian(2)? as usize + 1,
                    0xc9 => self.big_endian(4)? as usize + 1,
                    _ => return Err(DecodeError::BadMsgpack),
                };
                (0, bytes)
            }
        };
        self.take(bytes)?;
        for _ in 0..values {
            self.skip_within(depth)?;
        }
        Ok(())
    }
}

/// Writes the header of a map.
pub fn write_map(out: &mut Vec<u8>, pairs: u32) {
    match pairs {
        0..=15 => out.push(0x80 | pairs as u8),
        16..=0xffff => {
            out.push(0xde);
            out.extend_from_slice(&(pairs as u16).to_be_bytes());
        }
        _ => {
            out.push(0xdf);
            out.extend_from_slice(&pairs.to_be_bytes());
        }
    }
}

/// Writes the header of an array.
pub fn write_array(out: &mut Vec<u8>, len: u32) {
    match len {
        0..=15 => out.push(0x90 | len as u8),
        16..=0xffff => {
            out.push(0xdc);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(0xdd);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
}

/// Writes a string or bytes in the old raw family, as all gossip does.
#[inline]
pub fn write_raw(out: &mut Vec<u8>, bytes: &[u8]) {
    write_raw_header(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Writes what comes before the bytes of a string of that length.
#[inline]
pub fn write_raw_header(out: &mut Vec<u8>, bytes: usize) {
    match bytes {
        len @ 0..=31 => out.push(0xa0 | len as u8),
        len @ 32..=0xffff => {
            out.push(0xda);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0xdb);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

/// Bytes, or nil where empty: what Serf 0.9.4 sends for an empty payload.
pub fn write_raw_or_nil(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_empty() { out.push(0xc0) } else { write_raw(out, bytes) }
}

/// Writes a non-negative integer in its shortest form.
#[inline]
pub fn write_uint(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(value as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(value as u32).to_be_bytes());
        }
        _ => {
            out.push(0xcf);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

/// Writes an integer in its shortest form; non-negative ones as Serf 0.9.4 does, without sign.
pub fn write_int(out: &mut Vec<u8>, value: i64) {
    match value {
        0.. => write_uint(out, value as u64),
        -32..=-1 => out.push(value as u8),
        _ => {
            out.push(0xd3);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

/// Writes a boolean.
pub fn write_bool(out: &mut Vec<u8>, value: bool) {
    out.push(if value { 0xc3 } else { 0xc2 });
}

/// Writes a float of 64 bits, as all gossip does.
pub fn write_f64(out: &mut Vec<u8>, value: f64) {
    out.push(0xcb);
    out.extend_from_slice(&value.to_bits().to_be_bytes());
}

/// Bytes that [`write_raw`] takes.
pub fn raw_len(bytes: usize) -> usize {
    bytes
        + match bytes {
            0..=31 => 1,
            32..=0xffff => 3,
            _ => 5,
        }
}

/// Bytes that [`write_uint`] takes.
pub fn uint_len(value: u64) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

#[cfg(test)]
mod tests;
