//! One command of the program: its name, its help, and how its result reaches the user.

use std::fmt::Display;
use std::iter;
use std::process::ExitCode;

use crate::escape;
use crate::flags::{Argument, FlagError};
use crate::output::{say, say_aside};

/// Letters in a line of help.
const HELP_WIDTH: usize = 80;

/// One command.
#[derive(Debug)]
pub(crate) struct Command {
    /// The word that the user types.
    pub(crate) name: &'static str,
    /// What follows the name, for the first line of the help.
    pub(crate) arguments: &'static str,
    /// What it does, in a few words, for the list of commands.
    pub(crate) synopsis: &'static str,
    /// What it does, in full.
    pub(crate) about: &'static str,
    /// Flags, as typed, and what each does.
    pub(crate) options: &'static [(&'static str, &'static str)],
    /// Runs the command. Results and errors go to stdout: scripts that read Serf's output expect both there.
    pub(crate) run: fn(&[Argument]) -> Result<ExitCode, Failure>,
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A line for the user.
    Message(String),
    /// The arguments are wrong: the reason, printed before the help.
    Usage(&'static str),
    /// The help answers it.
    Help,
    /// A flag can't be parsed.
    Flag(FlagError),
}

impl Failure {
    /// A failure with what was tried and why it failed.
    pub(crate) fn of(tried: &str, why: impl Display) -> Failure {
        // An agent's reason may quote other nodes.
        Failure::Message(format!("{tried}: {}", escape::lines(&why.to_string())))
    }
}

impl From<FlagError> for Failure {
    fn from(error: FlagError) -> Failure {
        Failure::Flag(error)
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure::Message(text)
    }
}

impl Command {
    /// The text that `-h` prints, in lines of at most [`HELP_WIDTH`] letters.
    pub(crate) fn help(&self) -> String {
        let mut lines = vec![format!("Usage: thane {} {}", self.name, self.arguments).trim_end().to_owned()];
        lines.push(String::new());
        lines.extend(wrap(self.about, HELP_WIDTH - 2).map(|line| format!("  {line}")));
        if !self.options.is_empty() {
            lines.extend([String::new(), "Options:".to_owned(), String::new()]);
            let width = self.options.iter().map(|(flag, _)| flag.len()).max().unwrap_or(0);
            for (flag, does) in self.options {
                let flags = [*flag].into_iter().chain(iter::repeat(""));
                let does = wrap(does, HELP_WIDTH - width - 4);
                lines.extend(flags.zip(does).map(|(flag, line)| format!("  {flag:width$}  {line}")));
            }
        }
        lines.join("\n")
    }

    /// Runs the command and prints its failure.
    pub(crate) fn execute(&self, arguments: &[Argument]) -> ExitCode {
        match (self.run)(arguments) {
            Ok(code) => return code,
            Err(Failure::Message(text)) => say(text),
            Err(Failure::Usage(why)) => say(format_args!("{why}\n\n{}", self.help())),
            Err(Failure::Help) => say(self.help()),
            Err(Failure::Flag(error)) => {
                if !matches!(error, FlagError::Help) {
                    say_aside(&error);
                }
                say(self.help());
            }
        }
        ExitCode::FAILURE
    }
}

/// Lines of at most `width` letters, broken between words.
fn wrap(text: &str, width: usize) -> impl Iterator<Item = String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one from the start");
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= width {
            line.push_str(&format!(" {word}"));
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_breaks_lines_between_words() {
        let command = Command {
            name: "x",
            arguments: "",
            synopsis: "",
            about: "word word word word word word word word word word word word word word word word word",
            options: &[(
                "-flag=VALUE",
                "explanation explanation explanation explanation explanation explanation",
            )],
            run: |_| Err(Failure::Help),
        };
        let help = command.help();
        assert!(help.starts_with("Usage: thane x\n\n  word "), "{help}");
        assert!(help.lines().all(|line| line.len() <= HELP_WIDTH), "{help}");
        assert!(help.ends_with("\n  -flag=VALUE  explanation explanation explanation explanation explanation\n               explanation"), "{help}");
    }
}
