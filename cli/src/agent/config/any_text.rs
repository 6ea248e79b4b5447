//! Any text as a configuration file: it gives settings, or one line that says why not. `PROPTEST_CASES=1000000 cargo test
//! -p thane --bins any_text` tries more than the usual ones.

#![allow(clippy::unwrap_used)]
use std::io::Write;

use proptest::prelude::*;

use super::decode::tests::EVERYTHING;
use super::read_config;
use crate::command::Failure;
use crate::flags::Argument;

/// A change of a text: bytes in the place of some bytes.
fn change() -> impl Strategy<Value = (prop::sample::Index, usize, Vec<u8>)> {
    let words = [
        "{", "}", "[", "]", "\"", ",", ":", "null", "true", "-1", "1e300", "0.5", "\\u0000", "\\n", "\u{1b}",
    ];
    let word = prop::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec());
    let bytes = prop_oneof![word, prop::collection::vec(any::<u8>(), 0..4)];
    (any::<prop::sample::Index>(), 0..12_usize, bytes)
}

/// A file with every key, changed in a few places.
fn changed() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(change(), 0..6).prop_map(|changes| {
        let mut text = EVERYTHING.as_bytes().to_vec();
        for (place, len, bytes) in changes {
            let start = place.index(text.len() + 1);
            let end = (start + len).min(text.len());
            text.splice(start..end, bytes);
        }
        text
    })
}

/// One of the keys with any value.
fn one_key() -> impl Strategy<Value = Vec<u8>> {
    let keys: Vec<&str> = EVERYTHING.split('"').skip(1).step_by(2).collect();
    let value = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
        prop::collection::vec(any::<String>(), 0..3)
            .prop_map(|list| serde_json::Value::from(list).to_string()),
        Just("{}".to_owned()),
        Just("null".to_owned()),
    ];
    (prop::sample::select(keys), value)
        .prop_map(|(key, value)| format!("{{\"{key}\": {value}}}").into_bytes())
}

proptest! {
    #[test]
    fn any_text_gives_settings_or_one_line(
        text in prop_oneof![changed(), one_key(), prop::collection::vec(any::<u8>(), 0..64)],
    ) {
        let mut file = tempfile::NamedTempFile::with_suffix(".json").unwrap();
        file.write_all(&text).unwrap();
        let arguments = [Argument::from(&*format!("-config-file={}", file.path().display()))];
        let said = match read_config(&arguments) {
            Ok(config) => config.warnings,
            Err(Failure::Message(error)) => vec![error],
            Err(other) => panic!("{other:?}"),
        };
        for line in said {
            prop_assert!(!line.is_empty() && !line.contains(char::is_control), "{line:?} of {}", String::from_utf8_lossy(&text));
        }
    }
}
