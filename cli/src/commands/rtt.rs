//! `thane rtt`: estimates the round trip between two nodes from their coordinates.

use std::process::ExitCode;

use thane_engine::ipc::{self, Client, CoordinateRequest, CoordinateResponse, Request, Stats};
use thane_engine::wire::coordinate::{Coordinate, DIMENSIONS};

use crate::command::{Command, Failure};
use crate::escape;
use crate::flags::Argument;
use crate::output::say;
use crate::rpc::{ADDR_OPTION, AUTH_OPTION, Rpc, TIMEOUT_OPTION, TLS_OPTION};

pub(crate) const COMMAND: Command = Command {
    name: "rtt",
    arguments: "[options] NODE1 [NODE2]",
    synopsis: "Estimate the round-trip time between two nodes",
    about: "Estimates the round-trip time between two nodes from their network coordinates, without sending a \
        packet. NODE2 defaults to the node of the agent. Give node names as 'thane members' lists them.",
    options: &[ADDR_OPTION, AUTH_OPTION, TLS_OPTION, TIMEOUT_OPTION],
    run,
};

fn run(arguments: &[Argument]) -> Result<ExitCode, Failure> {
    let mut rpc = Rpc::from_environment();
    let nodes: Vec<String> = rpc.flags().parse(arguments)?.iter().map(Argument::to_string).collect();
    let mut client = rpc.connect()?;
    let (one, two) = match nodes.as_slice() {
        [one] => (one.clone(), own_name(&mut client)?),
        [one, two] => (one.clone(), two.clone()),
        _ => return Err(Failure::Usage("One or two node names must be specified")),
    };
    let from = coordinate(&mut client, &one)?;
    let to = coordinate(&mut client, &two)?;
    let seconds = from.round_trip_to(&to);
    // Serf truncates the estimate to whole nanoseconds before it prints it.
    let ms = (seconds * 1e9).trunc() / 1e6;
    let (one, two) = (escape::line(&one), escape::line(&two));
    say(format_args!("Estimated {one} <-> {two} rtt: {ms:.3} ms"));
    Ok(ExitCode::SUCCESS)
}

fn own_name(client: &mut Client) -> Result<String, Failure> {
    let mut stats: Stats =
        client.fetch(&Request::Stats).map_err(|error| Failure::of("Error querying agent", error))?;
    Ok(stats.remove("agent").and_then(|mut agent| agent.remove("name")).unwrap_or_default())
}

fn coordinate(client: &mut Client, node: &str) -> Result<Coordinate, Failure> {
    let request = Request::GetCoordinate(CoordinateRequest { node: node.to_owned() });
    let response: CoordinateResponse =
        client.fetch(&request).map_err(|error| Failure::of("Error getting coordinates", error))?;
    if !response.ok {
        return Err(Failure::Message(format!("Could not find a coordinate for node \"{node}\"")));
    }
    let ipc::Coordinate { vec, error, adjustment, height } = response.coord;
    let vec = vec.try_into().map_err(|vec: Vec<f64>| {
        Failure::Message(format!("The coordinate of {node:?} has {} dimensions, not {DIMENSIONS}", vec.len()))
    })?;
    Ok(Coordinate { vec, error, adjustment, height })
}
