//! Flags in the syntax of Go's programs: one dash or two, `-name=value` or `-name value`; a switch takes a value
//! only as `-name=value`; the first word that is not a flag ends the flags.

use std::ffi::OsString;
use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;

use thane_engine::duration::{self, Nanoseconds};

/// One word of the command line: its text (with U+FFFD for bytes that are not UTF-8) and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Argument {
    text: String,
    bytes: Vec<u8>,
}

impl Argument {
    /// The word as it was given, for payloads.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The word as a path.
    #[cfg(unix)]
    pub(crate) fn path(&self) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        std::ffi::OsStr::from_bytes(&self.bytes).into()
    }

    /// The word as a path.
    #[cfg(not(unix))]
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(&self.text)
    }

    /// The part after the first `=`; empty if there is none.
    fn after_equals_sign(&self) -> Argument {
        let rest = |place: Option<usize>, len: usize| place.map_or(len, |place| place + 1);
        // The texts differ in length where bytes were replaced.
        let (text, bytes) = (&self.text, &self.bytes);
        let in_bytes = rest(bytes.iter().position(|byte| *byte == b'='), bytes.len());
        Argument {
            text: text[rest(text.find('='), text.len())..].to_owned(),
            bytes: bytes[in_bytes..].to_vec(),
        }
    }
}

impl From<&str> for Argument {
    fn from(word: &str) -> Argument {
        OsString::from(word).into()
    }
}

impl From<OsString> for Argument {
    fn from(word: OsString) -> Argument {
        Argument { text: word.to_string_lossy().into_owned(), bytes: word.into_encoded_bytes() }
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq<str> for Argument {
    fn eq(&self, other: &str) -> bool {
        self.text == other
    }
}

impl Deref for Argument {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

/// The flags of a command, each with the variable that takes its value.
#[derive(Default)]
pub(crate) struct Flags<'a> {
    known: Vec<(&'static str, &'a mut dyn FlagValue)>,
}

impl<'a> Flags<'a> {
    /// Adds a flag.
    pub(crate) fn flag(mut self, name: &'static str, value: &'a mut dyn FlagValue) -> Flags<'a> {
        self.known.push((name, value));
        self
    }

    /// Reads the flags at the beginning of `arguments` and returns the positional arguments after them.
    ///
    /// # Errors
    /// The first flag that can't be read. The values of the flags before it have been set.
    pub(crate) fn parse(mut self, arguments: &[Argument]) -> Result<&[Argument], FlagError> {
        let mut rest = arguments;
        while let Some((argument, after)) = rest.split_first() {
            let Some(name) = argument.strip_prefix('-').filter(|name| !name.is_empty()) else { break };
            rest = after;
            if name == "-" {
                break;
            }
            let name = name.strip_prefix('-').unwrap_or(name);
            if name.starts_with(['-', '=']) {
                return Err(FlagError::Syntax(argument.to_string()));
            }
            let (name, mut word) = match name.split_once('=') {
                Some((name, _)) => (name, Some(argument.after_equals_sign())),
                None => (name, None),
            };
            let Some((name, value)) = self.known.iter_mut().find(|(known, _)| *known == name) else {
                let help = ["h", "help"].contains(&name);
                return Err(if help { FlagError::Help } else { FlagError::Unknown(name.to_owned()) });
            };
            if word.is_none() && !value.is_switch() {
                let (next, after) = rest.split_first().ok_or(FlagError::NoValue(name))?;
                (word, rest) = (Some(next.clone()), after);
            }
            let word = word.unwrap_or_else(|| Argument::from("true"));
            value.set_word(&word).map_err(|why| FlagError::Value {
                name,
                text: word.to_string(),
                switch: value.is_switch(),
                why,
            })?;
        }
        Ok(rest)
    }
}

/// A variable that takes a flag's value. A repeated flag replaces the value, or adds to a list.
pub(crate) trait FlagValue {
    /// Sets the value from the text of the flag.
    ///
    /// # Errors
    /// Go's words for a text that is not a value of this type. The value is unchanged.
    fn set(&mut self, text: &str) -> Result<(), &'static str>;

