//! `thane info`: version, clocks, queues and counters of an agent.

use std::process::ExitCode;

use thane_engine::ipc::{Request, Stats};

use crate::command::{Command, Failure};
use crate::escape;
use crate::flags::Argument;
use crate::output::{formatted, say};
use crate::rpc::{ADDR_OPTION, AUTH_OPTION, Rpc, TIMEOUT_OPTION, TLS_OPTION};

pub(crate) const COMMAND: Command = Command {
    name: "info",
    arguments: "[options]",
    synopsis: "Show version, clocks, queues and counters of an agent",
    about: "Shows an agent's version, Lamport clocks, queue lengths, tags, event handlers, datagram counters and \
        refused input by reason.",
    options: &[("-format=text", "text or json"), ADDR_OPTION, AUTH_OPTION, TLS_OPTION, TIMEOUT_OPTION],
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
