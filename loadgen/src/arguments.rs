//! Command lines of the instruments: clap's derive, each error in one line, durations and ranges read in one way.

use std::ffi::OsString;
use std::ops::Range;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use thane_engine::duration::Span;

/// Exit code of a command line that can't be understood.
pub const EXIT_USAGE: u8 = 2;

/// Why a command ended without success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Its arguments make no sense together. Nothing was done.
    Usage(String),
    /// Its work failed.
    Work(String),
}

impl From<String> for Failure {
    fn from(error: String) -> Failure {
        Failure::Work(error)
    }
}

impl Failure {
    /// Prints the failure of that command in one line and returns its exit code.
    pub fn report(&self, command: &str) -> ExitCode {
        match self {
            Failure::Usage(error) => {
                eprintln!("{command}: {error} (--help lists the options)");
                ExitCode::from(EXIT_USAGE)
            }
            Failure::Work(error) => {
                eprintln!("{command}: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Reads the command line of this process, the program's name first. Prints help and version to standard output.
///
/// # Errors
/// The exit code of a process that has nothing more to do: 0 after help, 2 after an error, which was printed in one
/// line.
pub fn parse<T: Parser>(words: impl IntoIterator<Item = OsString>) -> Result<T, ExitCode> {
    let words: Vec<OsString> = words.into_iter().collect();
    let error = match T::try_parse_from(&words) {
        Ok(arguments) => return Ok(arguments),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            print!("{error}");
            Err(ExitCode::SUCCESS)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            eprint!("{error}");
            Err(ExitCode::from(EXIT_USAGE))
        }
        _ => Err(Failure::Usage(one_line(&error)).report(&name::<T>(&words))),
    }
}

/// The program and its subcommand, if the words name one.
fn name<T: Parser>(words: &[OsString]) -> String {
    let command = T::command();
    let second = words.get(1).and_then(|word| word.to_str()).and_then(|word| command.find_subcommand(word));
    let names = [Some(command.get_name()), second.map(clap::Command::get_name)];
    names.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// The message of an error with its hints, without the usage.
pub fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let said = text.split("\nUsage:").next().unwrap_or_default().split("\nFor more information").next();
    let lines = said.unwrap_or_default().lines().map(str::trim).filter(|line| !line.is_empty());
    let joined = lines.collect::<Vec<_>>().join("; ").replace(":; ", ": ");
    joined.strip_prefix("error: ").unwrap_or(&joined).to_owned()
}

/// Reads a duration such as `90s` or `1m30s`; a number without unit means seconds.
///
/// # Errors
/// The text is none.
pub fn span(text: &str) -> Result<Duration, String> {
    let has_no_unit = text.ends_with(|last: char| last.is_ascii_digit());
    let span = if has_no_unit { format!("{text}s").parse::<Span>() } else { text.parse::<Span>() };
    span.map(|span| span.0).map_err(|_| "write a duration such as 90s, 1m30s or 250ms".to_owned())
}

/// Reads the seeds `A..B`: from A to B - 1.
///
/// # Errors
/// The text is no such range, or an empty one.
pub fn seeds(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.filter(|range| !range.is_empty()).ok_or_else(|| "write a range such as 0..1000".to_owned())
}

/// Reads a share.
///
/// # Errors
/// The text is no number from 0 to 1.
pub fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "write a number from 0 to 1".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Debug, Parser)]
    struct Some {
        #[arg(long, value_parser = span)]
        lasts: Option<Duration>,
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=9))]
        nodes: Option<u32>,
        word: String,
    }

    #[test]
    fn an_error_is_one_line_with_its_hint() {
        for (line, expected) in [
            (
                "x w --last 3s",
                "unexpected argument '--last' found; tip: a similar argument exists: '--lasts'",
            ),
            ("x w --nodes 10", "invalid value '10' for '--nodes <NODES>': 10 is not in 1..=9"),
            ("x", "the following required arguments were not provided: <WORD>"),
            ("x w --lasts 3", ""),
            (
                "x w --lasts soon",
                "invalid value 'soon' for '--lasts <LASTS>': write a duration such as 90s, 1m30s or 250ms",
            ),
        ] {
            let error = Some::try_parse_from(line.split(' ')).err();
            assert_eq!(error.as_ref().map(one_line).unwrap_or_default(), expected, "{line}");
        }
    }

    #[test]
    fn values_are_read_in_one_way() {
        assert_eq!(span("10"), Ok(Duration::from_secs(10)));
        assert_eq!(span("1.5m"), Ok(Duration::from_secs(90)));
        assert!(span("-1s").is_err() && span("").is_err());
        assert_eq!(seeds("0..1000"), Ok(0..1000));
        assert!(seeds("9..3").is_err() && seeds("7").is_err());
        assert_eq!(share("0.05"), Ok(0.05));
        assert!(share("2").is_err() && share("NaN").is_err());
    }
}