    /// [`set`](Self::set) for a value that need not be UTF-8, such as a path.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    fn set_word(&mut self, word: &Argument) -> Result<(), &'static str> {
        self.set(word)
    }

    /// Whether the flag without a value means `true`.
    fn is_switch(&self) -> bool {
        false
    }
}

impl FlagValue for bool {
    fn set(&mut self, text: &str) -> Result<(), &'static str> {
        *self = match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            _ => return Err(NOT_UNDERSTOOD),
        };
        Ok(())
    }

    fn is_switch(&self) -> bool {
        true
    }
}

/// A switch that has no value unless the flag is given.
impl FlagValue for Option<bool> {
    fn set(&mut self, text: &str) -> Result<(), &'static str> {
        let mut given = false;
        given.set(text)?;
        *self = Some(given);
        Ok(())
    }

    fn is_switch(&self) -> bool {
        true
    }
}

impl FlagValue for String {
    fn set(&mut self, text: &str) -> Result<(), &'static str> {
        text.clone_into(self);
        Ok(())
    }
}

impl FlagValue for Vec<String> {
    fn set(&mut self, text: &str) -> Result<(), &'static str> {
        self.push(text.to_owned());
        Ok(())
    }
}

/// A whole number; the prefixes 0x, 0o (or 0) and 0b give another base, and `_` may stand between digits.
impl FlagValue for i64 {
    fn set(&mut self, text: &str) -> Result<(), &'static str> {
        let (negative, digits) = match text.as_bytes() {
            [b'-', ..] => (true, &text[1..]),
            [b'+', ..] => (false, &text[1..]),
            _ => (false, text),
        };
        let (radix, digits) = match digits.as_bytes() {
            [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
            [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
            [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
            [b'0', _, ..] => (8, &digits[1..]),
            _ => (10, digits),
        };
        let digits = if radix == 10 { digits } else { digits.strip_prefix('_').unwrap_or(digits) };
        let groups = || digits.split('_');
        if groups().any(|group| group.is_empty() || !group.chars().all(|digit| digit.is_digit(radix))) {
            return Err(NOT_UNDERSTOOD);
        }
        let digits: String = groups().collect();
        let signed = if negative { format!("-{digits}") } else { digits };
        *self = i64::from_str_radix(&signed, radix).map_err(|_| "value out of range")?;
        Ok(())
    }
}

impl FlagValue for Nanoseconds {
    fn set(&mut self, text: &str) -> Result<(), &'static str> {
        *self = duration::parse(text).map_err(|_| NOT_UNDERSTOOD)?;
        Ok(())
    }
}

/// A duration that has no value unless the flag is given.
impl FlagValue for Option<Nanoseconds> {
    fn set(&mut self, text: &str) -> Result<(), &'static str> {
        let mut given = Nanoseconds::default();
        given.set(text)?;
        *self = Some(given);
        Ok(())
    }
}

const NOT_UNDERSTOOD: &str = "parse error";

/// Why a command line can't be read, in the words of Go's programs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FlagError {
    /// `-h=VALUE` asks for the help.
    Help,
    /// No such flag.
    Unknown(String),
    /// Three dashes, or no name.
    Syntax(String),
    /// The last flag lacks its value.
    NoValue(&'static str),
    /// The value has the wrong form.
    Value {
        /// The flag.
        name: &'static str,
        /// What was given.
        text: String,
        /// The flag is a switch.
        switch: bool,
        /// What is wrong.
        why: &'static str,
    },
}

