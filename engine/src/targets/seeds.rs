//! Inputs to begin with: what real agents sent, and small files.

use serde_json::Value;

/// Captured payloads: transport, key and bytes.
const VECTORS: &str = include_str!("../../tests/vectors/wire.json");

/// Begins inputs of `packet` and `stream`: nothing seals what follows, or the label that some captures have.
const PLAIN: u8 = 0;
const LABELLED: u8 = 2;

/// Inputs for the target of that name.
///
/// # Panics
/// The captures are not as they were written.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "packet" => captures("udp", |label, bytes| [&[label], bytes].concat()),
        "stream" => captures("tcp", |label, bytes| {
            let listener_in_pieces = [label, 0, 3, 50];
            [&listener_in_pieces[..], bytes].concat()
        }),
        "merge" => {
            let streams = captures("tcp", |_, bytes| [&[0, 200], bytes].concat());
            let answers = captures("tcp", |_, bytes| [&[1, 200], bytes].concat());
            let datagrams = captures("udp", |_, bytes| [&[2], bytes].concat());
            [streams, answers, datagrams].concat()
        }
        "node" => captures("udp", |_, bytes| {
            let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
            [&[1, 4, 3, 0], &len[..], bytes, &[1, 10, 7, 2, 0, 2, 1]].concat()
        }),
        "lzw" => vec![b"banana banana banana".to_vec(), vec![7; 3000], (0..=255).cycle().take(6000).collect()],
        "rpc" => vec![
            b"\x20\x82\xa7Command\xa9handshake\xa3Seq\x00\x81\xa7Version\x01\x82\xa7Command\xa7members\xa3Seq\x01".to_vec(),
            b"\x03\x82\xa7Command\xa5event\xa3Seq\x05\x83\xa4Name\xa1e\xa7Payload\xc4\x01p\xa8Coalesce\xc2".to_vec(),
            b"\x09\x82\xa7Command\xa5query\xa3Seq\x05\x82\xa4Name\xa1q\xa7Timeout\xd3\x00\x00\x00\x00\x3b\x9a\xca\x00".to_vec(),
        ],
        "pattern" => ["^a|b$", r"(?i)[[:alpha:]\d]{2,3}\Qx\E", r"(?P<n>\pL+)*?", "x{1000}", r"[^\x00-\x7f]"]
            .map(|expression| [&[0, expression.len() as u8], expression.as_bytes(), b"text"].concat())
            .to_vec(),
        "journal" => vec![
            b"alive: a b 127.0.0.1:7946\nnot-alive: c\nclock: 5\nevent-clock: 6\nquery-clock: 7\nleave\n".to_vec(),
            b"#failed: x [::1]:1\n# text\ncoordinate: {}\nclock: 99999999999999999999\nalive: y".to_vec(),
        ],
        "keyring" => vec![
            br#"["QUFBQUFBQUFBQUFBQUFBQQ==", "Q0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0M="]"#.to_vec(),
            b"null".to_vec(),
            b"[\"QUFB\"]\n[\"QUFBQUFBQUFBQUFBQUFBQQ==\"]".to_vec(),
        ],
        _ => (0..6).map(|first: u8| (0..150).map(|n: u8| n.wrapping_mul(37 + first)).collect()).collect(),
    }
}

fn captures(transport: &str, input: impl Fn(u8, &[u8]) -> Vec<u8>) -> Vec<Vec<u8>> {
    let Ok(Value::Array(all)) = serde_json::from_str(VECTORS) else { panic!("tests/vectors/wire.json") };
    let of_transport = all.iter().filter(|vector| vector["transport"] == transport);
    let unsealed = of_transport.filter(|vector| vector["key_hex_if_encrypted"].is_null());
    let bytes = unsealed.filter_map(|vector| {
        let label = if vector["name"].as_str()?.contains("label") { LABELLED } else { PLAIN };
        let hex = vector["hex"].as_str()?.as_bytes();
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let byte = |pair: &[u8]| u8::try_from(digit(pair[0])? * 16 + digit(*pair.get(1)?)?).ok();
        Some(input(label, &hex.chunks(2).map(byte).collect::<Option<Vec<u8>>>()?))
    });
    let seeds: Vec<_> = bytes.collect();
    assert!(!seeds.is_empty(), "no captures of {transport}");
    seeds
}
