//! Decodes the text of a configuration file to [`Settings`]. Each error is one line that names the key and the type
//! that it must have.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use super::settings::{KEYS, Key, Settings, Slot, duration, raised_duration};

impl Settings {
    /// Reads the text of a configuration file, as leniently as Serf: bytes that are not UTF-8 become U+FFFD, text after
    /// the first value is ignored, `null` is an empty object, and numbers are truncated to whole ones. Each of these but
    /// `null` and a whole number with a fraction of 0 adds a line to `warnings`.
    ///
    /// # Errors
    /// One line: the place where the text is not JSON, or the key that is wrong and what it must be.
    pub(crate) fn decode(bytes: &[u8], warnings: &mut Vec<String>) -> Result<Settings, String> {
        let text = String::from_utf8_lossy(bytes);
        if matches!(text, Cow::Owned(_)) {
            warnings.push("bytes that are not UTF-8 are replaced by U+FFFD".to_owned());
        }
        let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        let value = values.next().unwrap_or_else(|| serde_json::from_str(""));
        let value = value.map_err(|error| format!("not valid JSON: {error}"))?;
        if !text[values.byte_offset()..].trim_ascii().is_empty() {
            warnings.push("everything after the first JSON object is ignored".to_owned());
        }
        let object = match value {
            Value::Object(object) => object,
            Value::Null => Map::new(),
            other => return Err(format!("the top level must be an object, not {}", type_of(&other))),
        };
        let mut settings = Settings::default();
        settings.read_object(&KEYS, "", object, warnings)?;
        Ok(settings)
    }

    fn read_object(
        &mut self,
        keys: &'static [Key],
        path: &str,
        object: Map<String, Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), String> {
        let find = |name: &str| keys.iter().find(|key| key.name.eq_ignore_ascii_case(name));
        let unknown: Vec<String> =
            object.keys().filter(|name| find(name).is_none()).map(|name| format!("'{path}{name}'")).collect();
        match unknown.len() {
            0 => {}
            1 => return Err(format!("unknown key {}", unknown[0])),
            _ => return Err(format!("unknown keys {}", unknown.join(", "))),
        }
        let mut seen: Vec<&str> = Vec::new();
        for (name, value) in object {
            let key = find(&name).expect("unknown names were refused above");
            if seen.contains(&key.name) {
                return Err(format!("'{path}{}' is given twice, in different case", key.name));
            }
            seen.push(key.name);
            self.read_value(&key.slot, &format!("{path}{}", key.name), value, warnings)?;
        }
        Ok(())
    }

    /// `null` means "not given".
    fn read_value(
        &mut self,
        slot: &Slot,
        name: &str,
        value: Value,
        warnings: &mut Vec<String>,
    ) -> Result<(), String> {
        match (slot, value) {
            (_, Value::Null) => {}
            (Slot::Text(get), Value::String(text)) => *get(self) = text,
            (Slot::Switch(get), Value::Bool(on)) => *get(self) = on,
            (Slot::OnSwitch(get), Value::Bool(on)) => *get(self) = Some(on),
            (Slot::Number(get), Value::Number(number)) => {
                *get(self) = whole_number(&number, name, warnings)?;
            }
            (Slot::Time(get), Value::String(text)) => {
                if !text.is_empty() {
                    let is_raised = ["retry_interval", "broadcast_timeout"].contains(&name);
                    let read = if is_raised { raised_duration } else { duration };
                    *get(self) = read(&text).map_err(|error| format!("'{name}': {error}"))?;
                }
            }
            (Slot::List(get), Value::Array(entries)) => {
                *get(self) = entries
                    .into_iter()
                    .enumerate()
                    .map(|(n, entry)| text_of(&format!("{name}[{n}]"), entry))
                    .collect::<Result<_, _>>()?;
            }
            (Slot::Map(get), Value::Object(entries)) => {
                *get(self) = entries
                    .into_iter()
                    .map(|(k, value)| Ok((k.clone(), text_of(&format!("{name}.{k}"), value)?)))
                    .collect::<Result<_, String>>()?;
            }
            (Slot::Object(keys), Value::Object(object)) => {
                self.read_object(keys, &format!("{name}."), object, warnings)?;
            }
            (slot, value) => {
                return Err(format!("'{name}' must be {}, not {}", slot.wanted(), type_of(&value)));
            }
        }
        Ok(())
    }
}

impl Slot {
    fn wanted(&self) -> &'static str {
        match self {
            Slot::Text(_) => "a string",
            Slot::Number(_) => "a number",
            Slot::Switch(_) | Slot::OnSwitch(_) => "true or false",
            Slot::Time(_) => "a duration in a string, such as \"10s\"",
            Slot::List(_) => "an array of strings",
            Slot::Map(_) => "an object with strings",
            Slot::Object(_) => "an object",
        }
    }
}

