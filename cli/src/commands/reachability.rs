//! `thane reachability`: sends a query that every live member acknowledges, and compares the acks with the list of
//! members.

use std::collections::BTreeSet;
use std::process::{self, ExitCode};
use std::time::Instant;

use thane_engine::ipc::{Client, ClientError, Member, MembersResponse, QueryRecord, QueryRequest, Request};

use crate::command::{Command, Failure};
use crate::commands::{on_interrupt, query_record};
use crate::escape;
use crate::flags::Argument;
use crate::output::say;
use crate::rpc::{ADDR_OPTION, AUTH_OPTION, LONG_TIMEOUT_OPTION, Rpc, TLS_OPTION};

pub(crate) const COMMAND: Command = Command {
    name: "reachability",
    arguments: "[options]",
    synopsis: "Test whether all members can be reached",
    about: "Sends a query that every live member acknowledges, waits for its timeout, and compares the acks with \
        the live members. A difference points at the network or at wrongly configured addresses.",
    options: &[
        ("-verbose", "Show each ack and the time that the query took"),
        ADDR_OPTION,
        AUTH_OPTION,
        TLS_OPTION,
        LONG_TIMEOUT_OPTION,
    ],
    run,
};

/// The one query that agents accept although its name has Serf's reserved prefix.
const PING_QUERY: &str = "_serf_ping";

fn run(arguments: &[Argument]) -> Result<ExitCode, Failure> {
    let (mut rpc, mut verbose) = (Rpc::from_environment(), false);
    rpc.flags().flag("verbose", &mut verbose).parse(arguments)?;
    let mut client = rpc.connect()?;
    let members = client
        .fetch::<MembersResponse>(&Request::Members)
        .map_err(|error| Failure::of("Error getting members", error))?
        .members;
    let live: BTreeSet<&str> =
        members.iter().filter(|member| member.status == "alive").map(|member| member.name.as_str()).collect();
    say(format_args!("Total members: {}, live members: {}", members.len(), live.len()));
    on_interrupt(|| {
        say("Test interrupted");
        process::exit(1);
    });
    let started = Instant::now();
    let ping = QueryRequest { request_ack: true, name: PING_QUERY.to_owned(), ..QueryRequest::default() };
    client.begin(&Request::Query(ping)).map_err(|error| Failure::of("Error sending query", error))?;
    say("Starting reachability test...");
    client.wait_at_most(rpc.patience());
    let acks = gather(&mut client, started, verbose)
        .map_err(|error| Failure::of("Error waiting for the end of the query", error))?;
    Ok(verdict(&acks, &live, &members))
}

/// The acks of the query.
struct Acks {
    count: usize,
    from: BTreeSet<String>,
}

/// # Errors
/// The agent stays silent.
fn gather(client: &mut Client, started: Instant, verbose: bool) -> Result<Acks, ClientError> {
    let mut acks = Acks { count: 0, from: BTreeSet::new() };
    let mut last = started;
    while let Some(record) = query_record(client)? {
        if record.kind == QueryRecord::DONE {
            break;
        }
        if record.kind != QueryRecord::ACK || record.from.is_empty() {
            continue;
        }
        last = Instant::now();
        acks.count += 1;
        if verbose {
            say(format_args!("\tAck from '{}'", escape::line(&record.from)));
        }
        if acks.from.contains(&record.from) {
            say(format_args!("Duplicate response from '{}'", escape::line(&record.from)));
        }
        acks.from.insert(record.from);
    }
    if verbose {
        let (all, last) = (started.elapsed().as_secs_f64(), (last - started).as_secs_f64());
        say(format_args!("Query time: {all:.2} sec, time to last response: {last:.2} sec"));
    }
    Ok(acks)
}

/// Prints what the comparison shows. Success if every live member, and no other, acknowledged once.
fn verdict(acks: &Acks, live: &BTreeSet<&str>, members: &[Member]) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    if acks.from.len() < acks.count {
        say("Duplicate responses means there is a misconfiguration. Verify that node names are unique.");
        code = ExitCode::FAILURE;
    }
    if acks.count == live.len() {
        say("Successfully contacted all live nodes");
        return code;
    }
    if acks.count > live.len() {
        say("Received more acks than live nodes! Acks from non-live nodes:");
        acks.from
            .iter()
            .filter(|from| !live.contains(from.as_str()))
            .for_each(|from| say(format_args!("\t{}", escape::line(from))));
        say("These members are listed as not alive, but they answer.");
    } else {
        say("Received less acks than live nodes! Missing acks from:");
        live.iter()
            .filter(|name| !acks.from.contains(**name))
            .for_each(|name| say(format_args!("\t{}", escape::line(name))));
        say("Gossip packets to or from these members are lost.");
    }
    say(advice(members));
    ExitCode::FAILURE
}

fn advice(members: &[Member]) -> String {
    let ports: BTreeSet<String> = members.iter().map(|member| member.port.to_string()).collect();
    let ports = ports.into_iter().collect::<Vec<_>>().join(", ");
    [
        "",
        "What to check:",
        "- Every member must reach the advertise address (without one, the bind address)",
        "  of every other member.",
        &format!("- Firewalls must pass UDP and TCP in both directions. Ports: {ports}"),
        "- Members behind address translation need an advertise address that is reachable",
        "  from outside.",
    ]
    .join("\n")
}
