//! `thane-testbed`: clusters of Thane, Serf or both in containers, with faults, observed through their public
//! interfaces only.

mod agent;
mod backend;
mod batch;
mod book;
mod call;
mod cases;
mod cluster;
mod condition;
mod docker;
mod engine;
mod failure;
mod images;
mod judge;
mod kubernetes;
mod lab;
mod leftovers;
mod links;
mod meter;
mod node;
mod outcome;
mod parity;
mod played;
mod player;
mod program;
mod queue;
mod report;
mod run;
mod scenario;
mod stop;
mod stream;
mod table;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;

/// Clusters of Thane, Serf or both in containers, with faults.
#[derive(Debug, Parser)]
#[command(name = "thane-testbed", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the images `thane:testbed` and `serf:testbed`, and both with a shell. No registry is asked.
    Images(images::ImagesOptions),
    /// Ten containers, half Serf: join, event, query, kill, partition, heal, leave. Takes two to three minutes.
    Smoke(run::CommonOptions),
    /// Plays scenarios on clusters of each kind, judges them and reports.
    Run(run::RunOptions),
    /// Runs the scripts that reproduce attacks and mishaps, and judges what they print. Needs root and python3.
    Cases(cases::CasesOptions),
    /// Compares Thane with real Serf: command lines, RPC exchanges, flags and configuration files. Takes two minutes.
    Parity(parity::ParityOptions),
    /// Names the scenarios and says what each shows.
    List,
    /// Removes containers, networks and packet rules of runs whose process is gone.
    Down {
        /// Remove those of running processes too.
        #[arg(long)]
        all: bool,
        /// Remove the namespaces of all runs on Kubernetes instead.
        #[arg(long)]
        kubernetes: bool,
    },
    /// Removes a run's containers once its process is gone; every run starts one.
    #[command(hide = true)]
    Guard { id: String },
}

fn main() -> ExitCode {
    let arguments = match thane_loadgen::arguments::parse::<Arguments>(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let result = match &arguments.command {
        Command::Guard { id } => leftovers::guard(id),
        command => {
            stop::listen();
            run(command)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("thane-testbed: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Images(options) => images::make(options),
        Command::Smoke(common) => run::smoke(common),
        Command::Run(options) => run::run(options),
        Command::Cases(options) => cases::run(options),
        Command::Parity(options) => parity::run(options),
        Command::List => {
            for scenario in scenario::catalog() {
                println!("{:16} {}", scenario.name, scenario.about);
            }
            Ok(())
        }
        Command::Down { kubernetes: true, .. } => kubernetes::down(),
        Command::Down { all, .. } => leftovers::down(*all),
        Command::Guard { id } => leftovers::guard(id),
    }
}
