//! `thane join`: makes an agent join a cluster.

use std::process::ExitCode;

use thane_engine::ipc::{JoinRequest, JoinResponse, Request};

use crate::command::{Command, Failure};
use crate::flags::Argument;
use crate::output::say;
use crate::rpc::{ADDR_OPTION, AUTH_OPTION, LONG_TIMEOUT_OPTION, Rpc, TLS_OPTION};

pub(crate) const COMMAND: Command = Command {
    name: "join",
    arguments: "[options] ADDRESS...",
    synopsis: "Make an agent join a cluster",
    about: "Makes an agent join the cluster of the members at these addresses. The agent tries all of them; the \
        command fails if none answers.",
    options: &[
        ("-replay", "Deliver user events that were sent before the join"),
        ADDR_OPTION,
        AUTH_OPTION,
        TLS_OPTION,
        LONG_TIMEOUT_OPTION,
    ],
    run,
};

fn run(arguments: &[Argument]) -> Result<ExitCode, Failure> {
    let (mut rpc, mut replay) = (Rpc::from_environment(), false);
    let existing = rpc.flags().flag("replay", &mut replay).parse(arguments)?;
    let existing: Vec<String> = existing.iter().map(Argument::to_string).collect();
    if existing.is_empty() {
        return Err(Failure::Usage("At least one address to join must be specified."));
    }
    let joined: JoinResponse = rpc
        .connect_and_wait()?
        .fetch(&Request::Join(JoinRequest { existing, replay }))
        .map_err(|error| Failure::of("Error joining the cluster", error))?;
    say(format_args!("Successfully joined cluster by contacting {} nodes.", joined.num));
    Ok(ExitCode::SUCCESS)
}
