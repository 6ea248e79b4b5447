//! `thane-loadgen tables`: the tables of a document, measured anew with the commands in their rows.
//!
//! The line before a table says what its columns are: `<!-- columns: -, event.p50, command -->`. A column is a measure
//! of the report (`docs/report.md`), the command, or `-` for what a person wrote. The command of a row is one of `sim`.
//! A row without a command is left as it is.

mod document;

use std::path::PathBuf;

use clap::{Args, Parser};

use self::document::{Document, Row};
use crate::arguments::{Failure, one_line};
use crate::sim;
use crate::stop::Stop;

/// Plays the commands in the tables of a document and compares the values with those that stand there.
///
/// A simulation gives the same values everywhere, so that a row differs only if the engine or the document changed.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 all rows are as they stand or were written, 1 a row differs or could not be \
                        played, 2 wrong arguments"
)]
pub(crate) struct Options {
    /// A Markdown document
    document: PathBuf,
    /// Writes rows that differ to the document, each as soon as it is known
    #[arg(long)]
    write: bool,
    /// Only rows that cost at most so many node seconds: nodes, times virtual seconds, times runs
    #[arg(long, value_name = "N")]
    cost_max: Option<u64>,
    /// Only rows whose command contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// The command of a row.
#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    options: sim::Options,
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let stop = Stop::on_signal();
    let path = &options.document;
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let mut document = Document::parse(&text).map_err(|error| format!("{name}: {error}"))?;
    let (mut same, mut different, mut skipped) = (0, 0, 0);
    for row in document.rows().to_vec() {
        let command = command(&row)?;
        let fits = options.cost_max.is_none_or(|max| command.cost().is_ok_and(|cost| cost <= max));
        if !fits || options.only.as_ref().is_some_and(|only| !row.command.contains(only)) {
            skipped += 1;
            continue;
        }
        let measured = measured(&row, &command, &stop)?;
        if measured == document.line(&row) {
            same += 1;
            println!("same: {}", row.command);
            continue;
        }
        different += 1;
        println!("differs: {}\n  stands:   {}\n  measured: {measured}", row.command, document.line(&row));
        if options.write {
            document.replace(&row, measured);
            std::fs::write(path, document.text()).map_err(|error| format!("{name}: {error}"))?;
        }
    }
    println!("{same} rows as they stand, {different} that differ, {skipped} not played");
    match different {
        0 => Ok(()),
        _ if options.write => Ok(()),
        _ => Err(Failure::Work("rows differ; --write replaces them".to_owned())),
    }
}

/// What the row's command says.
fn command(row: &Row) -> Result<sim::Options, String> {
    let words = row.command.split_whitespace();
    let line = Line::try_parse_from(words);
    line.map(|line| line.options).map_err(|error| format!("`{}`: {}", row.command, one_line(&error)))
}

/// The row with the values of its command.
fn measured(row: &Row, command: &sim::Options, stop: &Stop) -> Result<String, String> {
    let spreads = sim::spreads(command, stop).map_err(|error| format!("`{}`: {error}", row.command))?;
    Ok(row.with(|id| spreads.get(id).map(ToString::to_string)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of this size are 100 nodes for half a minute with five seeds: seconds in a debug build.
    const COST_MAX: u64 = 15_000;

    #[test]
    fn rows_of_the_document_come_out_as_they_stand() {
        let document = Document::parse(include_str!("../../../docs/convergence.md")).expect("it can be read");
        let stop = Stop::default();
        let mut played = 0;
        for row in document.rows() {
            let command = command(row).expect("its command is valid");
            if command.cost().expect("its command is valid") <= COST_MAX {
                let measured = measured(row, &command, &stop).expect("it can be played");
                assert_eq!(
                    measured,
                    document.line(row),
                    "run: thane-loadgen tables --write docs/convergence.md"
                );
                played += 1;
            }
        }
        assert!(played >= 4, "{played} rows are cheap enough");
    }
}
