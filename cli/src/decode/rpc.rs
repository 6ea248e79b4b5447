//! The bytes of one side of an RPC connection: msgpack values without framing (PROTOCOL 6).

use serde_json::{Map, Value};
use thane_engine::wire::DecodeError;
use thane_engine::wire::limits::MSGPACK_DEPTH_MAX;
use thane_engine::wire::msgpack::Reader;

use super::fields::{bytes_json, hex};

/// All values up to the end or to the first invalid one; for that the reason and the byte where it starts.
pub(super) fn values(bytes: &[u8]) -> (Vec<Value>, Option<(DecodeError, usize)>) {
    let mut reader = Reader::new(bytes);
    let mut values = Vec::new();
    while !reader.rest().is_empty() {
        let start = reader.position();
        match value(&mut reader, MSGPACK_DEPTH_MAX) {
            Ok(value) => values.push(value),
            Err(reason) => return (values, Some((reason, start))),
        }
    }
    (values, None)
}

fn value(reader: &mut Reader<'_>, depth: u32) -> Result<Value, DecodeError> {
    let depth = depth.checked_sub(1).ok_or(DecodeError::NestedTooDeep)?;
    Ok(match reader.peek()? {
        0xc0 => {
            reader.nil()?;
            Value::Null
        }
        0xc2 | 0xc3 => reader.bool()?.into(),
        0x00..=0x7f | 0xe0..=0xff | 0xcc..=0xcf | 0xd0..=0xd3 => integer(reader.int()?),
        0xca | 0xcb => reader.f64()?.into(),
        0xc4..=0xc6 => bytes_json(reader.raw()?),
        0xa0..=0xbf | 0xd9..=0xdb => {
            let raw = reader.raw()?;
            // Old clients send bytes as strings as well.
            std::str::from_utf8(raw).map_or_else(|_| bytes_json(raw), Value::from)
        }
        0x90..=0x9f | 0xdc | 0xdd => {
            let len = reader.array()?;
            (0..len).map(|_| value(reader, depth)).collect::<Result<Value, DecodeError>>()?
        }
        0x80..=0x8f | 0xde | 0xdf => {
            let pairs = reader.map()?;
            let mut map = Map::new();
            for _ in 0..pairs {
                let key = match value(reader, depth)? {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                map.insert(key, value(reader, depth)?);
            }
            Value::Object(map)
        }
        _ => extension(reader)?,
    })
}

/// Extensions, which neither side uses, are shown as hex digits.
fn extension(reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
    let start = reader.rest();
    reader.skip()?;
    let raw = &start[..start.len() - reader.rest().len()];
    Ok(serde_json::json!({ "extension": hex(raw) }))
}

fn integer(value: i128) -> Value {
    match (u64::try_from(value), i64::try_from(value)) {
        (Ok(value), _) => value.into(),
        (_, Ok(value)) => value.into(),
        _ => unreachable!("msgpack integers have 64 bits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_of_value() {
        let bytes = b"\x84\xa1n\xd3\xff\xff\xff\xff\xff\xff\xff\xfe\xa1b\xc4\x02\x01\xff\x05\xc3\xa1l\x93\xc0\xcb\x3f\xf8\0\0\0\0\0\0\xd4\x01\x02";
        let (values, refused) = values(&[&bytes[..], b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xd9"].concat());
        let map = json!({ "n": -2, "b": { "bytes": 2, "hex": "01ff" }, "5": true, "l": [null, 1.5, { "extension": "d40102" }] });
        assert_eq!(values, [map, json!(u64::MAX)]);
        assert_eq!(refused, Some((DecodeError::Truncated, bytes.len() + 9)));
    }

    #[test]
    fn depth_and_length_are_bounded() {
        assert_eq!(values(&[0x91; 1000]).1, Some((DecodeError::NestedTooDeep, 0)));
        assert_eq!(values(b"\xdd\xff\xff\xff\xff\x01").1, Some((DecodeError::Truncated, 0)));
        assert_eq!(values(b"\xc1").1, Some((DecodeError::BadMsgpack, 0)));
    }
}
