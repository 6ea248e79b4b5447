//! `thane event`: fires a user event.

use std::process::ExitCode;

use thane_engine::ipc::{EventRequest, Request};

use crate::command::{Command, Failure};
use crate::commands::name_and_payload;
use crate::flags::Argument;
use crate::output::say;
use crate::rpc::{ADDR_OPTION, AUTH_OPTION, Rpc, TIMEOUT_OPTION, TLS_OPTION};

pub(crate) const COMMAND: Command = Command {
    name: "event",
    arguments: "[options] NAME [PAYLOAD]",
    synopsis: "Fire a user event in the cluster",
    about: "Sends a user event to every member. Event handlers and streams with a matching filter receive it.",
    options: &[
        ("-coalesce=true", "Let members deliver only the last of several events with this name"),
        ADDR_OPTION,
        AUTH_OPTION,
        TLS_OPTION,
        TIMEOUT_OPTION,
    ],
    run,
};

fn run(arguments: &[Argument]) -> Result<ExitCode, Failure> {
    let (mut rpc, mut coalesce) = (Rpc::from_environment(), true);
    let arguments = rpc.flags().flag("coalesce", &mut coalesce).parse(arguments)?;
    let (name, payload) = name_and_payload(arguments, "An event name must be specified.")?;
    let event = EventRequest { name: name.to_owned(), payload, coalesce };
    rpc.connect()?.call(&Request::Event(event)).map_err(|error| Failure::of("Error sending event", error))?;
    say(format_args!("Event '{name}' dispatched! Coalescing enabled: {coalesce}"));
    Ok(ExitCode::SUCCESS)
}
