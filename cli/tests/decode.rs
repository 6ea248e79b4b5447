//! `thane decode` from outside, over every payload captured from real Serf agents.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Serf's words for numbers on the wire.
const STATES: [&str; 4] = ["alive", "suspect", "dead", "left"];
const STATUSES: [&str; 5] = ["none", "alive", "leaving", "left", "failed"];

fn thane(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_thane")).arg("decode").args(args).output().unwrap()
}

fn fed(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_thane"))
        .arg("decode")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

struct Vector {
    name: String,
    hex: String,
    flags: Vec<String>,
    decoded: Value,
}

fn vectors() -> Vec<Vector> {
    let all: Vec<Value> = serde_json::from_str(include_str!("../../engine/tests/vectors/wire.json")).unwrap();
    all.into_iter()
        .map(|vector| {
            let name = vector["name"].as_str().unwrap().to_owned();
            let mut flags = vec!["--transport".to_owned(), vector["transport"].as_str().unwrap().to_owned()];
            if let Some(key) = vector["key_hex_if_encrypted"].as_str() {
                flags.push(format!("-key={key}"));
            }
            if name.contains("label") {
                flags.push("--label=mylabel".to_owned());
            }
            let hex = vector["hex"].as_str().unwrap().to_owned();
            Vector { name, hex, flags, decoded: vector["decoded"].clone() }
        })
        .collect()
}

fn named(name: &str) -> Vector {
    vectors().into_iter().find(|vector| vector.name == name).unwrap()
}

fn args<'a>(vector: &'a Vector, hex: &'a str) -> Vec<&'a str> {
    vector.flags.iter().map(String::as_str).chain([hex]).collect()
}

#[test]
fn every_captured_payload_decodes_to_what_was_captured() {
    let mut compared = 0;
    for vector in vectors() {
        let name = &vector.name;
        let output = thane(&args(&vector, &vector.hex));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{name}: {:?}, {errors}", output.status);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["bytes"], vector.hex.len() / 2, "{name}");
        let shown = match json["transport"].as_str() {
            Some("udp") => datagram(&vector.decoded, &json["payload"]),
            Some("tcp") => stream(&vector.decoded, &json["payload"]),
            Some("rpc") => same(&vector.decoded, &json["values"]),
            other => panic!("{name}: {other:?}"),
        };
        shown.unwrap_or_else(|difference| panic!("{name}: {difference}\n{json:#}"));
        compared += 1;
    }
    assert!(compared > 180, "only {compared} payloads were compared");
}

type Compared = Result<(), String>;

fn equal(what: &str, expected: &Value, got: &Value) -> Compared {
    if expected == got { Ok(()) } else { Err(format!("{what} should be {expected} and is {got}")) }
}

/// Label and seal of a capture, then what they hold.
fn datagram(expected: &Value, got: &Value) -> Compared {
    let got = label(expected, got)?;
    message(&expected["msg"], sealed(expected, got)?)
}

fn label<'a>(expected: &Value, got: &'a Value) -> Result<&'a Value, String> {
    if expected["label"].is_null() {
        return Ok(got);
    }
    equal("label", &expected["label"], &got["label"]["text"])?;
    Ok(&got["inner"])
}

fn sealed<'a>(expected: &Value, got: &'a Value) -> Result<&'a Value, String> {
    if expected["enc_version"].is_null() {
        return Ok(got);
    }
    equal("version", &expected["enc_version"], &got["version"])?;
    if !expected["nonce"].is_null() {
        equal("nonce", &expected["nonce"], &got["nonce"])?;
    }
    if !expected["encrypted_len"].is_null() {
        equal("sealed_bytes", &expected["encrypted_len"], &got["sealed_bytes"])?;
    }
    Ok(&got["inner"])
}

fn message(expected: &Value, got: &Value) -> Compared {
    match expected["type"].as_str().ok_or("no type")? {
        "hasCrc" => {
            equal("crc", &expected["crc"], &got["crc"])?;
            message(&expected["inner"], &got["inner"])
        }
        "compress" => {
            equal("stream_bytes", &expected["Buf_len"], &got["stream_bytes"])?;
            message(&expected["inner"], &got["inner"])
        }
        "compound" => {
            equal("count", &expected["count"], &got["count"])?;
            equal("lengths", &expected["lengths"], &got["lengths"])?;
            let (parts, got) = (expected["parts"].as_array().unwrap(), got["parts"].as_array().unwrap());
            equal("parts", &parts.len().into(), &got.len().into())?;
            parts.iter().zip(got).try_for_each(|(part, got)| message(part, got))
        }
        "user" => {
            equal("type", &"user".into(), &got["type"])?;
            serf(expected, &got["serf"])
        }
        kind => {
            equal("type", &snake(kind).into(), &got["type"])?;
            same(&expected["body"], &got["body"])
        }
    }
}

