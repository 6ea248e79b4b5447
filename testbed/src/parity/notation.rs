//! RPC exchanges as cases write them, and msgpack as text.
//!
//! `NAME: request; request; …`. A request is `COMMAND [@SEQ] [BODY]` with a body in JSON, `raw HEX…` (bytes as they
//! are), `value JSON` (a value without a header) or `wait SEQ COUNT` (that many replies and records with that number).
//! In JSON `{"$bin": "text"}` is bytes, `{"$x": 600}` is so many times x, `{"$raw": "hex"}` is one value as it is.

use serde_json::Value as Json;
use thane_engine::wire::msgpack::{self, Reader};

use crate::failure::Failure;

/// One step of an exchange.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Send(Vec<u8>),
    Wait { seq: u64, count: usize },
}

/// An exchange.
#[derive(Debug, PartialEq)]
pub(super) struct Exchange {
    pub(super) name: String,
    pub(super) steps: Vec<Step>,
}

impl Exchange {
    /// Reads a case. Requests without `@SEQ` are numbered from 1. The connection begins with a handshake unless the
    /// name begins with "bare ".
    pub(super) fn parse(text: &str) -> Result<Exchange, Failure> {
        let (name, mut rest) =
            text.split_once(':').ok_or_else(|| Failure::new(format!("{text}: a case is NAME: REQUESTS")))?;
        let mut steps = Vec::new();
        if !name.starts_with("bare ") {
            steps.push(Step::Send(request("handshake", 0, Some(&serde_json::json!({"Version": 1})))?));
        }
        let mut seq = 0;
        while !rest.trim().is_empty() {
            seq += 1;
            let (step, left) = step(rest.trim_start(), seq)?;
            steps.push(step);
            rest = left;
        }
        Ok(Exchange { name: name.to_owned(), steps })
    }
}

/// The first step of a text, and what follows it.
fn step(text: &str, seq: u64) -> Result<(Step, &str), Failure> {
    let wrong = |why: &str| Failure::new(format!("\"{text}\": {why}"));
    let end = text.find([' ', ';']).unwrap_or(text.len());
    let (command, mut rest) = text.split_at(end);
    let after = |rest: &'_ str| -> usize { rest.find(';').map_or(rest.len(), |end| end) };
    match command {
        "raw" => {
            let end = after(rest);
            let bytes = bytes(&rest[..end]).ok_or_else(|| wrong("not hexadecimal"))?;
            return Ok((Step::Send(bytes), rest[end..].trim_start_matches(';')));
        }
        "wait" => {
            let end = after(rest);
            let mut numbers = rest[..end].split_whitespace().map(str::parse::<u64>);
            let (Some(Ok(seq)), Some(Ok(count))) = (numbers.next(), numbers.next()) else {
                return Err(wrong("wait SEQ COUNT"));
            };
            let count = usize::try_from(count).map_err(|_| wrong("too many"))?;
            return Ok((Step::Wait { seq, count }, rest[end..].trim_start_matches(';')));
        }
        _ => {}
    }
    let mut seq = seq;
    if let Some(own) = rest.trim_start().strip_prefix('@') {
        let end = own.find([' ', ';']).unwrap_or(own.len());
        seq = own[..end].parse().map_err(|_| wrong("no number after @"))?;
        rest = &own[end..];
    }
    let body = rest.trim_start();
    if body.is_empty() || body.starts_with(';') {
        return Ok((Step::Send(request(command, seq, None)?), body.trim_start_matches(';')));
    }
    // The body ends at the first semicolon that leaves JSON before it.
    let ends = body.match_indices(';').map(|(end, _)| end).chain([body.len()]);
    let parsed =
        ends.filter_map(|end| Some((serde_json::from_str::<Json>(&body[..end]).ok()?, &body[end..])));
    let (value, rest) = parsed.into_iter().next().ok_or_else(|| wrong("the body is not JSON"))?;
    let bytes = match command {
        "value" => encoded(&value)?,
        command => request(command, seq, Some(&value))?,
    };
    Ok((Step::Send(bytes), rest.trim_start_matches(';')))
}

fn request(command: &str, seq: u64, body: Option<&Json>) -> Result<Vec<u8>, Failure> {
    let mut bytes = encoded(&serde_json::json!({"Command": command, "Seq": seq}))?;
    if let Some(body) = body {
        bytes.extend(encoded(body)?);
    }
    Ok(bytes)
}

/// A header or body as clients write it.
fn encoded(value: &Json) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    encode(value, &mut out)?;
    Ok(out)
}