/// A number as a whole one; Serf truncates fractions.
fn whole_number(number: &Number, name: &str, warnings: &mut Vec<String>) -> Result<i64, String> {
    if let Some(whole) = number.as_i64() {
        return Ok(whole);
    }
    /// From here on not every whole number is a double.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let Some(value) = number.as_f64().filter(|value| value.abs() < EXACT_MAX) else {
        return Err(format!("'{name}' must be a number of at most 53 bits, not {number}"));
    };
    if value.fract() != 0.0 {
        warnings.push(format!("'{name}' must be a whole number: {number} is truncated"));
    }
    Ok(value as i64)
}

/// As in Go, `null` among others is an empty text. Errors don't show the value: it may be a key or a token.
fn text_of(name: &str, value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Ok(String::new()),
        other => Err(format!("'{name}' must be a string, not {}", type_of(&other))),
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::settings::tests::everything;
    use super::*;

    /// Every key with a value that is not its default.
    pub(crate) const EVERYTHING: &str = r#"{
        "node_name": "n", "role": "r", "disable_coordinates": true, "tags": {"a": "b"}, "tags_file": "t",
        "bind": "1.1.1.1", "advertise": "2.2.2.2", "interface": "eth0", "encrypt_key": "k",
        "keyring_file": "kf", "log_level": "debug", "rpc_addr": "3.3.3.3:1", "rpc_auth": "token",
        "protocol": 4, "replay_on_join": true, "query_response_size_limit": 1, "query_size_limit": 2,
        "user_event_size_limit": 3, "start_join": ["j"], "event_handlers": ["h"], "profile": "wan",
        "snapshot_path": "s", "leave_on_terminate": true, "skip_leave_on_interrupt": true,
        "discover": "d", "mdns": {"interface": "i", "disable_ipv4": true, "disable_ipv6": true},
        "reconnect_interval": "1s", "reconnect_timeout": "2s", "tombstone_timeout": "3s",
        "disable_name_resolution": true, "enable_syslog": true, "syslog_facility": "LOCAL1",
        "retry_join": ["rj"], "retry_max_attempts": 5, "retry_interval": "4s", "rejoin_after_leave": true,
        "enable_compression": false, "statsite_addr": "sa", "statsd_addr": "sd", "broadcast_timeout": "5s",
        "validate_node_names": true, "MsgpackUseNewTimeFormat": true, "io_driver": "portable",
        "dissemination": "eager",
        "label": "blue", "cidrs_allowed": ["10.0.0.0/8"], "encrypt_verify_incoming": false,
        "encrypt_verify_outgoing": false, "enable_extensions": false, "http_addr": "4.4.4.4:2",
        "handler_concurrency": 6, "handler_timeout": "7s", "handler_output_limit": 8, "log_format": "json",
        "tls_cert_file": "tc", "tls_key_file": "tk", "tls_ca_file": "ta", "tls_rpc": true, "tls_http": true,
        "tls_verify_clients": true, "tls_gossip": true, "tls_required": true
    }"#;

    fn decoded(text: &str) -> Result<Settings, String> {
        let mut warnings = Vec::new();
        let settings = Settings::decode(text.as_bytes(), &mut warnings);
        assert!(warnings.is_empty(), "{warnings:?}");
        settings
    }

    fn refused(text: &str) -> String {
        decoded(text).unwrap_err()
    }

    /// The settings of a text that is accepted with one warning.
    fn warned(bytes: &[u8]) -> (Settings, String) {
        let mut warnings = Vec::new();
        let settings = Settings::decode(bytes, &mut warnings).unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        (settings, warnings.remove(0))
    }

    #[test]
    fn every_key_is_read() {
        assert_eq!(decoded(EVERYTHING), Ok(everything()));
    }

    #[test]
    fn keys_match_in_any_case() {
        let upper = EVERYTHING
            .split('"')
            .enumerate()
            .map(|(n, part)| {
                let is_key = n % 2 == 1 && KEYS.iter().any(|key| key.name == part);
                if is_key { part.to_uppercase() } else { part.to_owned() }
            })
            .collect::<Vec<_>>()
            .join("\"");
        assert!(upper.contains("\"NODE_NAME\"") && upper.contains("\"MSGPACKUSENEWTIMEFORMAT\""));
        assert_eq!(decoded(&upper), Ok(everything()));
    }

    #[test]
    fn unknown_keys_are_named() {
        assert_eq!(refused(r#"{"nope": 1}"#), "unknown key 'nope'");
        assert_eq!(refused(r#"{"leave_on_interrupt": true}"#), "unknown key 'leave_on_interrupt'");
        assert_eq!(refused(r#"{"nope": 1, "tags": 4, "b": 2}"#), "unknown keys 'nope', 'b'");
        assert_eq!(refused(r#"{"mdns": {"iface": "x"}}"#), "unknown key 'mdns.iface'");
    }

    #[test]
    fn wrong_types_are_named_with_what_is_expected() {
        let cases = [
            (r#"{"Node_Name": 5}"#, "'node_name' must be a string, not a number"),
            (r#"{"protocol": "4"}"#, "'protocol' must be a number, not a string"),
            (r#"{"protocol": 1e300}"#, "'protocol' must be a number of at most 53 bits, not 1e+300"),
            (r#"{"leave_on_terminate": "yes"}"#, "'leave_on_terminate' must be true or false, not a string"),
            (r#"{"enable_compression": 1}"#, "'enable_compression' must be true or false, not a number"),
            (r#"{"tags": []}"#, "'tags' must be an object with strings, not an array"),
            (r#"{"tags": {"a": 4}}"#, "'tags.a' must be a string, not a number"),
            (r#"{"start_join": "a"}"#, "'start_join' must be an array of strings, not a string"),
            (r#"{"start_join": ["a", true]}"#, "'start_join[1]' must be a string, not true or false"),
            (
                r#"{"retry_interval": 10}"#,
                "'retry_interval' must be a duration in a string, such as \"10s\", not a number",
            ),
            (
                r#"{"retry_interval": "10"}"#,
                "'retry_interval': \"10\" is not a duration such as 3s, 1m30s or 250ms",
            ),
            (r#"{"mdns": "x"}"#, "'mdns' must be an object, not a string"),
            (r#"{"mdns": {"interface": {}}}"#, "'mdns.interface' must be a string, not an object"),
            ("[1]", "the top level must be an object, not an array"),
            ("\"a\"", "the top level must be an object, not a string"),
        ];
        for (text, expected) in cases {
            assert_eq!(refused(text), expected, "{text}");
        }
    }

    #[test]
    fn text_that_is_not_json_is_refused_with_its_place() {
        assert_eq!(refused("{bad"), "not valid JSON: key must be a string at line 1 column 2");
        assert_eq!(refused(""), "not valid JSON: EOF while parsing a value at line 1 column 0");
        assert!(refused(&"[".repeat(100_000)).starts_with("not valid JSON: recursion limit exceeded"));
    }

    #[test]
    fn a_key_given_twice_counts_once_in_one_spelling_only() {
        assert_eq!(decoded(r#"{"role": "a", "role": "b"}"#).unwrap().role, "b");
        assert_eq!(refused(r#"{"role": "a", "Role": "b"}"#), "'role' is given twice, in different case");
    }

    #[test]
    fn what_serf_takes_is_taken_with_a_warning() {
        let (settings, warning) = warned(b"{\"role\": \"web\"}\n{\"role\": \"db\"}\n");
        assert_eq!(settings.role, "web");
        assert_eq!(warning, "everything after the first JSON object is ignored");
        assert_eq!(warned(b"{\"role\": \"web\"} # managed by x").0.role, "web");
        let (settings, warning) = warned(b"{\"role\": \"M\xfcnchen\"}");
        assert_eq!(settings.role, "M\u{fffd}nchen");
        assert_eq!(warning, "bytes that are not UTF-8 are replaced by U+FFFD");
        let (settings, warning) = warned(br#"{"protocol": 4.9}"#);
        assert_eq!(settings.protocol, 4);
        assert_eq!(warning, "'protocol' must be a whole number: 4.9 is truncated");
        let quietly = decoded(r#"{"query_size_limit": 2048.0, "retry_max_attempts": 1e1}"#).unwrap();
        assert_eq!((quietly.query_size_limit, quietly.retry_max_attempts), (2048, 10));
        assert_eq!(decoded("null"), Ok(Settings::default()));
        let nulls = decoded(r#"{"tags": {"a": null}, "event_handlers": [null]}"#).unwrap();
        assert_eq!((nulls.tags["a"].as_str(), &nulls.event_handlers[..]), ("", &[String::new()][..]));
        let soon = decoded(r#"{"retry_interval": "-1s", "broadcast_timeout": "-1h"}"#).unwrap();
        assert!(!soon.retry_interval.is_zero() && soon.broadcast_timeout < std::time::Duration::from_secs(1));
        assert_eq!(refused(r#"{"reconnect_interval": "-1s"}"#), "'reconnect_interval': \"-1s\" is negative");
    }

    #[test]
    fn null_and_empty_durations_are_not_given() {
        let text = r#"{"node_name": null, "tags": null, "mdns": null, "retry_interval": ""}"#;
        assert_eq!(decoded(text), Ok(Settings::default()));
    }
}
