//! `thane leave`: makes an agent leave its cluster and exit.

use std::process::ExitCode;

use thane_engine::ipc::Request;

use crate::command::{Command, Failure};
use crate::flags::Argument;
use crate::output::say;
use crate::rpc::{ADDR_OPTION, AUTH_OPTION, LONG_TIMEOUT_OPTION, Rpc, TLS_OPTION};

pub(crate) const COMMAND: Command = Command {
    name: "leave",
    arguments: "[options]",
    synopsis: "Make an agent leave the cluster and exit",
    about: "Makes an agent announce its departure and exit. The other members list it as left, not as failed.",
    options: &[ADDR_OPTION, AUTH_OPTION, TLS_OPTION, LONG_TIMEOUT_OPTION],
    run,
};

fn run(arguments: &[Argument]) -> Result<ExitCode, Failure> {
    let mut rpc = Rpc::from_environment();
    rpc.flags().parse(arguments)?;
    rpc.connect_and_wait()?.call(&Request::Leave).map_err(|error| Failure::of("Error leaving", error))?;
    say("Graceful leave complete");
    Ok(ExitCode::SUCCESS)
}