fn encode(value: &Json, out: &mut Vec<u8>) -> Result<(), Failure> {
    let long = |len: usize| u32::try_from(len).map_err(|_| Failure::new("a value with too many elements"));
    match value {
        Json::Null => out.push(0xc0),
        Json::Bool(is_true) => msgpack::write_bool(out, *is_true),
        Json::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), ..) => msgpack::write_uint(out, number),
            (_, Some(number), _) => msgpack::write_int(out, number),
            (.., number) => msgpack::write_f64(out, number.unwrap_or_default()),
        },
        Json::String(text) => msgpack::write_raw(out, text.as_bytes()),
        Json::Array(elements) => {
            msgpack::write_array(out, long(elements.len())?);
            for element in elements {
                encode(element, out)?;
            }
        }
        Json::Object(map) => {
            if let Some((name, only)) = map.iter().next().filter(|(name, _)| name.starts_with('$')) {
                return special(name, only, out);
            }
            msgpack::write_map(out, long(map.len())?);
            for (name, value) in map {
                msgpack::write_raw(out, name.as_bytes());
                encode(value, out)?;
            }
        }
    }
    Ok(())
}

fn special(name: &str, value: &Json, out: &mut Vec<u8>) -> Result<(), Failure> {
    let wrong = || Failure::new(format!("{{\"{name}\": {value}}} is not known"));
    match (name, value.as_str(), value.as_u64()) {
        ("$bin", Some(text), _) => {
            let len = u32::try_from(text.len()).map_err(|_| wrong())?;
            out.push(0xc6);
            out.extend(len.to_be_bytes());
            out.extend(text.as_bytes());
        }
        ("$raw", Some(hex), _) => out.extend(bytes(hex).ok_or_else(wrong)?),
        ("$x", _, Some(times)) => {
            msgpack::write_raw(out, "x".repeat(usize::try_from(times).map_err(|_| wrong())?).as_bytes())
        }
        _ => return Err(wrong()),
    }
    Ok(())
}

/// Bytes from hexadecimal digits; blanks are ignored.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        hex.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair.get(1)?).ok();
    digits.chunks(2).map(byte).collect()
}

/// A value as text: maps and lists of maps sorted, bytes as `b"…"`.
pub(super) fn shown(value: &[u8]) -> Result<String, Failure> {
    shown_next(&mut Reader::new(value))
        .map_err(|error| Failure::new(format!("an answer that is no msgpack: {error}")))
}

fn shown_next(reader: &mut Reader<'_>) -> Result<String, thane_engine::wire::DecodeError> {
    Ok(match reader.peek()? {
        0xc0 => {
            reader.nil()?;
            "nil".to_owned()
        }
        0xc2 | 0xc3 => reader.bool()?.to_string(),
        0xca | 0xcb => format!("{:?}", reader.f64()?),
        0xc4..=0xc6 => format!("b\"{}\"", reader.raw()?.escape_ascii()),
        0xa0..=0xbf | 0xd9..=0xdb => format!("\"{}\"", reader.raw()?.escape_ascii()),
        0x90..=0x9f | 0xdc | 0xdd => {
            let elements: Result<Vec<_>, _> = (0..reader.array()?).map(|_| shown_next(reader)).collect();
            let mut elements = elements?;
            // Serf lists members in random order.
            if elements.first().is_some_and(|element| element.starts_with('{')) {
                elements.sort_unstable();
            }
            format!("[{}]", elements.join(", "))
        }
        0x80..=0x8f | 0xde | 0xdf => {
            let pair =
                |reader: &mut Reader<'_>| Ok(format!("{}: {}", shown_next(reader)?, shown_next(reader)?));
            let pairs: Result<Vec<String>, _> = (0..reader.map()?).map(|_| pair(reader)).collect();
            let mut pairs = pairs?;
            pairs.sort_unstable();
            format!("{{{}}}", pairs.join(", "))
        }
        _ => reader.int()?.to_string(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_case_becomes_bytes_and_waits() {
        let exchange =
            Exchange::parse(r#"bare a: stop @7 {"Stop": -1}; raw 81 c0;wait 7 2; value ["x", {"$x": 2}]"#)
                .unwrap();
        let header = b"\x82\xa7Command\xa4stop\xa3Seq\x07";
        let expected = [
            Step::Send([&header[..], b"\x81\xa4Stop\xff"].concat()),
            Step::Send(vec![0x81, 0xc0]),
            Step::Wait { seq: 7, count: 2 },
            Step::Send(b"\x92\xa1x\xa2xx".to_vec()),
        ];
        assert_eq!(exchange.steps, expected);
        let greeted = Exchange::parse("plain: members").unwrap();
        assert_eq!(greeted.steps.len(), 2);
    }

    #[test]
    fn values_are_shown_sorted() {
        assert_eq!(
            shown(b"\x82\xa1b\xc4\x01\xff\xa1a\x92\x01\xc0").unwrap(),
            r#"{"a": [1, nil], "b": b"\xff"}"#
        );
    }
}
