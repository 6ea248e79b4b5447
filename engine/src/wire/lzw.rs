//! The LZW of Go's compress/lzw: least significant bit first, 8-bit literals (PROTOCOL 2.6).

use weezl::{BitOrder, LzwStatus, decode::Decoder, encode::Encoder};

use crate::wire::drop::DropReason;

/// Appends the LZW stream of `raw`.
pub fn compress(raw: &[u8], out: &mut Vec<u8>) {
    let mut encoder = Encoder::new(BitOrder::Lsb, 8);
    encoder.into_vec(out).encode_all(raw).status.expect("writing to memory can't fail");
}

/// Appends the decompressed bytes, at most `bytes_max` of them (and one more where there are too many).
///
/// # Errors
/// `BadCompression` if it is no LZW stream or has no end, `DecompressedTooLarge` beyond the cap.
pub fn decompress(stream: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), DropReason> {
    const CHUNK: usize = 4096;
    let start = out.len();
    let mut decoder = Decoder::new(BitOrder::Lsb, 8);
    let mut input = stream;
    loop {
        // One byte of room beyond the cap tells what is too large from what just fits.
        let filled = out.len();
        let room = (bytes_max - (filled - start)).saturating_add(1).min(CHUNK);
        out.resize(filled + room, 0);
        let result = decoder.decode_bytes(input, &mut out[filled..]);
        out.truncate(filled + result.consumed_out);
        input = &input[result.consumed_in..];
        if out.len() - start > bytes_max {
            return Err(DropReason::DecompressedTooLarge);
        }
        match result.status {
            Ok(LzwStatus::Done) => return Ok(()),
            Ok(LzwStatus::Ok) => {}
            // Go's reader demands the end code.
            Ok(LzwStatus::NoProgress) | Err(_) => return Err(DropReason::BadCompression),
        }
    }
}
