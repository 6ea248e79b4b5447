//! Encoding and decoding of types in the RPC dialect of msgpack: strings as str, bytes as bin, structs as maps with
//! sorted keys. Decodes what Serf's decoder accepts: every dialect, structs as arrays, lists and bytes as maps, nil for
//! any type.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::wire::msgpack::{Reader, write_array, write_bool, write_int, write_map, write_uint};
use crate::wire::serf::LamportTime;
use crate::wire::{DecodeError, ip_from_bytes, ip_to_bytes};

type Result<T> = std::result::Result<T, DecodeError>;

/// A type of the RPC protocol.
pub trait Value: Default {
    /// Appends the value.
    fn encode(&self, out: &mut Vec<u8>);

    /// Decodes a value over this one: a struct keeps the fields that are missing, any other type is replaced, and nil
    /// replaces a struct too.
    ///
    /// # Errors
    /// The bytes can't be decoded, with the reason. Some fields may have been replaced.
    fn decode_over(&mut self, reader: &mut Reader<'_>) -> Result<()>;

    /// Decodes a value from the start of `bytes`; missing fields are zero.
    ///
    /// # Errors
    /// The bytes can't be decoded, with the reason.
    fn decode(bytes: &[u8]) -> Result<Self> {
        let mut value = Self::default();
        value.decode_over(&mut Reader::new(bytes))?;
        Ok(value)
    }
}

/// The most elements of one list. Elements are allocated before they are checked, so their number has a bound.
const LIST_LEN_MAX: u32 = 1 << 20;

/// Declares a struct of the protocol, with its fields in the order in which Serf declares them. That is the order of
/// structs encoded as arrays; in maps the keys are sorted.
macro_rules! record {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty = $key:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $kind,)* }

        impl $crate::ipc::value::Value for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                let keys = const { $crate::ipc::value::sorted([$($key),*]) };
                $crate::wire::msgpack::write_map(out, keys.len() as u32);
                for key in keys {
                    $crate::ipc::value::write_str(out, key);
                    match key {
                        $($key => self.$field.encode(out),)*
                        _ => unreachable!("keys and fields are one list"),
                    }
                }
            }

            fn decode_over(
                &mut self,
                reader: &mut $crate::wire::msgpack::Reader<'_>,
            ) -> std::result::Result<(), $crate::wire::DecodeError> {
                const KEYS: &[&str] = &[$($key),*];
                if reader.nil()? {
                    *self = Self::default();
                    return Ok(());
                }
                reader.fields(KEYS, |reader, place| match KEYS[place] {
                    $($key => self.$field.decode_over(reader),)*
                    _ => unreachable!("keys and fields are one list"),
                })
            }
        }
    };
}
pub(super) use record;

/// Field names in the order of encoded maps.
pub(super) const fn sorted<const N: usize>(mut keys: [&'static str; N]) -> [&'static str; N] {
    let mut end = 1;
    while end < N {
        let mut at = end;
        while at > 0 && before(keys[at].as_bytes(), keys[at - 1].as_bytes()) {
            let key = keys[at];
            keys[at] = keys[at - 1];
            keys[at - 1] = key;
            at -= 1;
        }
        end += 1;
    }
    keys
}

const fn before(left: &[u8], right: &[u8]) -> bool {
    let mut at = 0;
    while at < left.len() && at < right.len() {
        if left[at] != right[at] {
            return left[at] < right[at];
        }
        at += 1;
    }
    left.len() < right.len()
}

/// Encodes a string in the str family.
pub(super) fn write_str(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        len @ 0..=31 => out.push(0xa0 | len as u8),
        len @ 32..=0xff => out.extend_from_slice(&[0xd9, len as u8]),
        len @ 0x100..=0xffff => {
            out.push(0xda);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0xdb);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// Encodes bytes in the bin family; nil if empty, as Serf 0.9.4 does.
pub(super) fn write_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        0 => out.push(0xc0),
        len @ 1..=0xff => out.extend_from_slice(&[0xc4, len as u8]),
        len @ 0x100..=0xffff => {
            out.push(0xc5);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0xc6);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

/// Decodes text. Bytes that are not UTF-8 become U+FFFD, so that one member with a Latin-1 tag does not make the
/// whole list of members unreadable.
impl Value for String {
    fn encode(&self, out: &mut Vec<u8>) {
        write_str(out, self);
    }

    fn decode_over(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        *self = String::from_utf8_lossy(reader.raw()?).into_owned();
        Ok(())
    }
}

impl Value for Vec<u8> {
    fn encode(&self, out: &mut Vec<u8>) {
        write_bin(out, self);
    }

    fn decode_over(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        *self = reader.bytes()?.into_owned();
        Ok(())
    }
}

/// An address as its 4 or 16 bytes; any other length is the unspecified address.
impl Value for Option<IpAddr> {
    fn encode(&self, out: &mut Vec<u8>) {
        write_bin(out, &self.map(ip_to_bytes).unwrap_or_default());
    }

    fn decode_over(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        *self = ip_from_bytes(&reader.bytes()?);
        Ok(())
    }
}

impl Value for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        write_bool(out, *self);
    }

    fn decode_over(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        *self = reader.bool()?;
        Ok(())
    }
}

