//! The LZW of Go's compress/lzw: least significant bit first, 8-bit literals (PROTOCOL 2.6).
//!
//! The encoder is written here: weezl's takes twice as long for a push/pull, and four times for bytes without
//! repetitions.

use weezl::{BitOrder, LzwStatus, decode::Decoder};

use crate::wire::decode_error::DecodeError;

/// Forget all strings.
const CLEAR: u32 = 256;
/// The end of the stream.
const END: u32 = 257;
/// Bits of the first codes after a clear.
const WIDTH_MIN: u32 = 9;
/// Strings are forgotten when this code is given out: the last that Go's reader has room for.
const CODE_MAX: u32 = 4095;

/// Appends the LZW stream of `raw`.
pub fn compress(raw: &[u8], out: &mut Vec<u8>) {
    let mut codes = Codes { out, bits: 0, bits_count: 0, width: WIDTH_MIN, last: END };
    codes.write(CLEAR);
    if let Some((&first, rest)) = raw.split_first() {
        let mut strings = Strings::new();
        let mut prefix = u32::from(first);
        for &byte in rest {
            match strings.find(prefix, byte) {
                Ok(code) => prefix = code,
                Err(place) => {
                    codes.write(prefix);
                    match codes.next() {
                        Some(code) => strings.set(place, prefix, byte, code),
                        None => strings.clear(),
                    }
                    prefix = u32::from(byte);
                }
            }
        }
        codes.write(prefix);
        codes.next();
    }
    codes.write(END);
    codes.finish();
}

/// The stream of codes, and which of them are given out.
struct Codes<'o> {
    out: &'o mut Vec<u8>,
    /// Not written yet, the first ones lowest.
    bits: u64,
    bits_count: u32,
    width: u32,
    /// Given out last.
    last: u32,
}

impl Codes<'_> {
    #[inline]
    fn write(&mut self, code: u32) {
        self.bits |= u64::from(code) << self.bits_count;
        self.bits_count += self.width;
        if self.bits_count >= 32 {
            self.out.extend_from_slice(&(self.bits as u32).to_le_bytes());
            self.bits >>= 32;
            self.bits_count -= 32;
        }
    }

    /// Assigns the next code to the last string with the byte that follows. None if all codes are in use: then the
    /// strings are to be forgotten. The reader counts along, so it happens after each code.
    #[inline]
    fn next(&mut self) -> Option<u32> {
        self.last += 1;
        if self.last == 1 << self.width {
            self.width += 1;
        }
        if self.last < CODE_MAX {
            return Some(self.last);
        }
        self.write(CLEAR);
        self.width = WIDTH_MIN;
        self.last = END;
        None
    }

    fn finish(self) {
        let bytes = self.bits_count.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.bits.to_le_bytes()[..bytes]);
    }
}

const PLACES_LOG2: u32 = 13;
const PLACES: usize = 1 << PLACES_LOG2;

/// The strings that have a code, as the code of all but the last byte and that byte. Most strings are the
/// beginning of at most one longer one, which lies in a small array and is found at once; further ones lie in a
/// hash table with linear probing, less than half full.
struct Strings {
    /// For each code the first string that goes on from it: one more than the byte (9 bits), code (12 bits); 0 if
    /// none does.
    firsts: Box<[u32; CODE_MAX as usize + 1]>,
    /// Prefix (12 bits), byte (8 bits), code (12 bits, never 0); 0 where nothing is.
    places: Box<[u32; PLACES]>,
}

impl Strings {
    fn new() -> Strings {
        Strings { firsts: Box::new([0; CODE_MAX as usize + 1]), places: Box::new([0; PLACES]) }
    }

