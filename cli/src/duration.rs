//! Durations as Serf's flags and files write them: `3s`, `1m30s`, `250ms`, `1.5h`, `-2s`, `0`.

/// A duration in nanoseconds; it may be negative.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Nanoseconds(pub(crate) i64);

/// Why a text is not a duration.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DurationError {
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
pub(crate) fn parse(text: &str) -> Result<Nanoseconds, DurationError> {
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
}