/// A serf message: its name and body.
fn serf(expected: &Value, got: &Value) -> Compared {
    equal("serf type", &snake(expected["serf"].as_str().ok_or("no serf type")?).into(), &got["type"])?;
    if !expected["inner"].is_null() {
        serf(&expected["inner"], &got["inner"]["holds"])?;
    }
    same(&expected["body"], &got["body"])
}

/// The capture's name of a message in ours: `ackResp` is an ack, `queryResponse` a query response.
fn snake(kind: &str) -> String {
    let kind = match kind {
        "ackResp" => "ack",
        "nackResp" => "nack",
        other => other,
    };
    let word = |c: char| if c.is_uppercase() { format!("_{}", c.to_lowercase()) } else { c.into() };
    kind.chars().map(word).collect()
}

fn stream(expected: &Value, got: &Value) -> Compared {
    let got = label(expected, got)?;
    let mut got = sealed(expected, got)?;
    if !expected["compressed"].is_null() {
        equal("plain_bytes", &expected["compressed"]["raw_len"], &got["plain_bytes"])?;
        got = &got["inner"];
    }
    equal("type", &snake(expected["type"].as_str().unwrap()).into(), &got["type"])?;
    match expected["type"].as_str() {
        Some("pushPull") => {
            same(&expected["header"], &got["body"])?;
            same(&expected["nodes"], &got["nodes"])?;
            let (state, got) = (&expected["userState"], &got["user_state"]);
            if state.is_null() {
                return equal("user_state", state, got);
            }
            equal("serf type", &"push_pull".into(), &got["type"])?;
            push_pull(&state["body"], &got["body"])
        }
        Some("user") => {
            // The capture only has the bytes of Serf's message.
            let bytes = expected["user"].as_str().unwrap().len() / 2;
            equal("serf bytes", &bytes.into(), &got["serf"]["bytes"])?;
            equal("serf type", &"user_event".into(), &got["serf"]["type"])
        }
        _ => same(&expected["body"], &got["body"]),
    }
}

fn push_pull(expected: &Value, got: &Value) -> Compared {
    for (field, expected) in expected.as_object().ok_or("no state")? {
        if field != "Events" {
            same(expected, &got[field]).map_err(|error| format!("{field}: {error}"))?;
            continue;
        }
        // The capture has a word on the empty slots, then the others with their places.
        let slots: Vec<&Value> = expected.as_array().unwrap().iter().skip(1).map(|slot| &slot[1]).collect();
        let got = got[field].as_array().unwrap();
        equal("slots", &slots.len().into(), &got.len().into())?;
        slots.iter().zip(got).try_for_each(|(slot, got)| same(slot, got))?;
    }
    Ok(())
}

/// Whether what is shown says what the capture says, field by field.
fn same(expected: &Value, got: &Value) -> Compared {
    match (expected, got) {
        (Value::Object(fields), _) if fields.contains_key("magic") => same(&expected["tags"], &got["tags"]),
        (Value::Object(fields), _) if fields.contains_key("coordinate") => {
            same(&expected["coordinate"], &got["coordinate"])
        }
        (Value::Object(fields), _) if fields.contains_key("filterType") => {
            let form = if expected["filterType"] == 0 { "nodes" } else { "tag" };
            same(&expected["value"], &got[form])
        }
        (Value::Object(fields), _) if fields.contains_key("serf") => serf(expected, &got["holds"]),
        (Value::Object(fields), Value::Object(shown)) => fields.iter().try_for_each(|(field, expected)| {
            // The zone of a relay's address is always empty, and not kept.
            if field == "Zone" && expected == "" {
                return Ok(());
            }
            let got = shown.get(field).ok_or(format!("{field} is not shown"))?;
            let word = |names: &[&str], number: &Value| names[number.as_u64().unwrap() as usize].into();
            let result = match (field.as_str(), expected) {
                ("State", Value::Number(_)) => equal(field, &word(&STATES, expected), got),
                ("Status", Value::Number(_)) => equal(field, &word(&STATUSES, expected), got),
                _ => same(expected, got),
            };
            result.map_err(|error| format!("{field}: {error}"))
        }),
        (Value::Array(all), Value::Array(shown)) => {
            equal("length", &all.len().into(), &shown.len().into())?;
            all.iter().zip(shown).try_for_each(|(expected, got)| same(expected, got))
        }
        (Value::Null, _) => {
            let empty = got.is_null() || got["bytes"] == 0 || got.as_array().is_some_and(Vec::is_empty);
            if empty { Ok(()) } else { Err(format!("should be nothing and is {got}")) }
        }
        // Bytes: hex digits or text in the capture, both here.
        (Value::String(text), Value::Object(shown)) if shown.contains_key("hex") => {
            match text.strip_prefix("0x") {
                Some(digits) => equal("hex", &digits.into(), &shown["hex"]),
                None if text.is_empty() => equal("bytes", &0.into(), &shown["bytes"]),
                None => equal("text", &text.as_str().into(), shown.get("text").unwrap_or(&Value::Null)),
            }
        }
        _ => equal("it", expected, got),
    }
}

