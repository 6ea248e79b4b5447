//! `thane info`: the agent's numbers.

use std::process::ExitCode;

use thane_engine::ipc::{Request, Stats};

use crate::command::{Command, Failure};
use crate::escape;
use crate::flags::Argument;
use crate::output::{formatted, say};
use crate::rpc::{ADDR_OPTION, AUTH_OPTION, Rpc};

pub(crate) const COMMAND: Command = Command {
    name: "info",
    arguments: "[options]",
    synopsis: "Show the numbers of an agent",
    about: "Shows what an agent knows about itself: version, clocks, queues, tags, event handlers.",
    options: &[("-format=text", "text or json"), ADDR_OPTION, AUTH_OPTION],
    run,
};

fn run(arguments: &[Argument]) -> Result<ExitCode, Failure> {
    let (mut rpc, mut format) = (Rpc::from_environment(), "text".to_owned());
    rpc.flags().flag("format", &mut format).parse(arguments)?;
    let stats: Stats =
        rpc.connect()?.fetch(&Request::Stats).map_err(|error| Failure::of("Error querying agent", error))?;
    say(formatted(&format, text(&stats), &stats)?);
    Ok(ExitCode::SUCCESS)
}

fn text(stats: &Stats) -> String {
    let mut text = String::new();
    for (section, values) in stats {
        text.push_str(&format!("{section}:\n"));
        for (name, value) in values {
            // Tags, scripts and the node's name may be anybody's.
            text.push_str(&format!("\t{} = {}\n", escape::line(name), escape::line(value)));
        }
    }
    text
}
