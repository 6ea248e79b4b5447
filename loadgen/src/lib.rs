//! Load generator: convergence and bandwidth of large fleets on one machine, and the reports of all instruments.
//!
//! `thane-testbed` uses [`arguments`], [`progress`], [`stop`], [`spread`] and [`report`]; everything else belongs to
//! the subcommands of `thane-loadgen`, one module each.

pub mod addresses;
mod agent;
pub mod arguments;
mod calibrate;
mod fleet;
mod process;
pub mod progress;
pub mod report;
mod sim;
pub mod spread;
pub mod stop;
mod tables;
mod target;

use std::ffi::OsString;
use std::process::ExitCode;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use self::arguments::Failure;

/// Program and version, for reports.
const PROGRAM: &str = concat!("thane-loadgen ", env!("CARGO_PKG_VERSION"));

/// Convergence and bandwidth of large fleets on one machine.
#[derive(Debug, Parser)]
#[command(name = "thane-loadgen", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Calibrate(calibrate::Options),
    Compare(Compare),
    Fleet(fleet::Options),
    Sim(sim::Options),
    Tables(tables::Options),
    Target(target::Options),
    #[command(name = target::sender::COMMAND, hide = true)]
    Sender(target::sender::Flood),
    #[command(name = target::bare::COMMAND, hide = true)]
    Bare(target::bare::Options),
}

/// Lays several reports over each other: prints their measures with ratios to the first, and writes one page.
#[derive(Args, Debug)]
struct Compare {
    /// JSON files of reports; the first is the one that the others are compared with
    #[arg(required = true, num_args = 2..)]
    reports: Vec<PathBuf>,
    /// Writes one HTML page with the curves laid over each other there
    #[arg(long, value_name = "PAGE")]
    out: Option<PathBuf>,
}

impl Compare {
    fn run(&self) -> Result<(), Failure> {
        print!("{}", report::compare(&self.reports, self.out.as_deref())?);
        self.out.iter().for_each(|out| println!("\nwritten: {}", out.display()));
        Ok(())
    }
}

/// Runs `thane-loadgen` with the words of a command line, the program's name first.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match arguments::parse::<Arguments>(words) {
        Ok(arguments) => arguments.command,
        Err(code) => return code,
    };
    let (name, result) = match &command {
        Command::Calibrate(options) => ("calibrate", calibrate::run(options)),
        Command::Compare(options) => ("compare", options.run()),
        Command::Fleet(options) => ("fleet", fleet::run(options)),
        Command::Tables(options) => ("tables", tables::run(options)),
        Command::Target(options) => ("target", target::run(options)),
        Command::Sender(flood) => (target::sender::COMMAND, flood.run()),
        Command::Bare(options) => (target::bare::COMMAND, options.run()),
        Command::Sim(options) => match sim::run(options) {
            Ok(code) => return code,
            Err(failure) => ("sim", Err(failure)),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&format!("thane-loadgen {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_lines_are_consistent() {
        Arguments::command().debug_assert();
    }
}