#[test]
fn cut_payloads_are_refused_without_a_panic() {
    for vector in vectors() {
        let bytes = vector.hex.len() / 2;
        for end in [0, 1, bytes / 3, bytes / 2, bytes - 1] {
            let output = thane(&args(&vector, &vector.hex[..end * 2]));
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(matches!(output.status.code(), Some(0 | 1)), "{} cut at {end}: {errors}", vector.name);
            assert!(errors.lines().count() <= 1, "{} cut at {end}: {errors}", vector.name);
            assert_eq!(output.status.success(), errors.is_empty(), "{} cut at {end}: {errors}", vector.name);
        }
    }
}

#[test]
fn wrong_usage_is_told_in_one_line_with_exit_code_2() {
    let long = "x".repeat(256);
    let cases: [(&[&str], &str); 13] = [
        (&["0c0"], "bad hex in the argument: the last digit, at position 3, is half a byte"),
        (&["0c 0g"], "bad hex in the argument: 'g' at position 5 is not a hex digit"),
        (&[], "no payload: give hex digits, -file PATH, or - for standard input"),
        (&["00", "11"], "more than one payload: put hex digits with spaces between them in quotes"),
        (&["00", "-file", "x"], "-file stands after the payload: put flags before it"),
        (&["-file", "x", "00"], "more than one payload"),
        (&["--transport", "sctp", "00"], "unknown transport 'sctp': use udp, tcp or rpc"),
        (&["--key", "AAAA", "00"], "key 1 has 3 bytes: it must have 16, 24 or 32"),
        (&["--key", "?", "00"], "key 1 is neither base64 nor 32, 48 or 64 hex digits"),
        (&["--key"], "flag needs an argument: -key; see thane decode -h"),
        (&["--colour", "00"], "flag provided but not defined: -colour; see thane decode -h"),
        (&["--file", "/nowhere/at/all"], "can't read /nowhere/at/all: No such file or directory"),
        (&["--label", &long, "00"], "the label has 256 bytes: at most 255 are allowed"),
    ];
    for (args, text) in cases {
        let output = thane(args);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {errors}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert!(errors.starts_with(&format!("thane decode: {text}")), "{args:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{args:?}: {errors}");
    }
}

#[test]
fn refused_bytes_are_told_in_one_line_with_exit_code_1() {
    let (sealed, labelled) = (named("encrypted_ping"), named("label_ping"));
    let other = "00112233445566778899aabbccddeeff";
    let cases: [(&[&str], &str); 7] = [
        (
            &["--key", other, &sealed.hex],
            "wrong_key; none of the keys decrypts the bytes; plain bytes need no -key",
        ),
        (&[&sealed.hex], "truncated; if the bytes are encrypted, give the key with -key"),
        (&[&labelled.hex], "label_mismatch (in label); the label is \"mylabel\": give it with -label"),
        (&["--label", "x", "0b80"], "label_missing; the bytes have no label: leave -label out"),
        (&["--transport", "tcp", "06"], "stream_cut; the bytes end in the middle of a message"),
        (&["--transport", "rpc", "c3c1"], "bad_msgpack, at byte 1"),
        (&[""], "empty"),
    ];
    for (args, text) in cases {
        let output = thane(args);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {errors}");
        assert_eq!(errors, format!("thane decode: refused: {text}\n"), "{args:?}");
    }
}

#[test]
fn the_payload_comes_from_an_argument_a_file_or_standard_input() {
    let nack = "0x0b:81:a5 5365714e6f07\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), nack).unwrap();
    let path = file.path().to_str().unwrap();
    let inline = format!("--file={path}");
    for output in [thane(&[nack]), thane(&["-file", path]), thane(&[&inline]), fed(&["-"], nack)] {
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["payload"]["body"]["SeqNo"], 7);
        assert!(output.status.success());
    }
}

#[test]
fn the_key_that_opens_is_told_among_several() {
    let sealed = named("encrypted_ping");
    let output = thane(&[&["--key", "MDEyMzQ1Njc4OWFiY2RlZg=="], &args(&sealed, &sealed.hex)[..]].concat());
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["payload"]["key"], 2);
}

#[test]
fn help_goes_to_standard_error_as_all_help_does() {
    for flag in ["-h", "--help", "-help"] {
        let output = thane(&[flag]);
        assert!(output.status.success());
        assert!(String::from_utf8(output.stderr).unwrap().starts_with("Usage: thane decode"));
    }
}