impl fmt::Display for FlagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FlagError::Help => write!(f, "help requested"),
            FlagError::Unknown(name) => write!(f, "flag provided but not defined: -{name}"),
            FlagError::Syntax(argument) => write!(f, "bad flag syntax: {argument}"),
            FlagError::NoValue(name) => write!(f, "flag needs an argument: -{name}"),
            FlagError::Value { name, text, switch: true, why } => {
                write!(f, "invalid boolean value {text:?} for -{name}: {why}")
            }
            FlagError::Value { name, text, switch: false, why } => {
                write!(f, "invalid value {text:?} for flag -{name}: {why}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Taken {
        detailed: bool,
        name: String,
        tags: Vec<String>,
        factor: i64,
        rest: Vec<String>,
    }

    fn take(line: &str) -> Result<Taken, String> {
        let arguments: Vec<Argument> = line.split(' ').map(Argument::from).collect();
        let mut taken = Taken::default();
        let rest = Flags::default()
            .flag("detailed", &mut taken.detailed)
            .flag("name", &mut taken.name)
            .flag("tag", &mut taken.tags)
            .flag("factor", &mut taken.factor)
            .parse(&arguments)
            .map_err(|error| error.to_string())?;
        taken.rest = rest.iter().map(Argument::to_string).collect();
        Ok(taken)
    }

    #[test]
    fn one_dash_or_two_joined_or_apart_until_the_first_other_word() {
        let taken = take("-name=a --name b -tag x=1 --tag=y=2 -detailed c -name d").unwrap();
        let expected = Taken {
            detailed: true,
            name: "b".into(),
            tags: vec!["x=1".into(), "y=2".into()],
            factor: 0,
            rest: vec!["c".into(), "-name".into(), "d".into()],
        };
        assert_eq!(taken, expected);
        assert_eq!(take("-detailed -- -name").unwrap().rest, ["-name"]);
        assert_eq!(take("- -name").unwrap().rest, ["-", "-name"]);
        assert!(!take("-detailed=F").unwrap().detailed);
        assert_eq!(take("-name= x").unwrap().rest, ["x"]);
    }

    #[cfg(unix)]
    #[test]
    fn paths_keep_bytes_that_are_not_utf8() {
        use std::os::unix::ffi::OsStringExt;
        #[derive(Default)]
        struct Paths(Vec<PathBuf>);
        impl FlagValue for Paths {
            fn set(&mut self, _: &str) -> Result<(), &'static str> {
                Err("not as text")
            }
            fn set_word(&mut self, word: &Argument) -> Result<(), &'static str> {
                self.0.push(word.path());
                Ok(())
            }
        }
        let word = |bytes: &[u8]| Argument::from(OsString::from_vec(bytes.to_vec()));
        let mut paths = Paths::default();
        let arguments = [word(b"-dir=d\xe9=1"), word(b"-dir"), word(b"e\xe9"), word(b"rest")];
        let rest = Flags::default().flag("dir", &mut paths).parse(&arguments).unwrap();
        assert_eq!(rest.len(), 1);
        let expected =
            [&b"d\xe9=1"[..], b"e\xe9"].map(|bytes| PathBuf::from(OsString::from_vec(bytes.to_vec())));
        assert_eq!(paths.0, expected);
    }

    #[test]
    fn numbers_of_every_base() {
        for (text, value) in
            [("7", 7), ("-7", -7), ("0x2", 2), ("0b11", 3), ("010", 8), ("1_0", 10), ("0_1", 1), ("0", 0)]
        {
            assert_eq!(take(&format!("-factor={text}")).unwrap().factor, value, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_as_go_says_it() {
        for (line, error) in [
            ("-bogus=3", "flag provided but not defined: -bogus"),
            ("---x", "bad flag syntax: ---x"),
            ("-=x", "bad flag syntax: -=x"),
            ("-name", "flag needs an argument: -name"),
            ("-detailed=maybe", "invalid boolean value \"maybe\" for -detailed: parse error"),
            ("-factor=1__0", "invalid value \"1__0\" for flag -factor: parse error"),
            ("-factor=08", "invalid value \"08\" for flag -factor: parse error"),
            ("-factor=", "invalid value \"\" for flag -factor: parse error"),
            ("-factor=abc", "invalid value \"abc\" for flag -factor: parse error"),
            (
                "-factor=99999999999999999999",
                "invalid value \"99999999999999999999\" for flag -factor: value out of range",
            ),
            ("--help=1", "help requested"),
        ] {
            assert_eq!(take(line).unwrap_err(), error);
        }
    }
}
