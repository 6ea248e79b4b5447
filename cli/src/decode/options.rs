//! The command line of `thane decode`, and the source of the payload.

use std::io::Read;
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use thane_engine::wire::envelope::Envelope;
use thane_engine::wire::limits::LABEL_BYTES_MAX;

use crate::flags::{Argument, Flags};

/// Longest text that is read: the hex digits of the largest stream with a separator after each byte.
const TEXT_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// The parsed command line.
pub(super) struct Options {
    input: Input,
    pub(super) keys: Vec<Vec<u8>>,
    label: Vec<u8>,
    pub(super) transport: Transport,
}

/// Where the hex digits come from.
enum Input {
    Argument(String),
    File(PathBuf),
    Stdin,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
    Rpc,
}

impl Transport {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Rpc => "rpc",
        }
    }
}

impl Options {
    /// Parses the arguments after `decode`.
    ///
    /// # Errors
    /// One line about the first mistake.
    pub(super) fn parse(args: &[Argument]) -> Result<Options, String> {
        let (mut file, mut keys, mut label) = (String::new(), Vec::<String>::new(), String::new());
        let mut transport = Transport::Udp.as_str().to_owned();
        let rest = Flags::default()
            .flag("file", &mut file)
            .flag("key", &mut keys)
            .flag("label", &mut label)
            .flag("transport", &mut transport)
            .parse(args)
            .map_err(|error| format!("{error}; see thane decode -h"))?;
        let input = match (rest, file.is_empty()) {
            ([], true) => {
                return Err("no payload: give hex digits, -file PATH, or - for standard input".into());
            }
            ([], false) => Input::File(file.into()),
            ([payload], true) => positional(payload),
            ([_, flag, ..], _) if flag.starts_with('-') => {
                return Err(format!("{flag} stands after the payload: put flags before it"));
            }
            _ => {
                return Err("more than one payload: put hex digits with spaces between them in quotes".into());
            }
        };
        let keys =
            keys.iter().zip(1..).map(|(key, number)| parse_key(key, number)).collect::<Result<_, _>>()?;
        Ok(Options { input, keys, label: parse_label(label)?, transport: parse_transport(&transport)? })
    }

    /// Reads the payload from its source.
    ///
    /// # Errors
    /// One line with the source and the reason.
    pub(super) fn read_payload(&self) -> Result<Vec<u8>, String> {
        let (what, text) = match &self.input {
            Input::Argument(text) => ("the argument".to_owned(), Ok(text.clone())),
            Input::File(path) => {
                let text = std::fs::File::open(path).and_then(read_text);
                (path.display().to_string(), text)
            }
            Input::Stdin => ("standard input".to_owned(), read_text(std::io::stdin())),
        };
        let text = text.map_err(|error| format!("can't read {what}: {error}"))?;
        parse_hex(&text).map_err(|error| format!("bad hex in {what}: {error}"))
    }

    /// The engine's envelope with these keys and this label.
    pub(super) fn envelope(&self) -> Envelope {
        let envelope = Envelope::new(&self.keys).expect("the keys' sizes were checked when they were parsed");
        Envelope { label: self.label.clone(), ..envelope }
    }
}

fn positional(arg: &str) -> Input {
    if arg == "-" { Input::Stdin } else { Input::Argument(arg.to_owned()) }
}

fn parse_transport(name: &str) -> Result<Transport, String> {
    [Transport::Udp, Transport::Tcp, Transport::Rpc]
        .into_iter()
        .find(|transport| transport.as_str() == name)
        .ok_or(format!("unknown transport '{name}': use udp, tcp or rpc"))
}

fn parse_label(label: String) -> Result<Vec<u8>, String> {
    if label.len() > LABEL_BYTES_MAX {
        return Err(format!("the label has {} bytes: at most {LABEL_BYTES_MAX} are allowed", label.len()));
    }
    Ok(label.into_bytes())
}

