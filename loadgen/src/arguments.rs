//! Reading arguments: values with an error that names the option.

use std::ffi::OsString;
use std::ops::Range;
use std::process::ExitCode;

/// Runs a subcommand: reads its arguments, does its work, says what went wrong in one line.
pub(crate) fn run<O>(
    command: &str,
    usage: &str,
    arguments: Vec<OsString>,
    parse: fn(&[String]) -> Result<O, String>,
    work: impl FnOnce(&O) -> Result<(), String>,
) -> ExitCode {
    let arguments: Vec<String> =
        arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    if arguments.iter().any(|argument| matches!(argument.as_str(), "-h" | "--help")) {
        print!("{usage}");
        return ExitCode::SUCCESS;
    }
    let options = match parse(&arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("thane-loadgen {command}: {error} (--help lists the options)");
            return ExitCode::from(crate::EXIT_USAGE);
        }
    };
    match work(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("thane-loadgen {command}: {error}");
            ExitCode::FAILURE
        }
    }
}

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
