//! `thane rtt`: estimates the round trip between two nodes from their coordinates.

use std::process::ExitCode;

use thane_engine::ipc::{Client, Coordinate, CoordinateRequest, CoordinateResponse, Request, Stats};

use crate::commands::{Command, Failure};
use crate::flags::Argument;
use crate::output::say;
use crate::rpc::{ADDR_OPTION, AUTH_OPTION, Rpc};

pub(crate) const COMMAND: Command = Command {
    name: "rtt",
    arguments: "[options] NODE1 [NODE2]",
    synopsis: "Estimate the round trip between two nodes",
    about: "Estimates the round trip between two nodes from their network coordinates, without a packet \
        between them. NODE2 is by default the agent's own node. Nodes are named as in the list of \
        members.",
    options: &[ADDR_OPTION, AUTH_OPTION],
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
    let seconds = distance(&from, &to).ok_or_else(|| {
        Failure::Message(format!("The coordinates of {one:?} and {two:?} have different dimensions"))
    })?;
    // Serf cuts the estimate to whole nanoseconds before it prints it.
    let ms = (seconds * 1e9).trunc() / 1e6;
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
    Ok(response.coord)
}

/// Vivaldi's estimate in seconds; none between spaces of different dimensions.
fn distance(from: &Coordinate, to: &Coordinate) -> Option<f64> {
    if from.vec.len() != to.vec.len() {
        return None;
    }
    let squares: f64 = from.vec.iter().zip(&to.vec).map(|(from, to)| (from - to) * (from - to)).sum();
    let plain = squares.sqrt() + from.height + to.height;
    let adjusted = plain + from.adjustment + to.adjustment;
    Some(if adjusted > 0.0 { adjusted } else { plain })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_is_euclidean_with_heights_and_adjustments() {
        let at =
            |x: f64, adjustment: f64| Coordinate { vec: vec![x, 0.0], error: 1.0, adjustment, height: 0.001 };
        assert_eq!(distance(&at(0.0, 0.0), &at(0.5, 0.0)), Some(0.502));
        assert_eq!(distance(&at(0.0, 0.25), &at(0.5, 0.0)), Some(0.752));
        // An adjustment that would make the time negative doesn't count.
        assert_eq!(distance(&at(0.0, -5.0), &at(0.5, 0.0)), Some(0.502));
        assert_eq!(distance(&at(0.0, 0.0), &Coordinate::default()), None);
    }
}