    /// The code of a string, or the place for it.
    #[inline]
    fn find(&self, prefix: u32, byte: u8) -> Result<u32, usize> {
        let first = self.firsts[(prefix & CODE_MAX) as usize];
        if first >> 12 == u32::from(byte) + 1 {
            return Ok(first & CODE_MAX);
        }
        if first == 0 {
            return Err(PLACES);
        }
        let key = prefix << 8 | u32::from(byte);
        // The golden ratio's fraction: its product's high bits depend on all bits of the key.
        let mut place = (key.wrapping_mul(0x9e37_79b9) >> (32 - PLACES_LOG2)) as usize;
        loop {
            let entry = self.places[place % PLACES];
            if entry == 0 {
                return Err(place % PLACES);
            }
            if entry >> 12 == key {
                return Ok(entry & CODE_MAX);
            }
            place += 1;
        }
    }

    #[inline]
    fn set(&mut self, place: usize, prefix: u32, byte: u8, code: u32) {
        match self.places.get_mut(place) {
            Some(place) => *place = (prefix << 8 | u32::from(byte)) << 12 | code,
            None => self.firsts[(prefix & CODE_MAX) as usize] = (u32::from(byte) + 1) << 12 | code,
        }
    }

    fn clear(&mut self) {
        self.firsts.fill(0);
        self.places.fill(0);
    }
}

/// Appends the decompressed bytes, at most `bytes_max` of them (and one more where there are too many).
///
/// # Errors
/// `BadCompression` if it is no LZW stream or has no end, `DecompressedTooLarge` beyond the cap.
pub fn decompress(stream: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    const CHUNK: usize = 4096;
    let start = out.len();
    let mut decoder = Decoder::new(BitOrder::Lsb, 8);
    let mut input = stream;
    loop {
        // One byte of room beyond the cap distinguishes what is too large from what just fits.
        let filled = out.len();
        let room = (bytes_max - (filled - start)).saturating_add(1).min(CHUNK);
        out.resize(filled + room, 0);
        let result = decoder.decode_bytes(input, &mut out[filled..]);
        out.truncate(filled + result.consumed_out);
        input = &input[result.consumed_in..];
        if out.len() - start > bytes_max {
            return Err(DecodeError::DecompressedTooLarge);
        }
        match result.status {
            Ok(LzwStatus::Done) => return Ok(()),
            Ok(LzwStatus::Ok) => {}
            // Go's reader demands the end code.
            Ok(LzwStatus::NoProgress) | Err(_) => return Err(DecodeError::BadCompression),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn check(raw: &[u8]) {
        let (mut stream, mut back) = (Vec::new(), Vec::new());
        compress(raw, &mut stream);
        decompress(&stream, raw.len(), &mut back).expect("the stream is whole");
        assert!(back == raw, "{} bytes", raw.len());
        // With as many codes as Go's writer and weezl's: neither forgets strings too early.
        let theirs = weezl::encode::Encoder::new(BitOrder::Lsb, 8).encode(raw).expect("memory suffices");
        assert!(
            stream.len() <= theirs.len() + 4 + theirs.len() / 100,
            "{} of {}",
            stream.len(),
            theirs.len()
        );
    }

    #[test]
    fn weezls_reader_takes_every_length_around_each_change_of_width() {
        // Each byte makes a new string as long as no pair of bytes comes twice, so codes change their width, and
        // are forgotten, at these lengths.
        let mut random = Random::new(4);
        let raw: Vec<u8> = (0..9_000).map(|_| random.below(256) as u8).collect();
        for around in [0, 256, 770, 1_795, 3_845, 7_700] {
            for len in around.max(20) - 20..around + 20 {
                check(&raw[..len]);
                check(&vec![7; len]);
            }
        }
    }

    #[test]
    fn weezls_reader_takes_text_of_every_kind() {
        let mut random = Random::new(5);
        for letters in [1, 2, 3, 10, 100, 256] {
            for bytes in [1_000, 50_000, 200_000] {
                let raw: Vec<u8> = (0..bytes).map(|_| random.below(letters) as u8).collect();
                check(&raw);
            }
        }
        let records: String = (0..3_000).map(|n| format!("Addr 127.0.{n} Name node-{n} Port 7946")).collect();
        check(records.as_bytes());
    }
}
