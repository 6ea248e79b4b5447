//! Which agent a command talks to.

use std::env;

use thane_engine::ipc::Client;

use crate::command::Failure;
use crate::flags::Flags;

/// Options of every command that talks to an agent, for its help.
pub(crate) const ADDR_OPTION: (&str, &str) =
    ("-rpc-addr=127.0.0.1:7373", "Where the agent listens; also $THANE_RPC_ADDR or $SERF_RPC_ADDR");
/// The token's option, for a command's help.
pub(crate) const AUTH_OPTION: (&str, &str) =
    ("-rpc-auth=TOKEN", "The agent's token; also $THANE_RPC_AUTH or $SERF_RPC_AUTH");

/// Where the agent listens and what it wants to hear first.
#[derive(Debug)]
pub(crate) struct Rpc {
    addr: String,
    auth: String,
}

impl Rpc {
    /// What the environment says, and else the agent on this machine.
    pub(crate) fn from_environment() -> Rpc {
        Rpc {
            addr: first_set(["THANE_RPC_ADDR", "SERF_RPC_ADDR"])
                .unwrap_or_else(|| "127.0.0.1:7373".to_owned()),
            auth: first_set(["THANE_RPC_AUTH", "SERF_RPC_AUTH"]).unwrap_or_default(),
        }
    }

    /// Flags that say otherwise.
    pub(crate) fn flags(&mut self) -> Flags<'_> {
        Flags::default().flag("rpc-addr", &mut self.addr).flag("rpc-auth", &mut self.auth)
    }

    /// Connects.
    ///
    /// # Errors
    /// Nobody listens, or the token is wrong.
    pub(crate) fn connect(&self) -> Result<Client, Failure> {
        Client::connect(&self.addr, &self.auth)
            .map_err(|error| Failure::of("Error connecting to Serf agent", error))
    }
}

/// The first of the variables that is there and not empty.
fn first_set(names: [&str; 2]) -> Option<String> {
    names.iter().filter_map(|name| env::var(name).ok()).find(|value| !value.is_empty())
}
