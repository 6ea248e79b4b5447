//! `thane force-leave`: changes the status of a failed member to left.

use std::process::ExitCode;

use thane_engine::ipc::{ForceLeaveRequest, Request};

use crate::command::{Command, Failure};
use crate::flags::Argument;
use crate::rpc::{ADDR_OPTION, AUTH_OPTION, Rpc};

pub(crate) const COMMAND: Command = Command {
    name: "force-leave",
    arguments: "[options] NODE",
    synopsis: "Change the status of a failed member to left",
    about: "Declares that a failed member has left, so that the other members stop trying to reach it. A member \
        that still runs announces itself again and returns.",
    options: &[("-prune", "Also erase the member from all lists at once"), ADDR_OPTION, AUTH_OPTION],
    run,
};

fn run(arguments: &[Argument]) -> Result<ExitCode, Failure> {
    let (mut rpc, mut prune) = (Rpc::from_environment(), false);
    let arguments = rpc.flags().flag("prune", &mut prune).parse(arguments)?;
    let [node] = arguments else {
        return Err(Failure::Usage("A node name must be specified to force leave."));
    };
    let request = Request::ForceLeave(ForceLeaveRequest { node: node.to_string(), prune });
    rpc.connect()?.call(&request).map_err(|error| Failure::of("Error force leaving", error))?;
    Ok(ExitCode::SUCCESS)
}
