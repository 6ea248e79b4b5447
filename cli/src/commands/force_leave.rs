//! `thane force-leave`: makes a failed member a left one.

use std::process::ExitCode;

use thane_engine::ipc::{ForceLeaveRequest, Request};

use crate::command::{Command, Failure};
use crate::flags::Argument;
use crate::rpc::{ADDR_OPTION, AUTH_OPTION, Rpc};

pub(crate) const COMMAND: Command = Command {
    name: "force-leave",
    arguments: "[options] NODE",
    synopsis: "Make a failed member a left one",
    about: "Tells the cluster that a failed member has left for good, so that nobody tries to reach it any \
        more. A member that is alive after all comes back by itself.",
    options: &[("-prune", "Also forget the member at once"), ADDR_OPTION, AUTH_OPTION],
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
