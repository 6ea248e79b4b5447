//! The agent that a command talks to: its RPC address and token.

use std::env;

use thane_engine::ipc::Client;

use crate::command::Failure;
use crate::flags::Flags;

/// The option for the agent's address, in the help of every command that talks to an agent.
pub(crate) const ADDR_OPTION: (&str, &str) =
    ("-rpc-addr=127.0.0.1:7373", "RPC address of the agent; also $THANE_RPC_ADDR or $SERF_RPC_ADDR");
/// The option for the agent's token.
pub(crate) const AUTH_OPTION: (&str, &str) =
    ("-rpc-auth=TOKEN", "RPC token of the agent; also $THANE_RPC_AUTH or $SERF_RPC_AUTH");

/// The RPC address and token of an agent.
#[derive(Debug)]
pub(crate) struct Rpc {
    addr: String,
    auth: String,
}

impl Rpc {
    /// The values of the environment; without them the agent on this machine and no token.
    pub(crate) fn from_environment() -> Rpc {
        Rpc {
            addr: first_set(["THANE_RPC_ADDR", "SERF_RPC_ADDR"])
                .unwrap_or_else(|| "127.0.0.1:7373".to_owned()),
            auth: first_set(["THANE_RPC_AUTH", "SERF_RPC_AUTH"]).unwrap_or_default(),
        }
    }

    /// Flags that replace these values.
    pub(crate) fn flags(&mut self) -> Flags<'_> {
        Flags::default().flag("rpc-addr", &mut self.addr).flag("rpc-auth", &mut self.auth)
    }

    /// Connects and authenticates.
    ///
    /// # Errors
    /// Serf's line with the reason: no agent listens there, or the token is wrong.
    pub(crate) fn connect(&self) -> Result<Client, Failure> {
        Client::connect(&self.addr, &self.auth)
            .map_err(|error| Failure::of("Error connecting to Serf agent", error))
    }
}

/// The value of the first variable that is set and not empty.
fn first_set(names: [&str; 2]) -> Option<String> {
    names.iter().filter_map(|name| env::var(name).ok()).find(|value| !value.is_empty())
}
