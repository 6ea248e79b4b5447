//! Reading arguments: values with an error that names the option.

use std::ops::Range;

/// The error's text.
pub(crate) fn text(error: lexopt::Error) -> String {
    error.to_string()
}

/// The value of an option as text.
pub(crate) fn string(parser: &mut lexopt::Parser) -> Result<String, String> {
    use lexopt::ValueExt;
    parser.value().and_then(|value| value.string()).map_err(text)
}

/// The value of an option as a number or whatever else can be parsed.
pub(crate) fn number<T: std::str::FromStr>(parser: &mut lexopt::Parser, option: &str) -> Result<T, String> {
    let value = string(parser)?;
    value.parse().map_err(|_| format!("{option} `{value}` is no number of the right kind"))
}

/// Seeds, `A..B`.
pub(crate) fn seeds(value: &str) -> Result<Range<u64>, String> {
    let range = value.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range
        .filter(|range| !range.is_empty())
        .ok_or_else(|| format!("--seeds `{value}` is no range such as `0..1000`"))
}