/// Errors don't contain the key: terminals and logs keep them.
fn parse_key(text: &str, number: usize) -> Result<Vec<u8>, String> {
    // 32 hex digits are valid base64 too, of a key whose base64 has no letter beyond f: practically impossible.
    let hex = matches!(text.len(), 32 | 48 | 64).then(|| parse_hex(text).ok()).flatten();
    let key = match hex {
        Some(key) => key,
        None => BASE64_STANDARD.decode(text).map_err(|error| {
            format!("key {number} is neither base64 nor 32, 48 or 64 hex digits: {error}")
        })?,
    };
    match key.len() {
        16 | 24 | 32 => Ok(key),
        len => Err(format!("key {number} has {len} bytes: it must have 16, 24 or 32")),
    }
}

fn read_text(source: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    source.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        let error = format!("more than {} MiB of text", TEXT_BYTES_MAX >> 20);
        return Err(std::io::Error::other(error));
    }
    Ok(text)
}

/// Reads hex digits, with white space and colons allowed between bytes and a leading 0x. Positions in errors count
/// characters from 1.
fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    let mut chars = text.chars().zip(1..).skip_while(|(c, _)| c.is_whitespace()).peekable();
    let mut prefix = chars.clone();
    if prefix.next().is_some_and(|(c, _)| c == '0')
        && prefix.next().is_some_and(|(c, _)| matches!(c, 'x' | 'X'))
    {
        chars = prefix;
    }
    let digit = |c: char, place: usize| {
        let value = c.to_digit(16).and_then(|value| u8::try_from(value).ok());
        value.ok_or(format!("{c:?} at position {place} is not a hex digit"))
    };
    let mut bytes = Vec::with_capacity(text.len() / 2);
    while let Some((high, place)) = chars.next() {
        if high.is_whitespace() || high == ':' {
            continue;
        }
        let high = digit(high, place)?;
        let (low, low_place) =
            chars.next().ok_or(format!("the last digit, at position {place}, is half a byte"))?;
        bytes.push(high << 4 | digit(low, low_place)?);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hex_comes_in_many_shapes() {
        for text in ["0c08ff", "0C08FF", "0x0c08ff", " 0c 08\tff\n", "0c:08:ff", "0X0c:08 ff:"] {
            assert_eq!(parse_hex(text).unwrap(), [0x0c, 0x08, 0xff], "{text}");
        }
        assert!(parse_hex("0x").unwrap().is_empty());
        assert!(parse_hex("").unwrap().is_empty());
        assert_eq!(parse_hex("0c0g").unwrap_err(), "'g' at position 4 is not a hex digit");
        assert_eq!(parse_hex("0c 0").unwrap_err(), "the last digit, at position 4, is half a byte");
        assert_eq!(parse_hex("0 c").unwrap_err(), "' ' at position 2 is not a hex digit");
        assert_eq!(parse_hex("0x0c0x").unwrap_err(), "'x' at position 6 is not a hex digit");
        assert_eq!(parse_hex("é").unwrap_err(), "'é' at position 1 is not a hex digit");
    }

    #[test]
    fn keys_are_base64_or_hex() {
        assert_eq!(parse_key("00112233445566778899aabbccddeeff", 1).unwrap().len(), 16);
        assert_eq!(parse_key(&BASE64_STANDARD.encode([0xfb; 16]), 1).unwrap(), [0xfb; 16]);
        assert_eq!(parse_key(&BASE64_STANDARD.encode([0xfb; 24]), 1).unwrap(), [0xfb; 24]);
        assert_eq!(parse_key(&BASE64_STANDARD.encode([0xfb; 32]), 1).unwrap(), [0xfb; 32]);
        assert_eq!(parse_key("AAAA", 2).unwrap_err(), "key 2 has 3 bytes: it must have 16, 24 or 32");
        let neither = parse_key("secret!", 1).unwrap_err();
        assert!(neither.starts_with("key 1 is neither") && !neither.contains("secret"), "{neither}");
    }

    #[test]
    fn flags_take_one_dash_or_two_and_values_both_ways() {
        for args in [
            ["-transport", "tcp", "-label", "x", "00"],
            ["--transport", "tcp", "--label", "x", "00"],
            ["-label=x", "--transport=tcp", "-file", "/nowhere", "--label=x"],
        ] {
            let args: Vec<Argument> = args.iter().map(|&arg| Argument::from(arg)).collect();
            let options = Options::parse(&args).unwrap();
            assert_eq!((options.transport, &options.label[..]), (Transport::Tcp, &b"x"[..]), "{args:?}");
        }
    }
}
