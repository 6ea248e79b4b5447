//! Durations as people write them: `3s`, `1m30s`, `250ms`, `1.5h`, `-2s`, `0`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration in nanoseconds; it may be negative.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanoseconds(pub i64);

/// Why a text is not a duration.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// A number without a unit, a unit without a number, or neither.
    #[error("not a duration such as 3s, 1m30s or 250ms")]
    Malformed,
    /// More than 292 years.
    #[error("a duration out of range")]
    OutOfRange,
}

const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
/// Digits of a number that are read. Further digits after a point are below a nanosecond of the longest unit.
const DIGITS_MAX: usize = 19;

/// Reads a duration in Go's notation: numbers with units, one after the other; `0` needs no unit.
///
/// # Errors
/// The text has another form, or is out of range.
pub fn parse(text: &str) -> Result<Nanoseconds, DurationError> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Nanoseconds(0));
    }
    if rest.is_empty() {
        return Err(DurationError::Malformed);
    }
    let mut total = 0i128;
    while !rest.is_empty() {
        let (part, after) = part(rest)?;
        total = total.saturating_add(part);
        rest = after;
    }
    i64::try_from(sign * total).map(Nanoseconds).map_err(|_| DurationError::OutOfRange)
}

/// The first number with its unit, in nanoseconds, and the rest of the text.
fn part(text: &str) -> Result<(i128, &str), DurationError> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Malformed);
    }
    let end = rest.find(|letter: char| letter == '.' || letter.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let &(_, unit) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(DurationError::Malformed)?;
    let whole = whole.trim_start_matches('0');
    if whole.len() > DIGITS_MAX {
        return Err(DurationError::OutOfRange);
    }
    let fraction = &fraction[..fraction.len().min(DIGITS_MAX)];
    Ok((number(whole) * unit + number(fraction) * unit / 10i128.pow(fraction.len() as u32), rest))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()))
}

/// The value of at most [`DIGITS_MAX`] digits.
fn number(digits: &str) -> i128 {
    digits.bytes().fold(0, |number, digit| number * 10 + i128::from(digit - b'0'))
}

/// A duration of an argument or a scenario file: written as [`parse`] reads it, never negative, with a unit.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let Nanoseconds(nanoseconds) = parse(text).map_err(|error| format!("`{text}` is {error}"))?;
        let nanoseconds = u64::try_from(nanoseconds).map_err(|_| format!("`{text}` is negative"))?;
        Ok(Span(Duration::from_nanos(nanoseconds)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.0.as_nanos();
        let units = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];
        let fits = |(_, unit): &&(&str, u128)| nanoseconds.is_multiple_of(*unit);
        let (name, unit) = units.iter().find(fits).expect("everything is a multiple of 1 ns");
        write!(f, "{}{name}", nanoseconds / unit)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go() {
        for (text, ns) in [
            ("0", 0),
            ("3s", 3_000_000_000),
            ("1m30s", 90_000_000_000),
            ("250ms", 250_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("-1s", -1_000_000_000),
            ("+1ms", 1_000_000),
            ("1\u{b5}s", 1_000),
            ("1us2ns", 1_002),
            ("0.9999999999s", 999_999_999),
            ("0.000000000000000000000001s", 0),
            ("00000000000000000000000001s", 1_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(Nanoseconds(ns)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration() {
        for text in ["", "-", "5", "1d", "s", ".s", "1e3s", "1s5", "1 s", "\u{661}s"] {
            assert_eq!(parse(text), Err(DurationError::Malformed), "{text}");
        }
        for text in ["9999999h", "99999999999999999999s"] {
            assert_eq!(parse(text), Err(DurationError::OutOfRange), "{text}");
        }
    }

    #[test]
    fn a_span_is_the_same_after_writing_and_reading() {
        for (text, written) in
            [("0", "0s"), ("1.5s", "1500ms"), ("2m", "120s"), ("3us", "3us"), ("5ns", "5ns")]
        {
            let span: Span = text.parse().expect("a duration");
            assert_eq!(span.to_string(), written);
            assert_eq!(written.parse(), Ok(span));
        }
        assert_eq!("-1s".parse::<Span>(), Err("`-1s` is negative".to_owned()));
        assert_eq!("5".parse::<Span>(), Err("`5` is not a duration such as 3s, 1m30s or 250ms".to_owned()));
    }
}
