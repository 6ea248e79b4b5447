//! `thane force-leave`: changes the status of failed members to left. One member by its name, as in Serf, or all that
//! match filters.

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;

use thane_engine::ipc::{Client, ClientError, ForceLeaveRequest, MembersRequest, MembersResponse, Request};

use crate::command::{Command, Failure};
use crate::escape;
use crate::flags::Argument;
use crate::output::say;
use crate::rpc::{ADDR_OPTION, AUTH_OPTION, LONG_TIMEOUT_OPTION, Rpc, TLS_OPTION};
use crate::tags;

pub(crate) const COMMAND: Command = Command {
    name: "force-leave",
    arguments: "[options] [NODE]",
    synopsis: "Change the status of a failed member to left",
    about: "Declares that a failed member has left, so that the other members stop trying to reach it. A member \
        that still runs announces itself again and returns. Instead of one NODE, filters choose members; they are \
        regular expressions, and all that are given must match.",
    options: &[
        ("-prune", "Also erase the member from all lists at once"),
        ("-name=REGEX", "All members whose name matches"),
        (
            "-status=REGEX",
            "All members whose status matches; default with another filter: failed, with -prune also left",
        ),
        ("-tag=NAME=REGEX", "All members whose tag NAME matches; can be given several times"),
        ADDR_OPTION,
        AUTH_OPTION,
        TLS_OPTION,
        LONG_TIMEOUT_OPTION,
    ],
    run,
};

/// Connections that share the work on many members: an agent answers the requests of a connection one after the other,
/// each once gossip has sent the news.
const CONNECTIONS: usize = 32;

fn run(arguments: &[Argument]) -> Result<ExitCode, Failure> {
    let (mut rpc, mut prune) = (Rpc::from_environment(), false);
    let (mut name, mut status, mut tag) = (String::new(), String::new(), Vec::new());
    let arguments = rpc
        .flags()
        .flag("prune", &mut prune)
        .flag("name", &mut name)
        .flag("status", &mut status)
        .flag("tag", &mut tag)
        .parse(arguments)?;
    let filtered = !(name.is_empty() && status.is_empty() && tag.is_empty());
    let node = match arguments {
        [] if filtered => None,
        [node] if !filtered => Some(node),
        [_, ..] if filtered => {
            return Err(Failure::Usage("Either a node name or filters can be specified, not both."));
        }
        _ => return Err(Failure::Usage("A node name must be specified to force leave.")),
    };
    if let Some(node) = node {
        force_leave(&mut rpc.connect_and_wait()?, node, prune).map_err(failed)?;
        return Ok(ExitCode::SUCCESS);
    }
    if status.is_empty() {
        status = if prune { "(failed|left)" } else { "failed" }.to_owned();
    }
    all(&rpc, MembersRequest { name, status, tags: tags::parse(&tag)? }, prune)
}

fn force_leave(client: &mut Client, node: &str, prune: bool) -> Result<(), ClientError> {
    client.call(&Request::ForceLeave(ForceLeaveRequest { node: node.to_owned(), prune }))
}

fn failed(error: ClientError) -> Failure {
    Failure::of("Error force leaving", error)
}

/// All members that the filter selects. Says how many, and why of those where it failed.
fn all(rpc: &Rpc, filter: MembersRequest, prune: bool) -> Result<ExitCode, Failure> {
    let mut client = rpc.connect_and_wait()?;
    let listed = client.fetch::<MembersResponse>(&Request::MembersFiltered(filter));
    let mut names: Vec<String> = listed
        .map_err(|error| Failure::of("Error retrieving members", error))?
        .members
        .into_iter()
        .map(|member| member.name)
        .collect();
    names.sort_unstable_by(|left, right| right.cmp(left));
    let (members, helpers) = (names.len(), names.len().min(CONNECTIONS).saturating_sub(1));
    let (waiting, failures) = (Mutex::new(names), Mutex::new(Vec::new()));
    let work = |mut client: Client| {
        while let Some(name) = pop(&waiting) {
            if let Err(error) = force_leave(&mut client, &name, prune) {
                let lost = !matches!(error, ClientError::Refused(_));
                failures.lock().unwrap_or_else(PoisonError::into_inner).push((name, error));
                if lost {
                    return;
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..helpers {
            // An agent may have no more connections to give: then fewer do the work.
            scope.spawn(|| rpc.connect_and_wait().map(work));
        }
        work(client);
    });
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort_by(|(left, _), (right, _)| left.cmp(right));
    for (name, error) in &failures {
        let error = error.to_string();
        say(format_args!("Error force leaving '{}': {}", escape::line(name), escape::lines(&error)));
    }
    let undone = failures.len() + waiting.into_inner().unwrap_or_else(PoisonError::into_inner).len();
    let what = if prune { "Pruned" } else { "Forced to leave" };
    say(format_args!("{what}: {} of {members} members", members - undone));
    Ok(if undone == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn pop(names: &Mutex<Vec<String>>) -> Option<String> {
    names.lock().unwrap_or_else(PoisonError::into_inner).pop()
}