impl Value for f64 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(0xcb);
        out.extend_from_slice(&self.to_bits().to_be_bytes());
    }

    fn decode_over(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        *self = reader.f64()?;
        Ok(())
    }
}

impl Value for LamportTime {
    fn encode(&self, out: &mut Vec<u8>) {
        write_uint(out, self.0);
    }

    fn decode_over(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        self.0.decode_over(reader)
    }
}

macro_rules! integers {
    ($($kind:ty: $write:ident as $wide:ty,)*) => {$(
        impl Value for $kind {
            fn encode(&self, out: &mut Vec<u8>) {
                $write(out, <$wide>::from(*self));
            }

            fn decode_over(&mut self, reader: &mut Reader<'_>) -> Result<()> {
                *self = <$kind>::try_from(reader.int()?).map_err(|_| DecodeError::FieldOverflow)?;
                Ok(())
            }
        }
    )*};
}

integers! {
    u8: write_uint as u64,
    u16: write_uint as u64,
    u64: write_uint as u64,
    i32: write_int as i64,
    i64: write_int as i64,
}

macro_rules! lists {
    ($($kind:ty: $empty:literal,)*) => {$(
        impl Value for Vec<$kind> {
            fn encode(&self, out: &mut Vec<u8>) {
                if self.is_empty() {
                    return out.push($empty);
                }
                write_array(out, self.len() as u32);
                self.iter().for_each(|element| element.encode(out));
            }

            fn decode_over(&mut self, reader: &mut Reader<'_>) -> Result<()> {
                self.clear();
                let len = reader.list()?;
                if len > LIST_LEN_MAX {
                    return Err(DecodeError::BadMsgpack);
                }
                for _ in 0..len {
                    let mut element = <$kind>::default();
                    element.decode_over(reader)?;
                    self.push(element);
                }
                Ok(())
            }
        }
    )*};
}

// Serf's encoding of an empty list: nil for a nil slice of Go, an empty array for a slice without elements.
lists! {
    String: 0xc0,
    f64: 0xc0,
    crate::ipc::response::Member: 0x90,
}

impl<V: Value> Value for BTreeMap<String, V> {
    fn encode(&self, out: &mut Vec<u8>) {
        write_map(out, self.len() as u32);
        for (key, value) in self {
            key.encode(out);
            value.encode(out);
        }
    }

    fn decode_over(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        self.clear();
        let pairs = reader.map()?;
        if pairs > LIST_LEN_MAX {
            return Err(DecodeError::BadMsgpack);
        }
        for _ in 0..pairs {
            let mut key = String::new();
            key.decode_over(reader)?;
            let mut value = V::default();
            value.decode_over(reader)?;
            self.insert(key, value);
        }
        Ok(())
    }
}

