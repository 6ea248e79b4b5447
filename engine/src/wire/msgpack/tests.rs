#![allow(clippy::unwrap_used)]
use super::*;

#[test]
fn integers_of_any_width_and_sign() {
    let cases: [(&[u8], i128); 9] = [
        (&[0x7f], 127),
        (&[0xff], -1),
        (&[0xcc, 0xff], 255),
        (&[0xcd, 1, 0], 256),
        (&[0xd1, 0x46, 0x1a], 17946),
        (&[0xd0, 0x80], -128),
        (&[0xd3, 0, 0, 0, 0, 0, 0, 0, 5], 5),
        (&[0xcf, 255, 255, 255, 255, 255, 255, 255, 255], u64::MAX as i128),
        (&[0xc0], 0),
    ];
    for (bytes, value) in cases {
        assert_eq!(Reader::new(bytes).int(), Ok(value));
    }
    assert_eq!(Reader::new(&[0xff]).u32(), Err(DecodeError::FieldOverflow));
    assert_eq!(Reader::new(&[0xcb, 0, 0, 0, 0, 0, 0, 0, 0]).int(), Err(DecodeError::BadMsgpack));
}

#[test]
fn every_written_integer_reads_back_in_its_announced_length() {
    for shift in 0..64 {
        for value in [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
            let mut out = Vec::new();
            write_uint(&mut out, value);
            assert_eq!(out.len(), uint_len(value));
            assert_eq!(Reader::new(&out).u64(), Ok(value));
        }
    }
}

#[test]
fn strings_of_every_family() {
    for bytes in [&[0xa1, b'x'][..], &[0xd9, 1, b'x'], &[0xda, 0, 1, b'x'], &[0xc4, 1, b'x']] {
        assert_eq!(Reader::new(bytes).str(), Ok("x"));
        assert_eq!(&*Reader::new(bytes).bytes().unwrap(), b"x");
    }
    assert_eq!(&*Reader::new(&[0x92, 1, 0xcc, 0xff]).bytes().unwrap(), &[1, 255]);
    assert_eq!(Reader::new(&[0xdd, 255, 255, 255, 255, 1]).bytes(), Err(DecodeError::Truncated));
}

#[test]
fn skipping_is_bounded_in_depth() {
    assert_eq!(Reader::new(&[0x91; 1000]).skip(), Err(DecodeError::BadMsgpack));
    let mut reader =
        Reader::new(&[0x82, 0xa1, b'k', 0x92, 1, 2, 0xa1, b'l', 0xd7, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    reader.skip().unwrap();
    assert_eq!(reader.rest(), &[9]);
}
