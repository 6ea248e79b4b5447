//! `thane tags`: changes an agent's tags.

use std::process::ExitCode;

use thane_engine::ipc::{Request, TagsRequest};

use crate::command::{Command, Failure};
use crate::flags::Argument;
use crate::output::say;
use crate::rpc::{ADDR_OPTION, AUTH_OPTION, LONG_TIMEOUT_OPTION, Rpc, TLS_OPTION};
use crate::tags;

pub(crate) const COMMAND: Command = Command {
    name: "tags",
    arguments: "[options]",
    synopsis: "Change the tags of an agent",
    about: "Sets and deletes tags of a running agent and announces them to the cluster.",
    options: &[
        ("-set=NAME=VALUE", "Set a tag; can be given several times"),
        ("-delete=NAME", "Delete a tag; can be given several times"),
        ADDR_OPTION,
        AUTH_OPTION,
        TLS_OPTION,
        LONG_TIMEOUT_OPTION,
    ],
    run,
};

fn run(arguments: &[Argument]) -> Result<ExitCode, Failure> {
    let (mut rpc, mut set, mut delete_tags) = (Rpc::from_environment(), Vec::new(), Vec::new());
    rpc.flags().flag("set", &mut set).flag("delete", &mut delete_tags).parse(arguments)?;
    if set.is_empty() && delete_tags.is_empty() {
        return Err(Failure::Help);
    }
    let mut client = rpc.connect_and_wait()?;
    let request = Request::Tags(TagsRequest { tags: tags::parse(&set)?, delete_tags });
    client.call(&request).map_err(|error| Failure::of("Error setting tags", error))?;
    say("Successfully updated agent tags");
    Ok(ExitCode::SUCCESS)
}