impl Value for Option<BTreeMap<String, i32>> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Some(map) => map.encode(out),
            None => out.push(0xc0),
        }
    }

    fn decode_over(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        *self = None;
        if !reader.nil()? {
            self.insert(BTreeMap::new()).decode_over(reader)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, unreachable_pub)]
    use super::*;

    record! {
        /// Declared out of order, to test the order of the encoding.
        Sample {
            /// A number.
            zulu: i32 = "Zulu",
            /// Text.
            alpha: String = "Alpha",
            /// Bytes.
            al: Vec<u8> = "Al",
        }
    }

    fn sample() -> Sample {
        Sample { zulu: 300, alpha: "x".into(), al: vec![1] }
    }

    #[test]
    fn keys_are_sorted_and_arrays_are_in_declaration_order() {
        let mut out = Vec::new();
        sample().encode(&mut out);
        assert_eq!(out, b"\x83\xa2Al\xc4\x01\x01\xa5Alpha\xa1x\xa4Zulu\xcd\x01\x2c");
        assert_eq!(Sample::decode(&out), Ok(sample()));
        assert_eq!(Sample::decode(b"\x93\xcd\x01\x2c\xa1x\xc4\x01\x01"), Ok(sample()));
        assert_eq!(Sample::decode(b"\x91\x07"), Ok(Sample { zulu: 7, ..Sample::default() }));
    }

    #[test]
    fn either_dialect_nil_and_unknown_keys_are_taken() {
        let raw = b"\x84\xa4Zulu\xd1\x01\x2c\xa5Alpha\xc4\x01x\xa2Al\xa1\x01\xa5Other\x91\xc0";
        assert_eq!(Sample::decode(raw), Ok(sample()));
        assert_eq!(Sample::decode(b"\x82\xa4Zulu\xc0\xa5Alpha\xc0"), Ok(Sample::default()));
        assert_eq!(Sample::decode(b"\xc0"), Ok(Sample::default()));
        assert_eq!(Sample::decode(b"\x81\xa5Alpha\xa1\xff").unwrap().alpha, "\u{fffd}");
        let overflow = Sample::decode(b"\x81\xa4Zulu\xce\xff\xff\xff\xff");
        assert_eq!(overflow, Err(DecodeError::FieldOverflow));
    }

    #[test]
    fn a_missing_field_keeps_what_was_there() {
        let mut value = sample();
        value.decode_over(&mut Reader::new(b"\x81\xa5Alpha\xa1y")).unwrap();
        assert_eq!(value, Sample { alpha: "y".into(), ..sample() });
    }

    #[test]
    fn nil_erases_a_struct_and_maps_are_lists_of_keys_and_values() {
        let mut value = sample();
        value.decode_over(&mut Reader::new(b"\xc0")).unwrap();
        assert_eq!(value, Sample::default());
        assert_eq!(
            Vec::<String>::decode(b"\x82\xa1a\xa1b\xa1c\xc0"),
            Ok(["a", "b", "c", ""].map(String::from).into())
        );
        assert_eq!(Vec::<String>::decode(b"\x80"), Ok(vec![]));
        assert_eq!(Vec::<u8>::decode(b"\x82\x01\x02\x03\x04"), Ok(vec![1, 2, 3, 4]));
        assert_eq!(Vec::<u8>::decode(b"\x80"), Ok(vec![]));
        assert_eq!(Vec::<u8>::decode(b"\x81\xa1a\xa1b"), Err(DecodeError::BadMsgpack));
        assert_eq!(Vec::<u8>::decode(b"\xdf\xff\xff\xff\xff\x01"), Err(DecodeError::Truncated));
    }

    #[test]
    fn every_width_of_text_and_bytes_reads_back() {
        for len in [0, 1, 31, 32, 255, 256, 65_535, 65_536] {
            let value = Sample { zulu: -5, alpha: "a".repeat(len), al: vec![9; len] };
            let mut out = Vec::new();
            value.encode(&mut out);
            assert_eq!(Sample::decode(&out), Ok(value));
        }
    }

    #[test]
    fn announced_lengths_reserve_nothing() {
        assert_eq!(Vec::<String>::decode(b"\xdd\xff\xff\xff\xff"), Err(DecodeError::BadMsgpack));
        assert_eq!(Vec::<String>::decode(b"\xdd\x00\x0f\xff\xff\xc0"), Err(DecodeError::Truncated));
        assert_eq!(BTreeMap::<String, i32>::decode(b"\xdf\xff\xff\xff\xff"), Err(DecodeError::BadMsgpack));
    }
}
