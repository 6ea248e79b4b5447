//! The agent that a command talks to: its RPC address and token, and how long the command waits for it.

use std::env;
use std::time::Duration;

use thane_engine::duration::Nanoseconds;
use thane_engine::ipc::{Client, ClientError};

use crate::command::Failure;
use crate::flags::Flags;

/// The option for the agent's address, in the help of every command that talks to an agent.
pub(crate) const ADDR_OPTION: (&str, &str) =
    ("-rpc-addr=127.0.0.1:7373", "RPC address of the agent; also $THANE_RPC_ADDR or $SERF_RPC_ADDR");
/// The option for the agent's token.
pub(crate) const AUTH_OPTION: (&str, &str) =
    ("-rpc-auth=TOKEN", "RPC token of the agent; also $THANE_RPC_AUTH or $SERF_RPC_AUTH");

/// The option for the longest wait, in the help of commands that are answered at once.
pub(crate) const TIMEOUT_OPTION: (&str, &str) =
    ("-timeout=10s", "How long the agent may stay silent before the command fails; 0: for ever");
/// The option for the longest wait, in the help of commands that other members or the network may hold up.
pub(crate) const LONG_TIMEOUT_OPTION: (&str, &str) = (
    "-timeout=TIME",
    "How long the agent may stay silent before the command fails; 0: for ever; default: 10s for the connection, \
    then 5m",
);

/// How long the agent may take for what it answers at once.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take for what depends on other members and on its settings.
const DONE_WITHIN: Duration = Duration::from_secs(300);

/// The RPC address and token of an agent.
#[derive(Clone, Debug)]
pub(crate) struct Rpc {
    addr: String,
    auth: String,
    timeout: Option<Nanoseconds>,
}

impl Rpc {
    /// The values of the environment; without them the agent on this machine and no token.
    pub(crate) fn from_environment() -> Rpc {
        Rpc {
            addr: first_set(["THANE_RPC_ADDR", "SERF_RPC_ADDR"])
                .unwrap_or_else(|| "127.0.0.1:7373".to_owned()),
            auth: first_set(["THANE_RPC_AUTH", "SERF_RPC_AUTH"]).unwrap_or_default(),
            timeout: None,
        }
    }

    /// Flags that replace these values.
    pub(crate) fn flags(&mut self) -> Flags<'_> {
        Flags::default()
            .flag("rpc-addr", &mut self.addr)
            .flag("rpc-auth", &mut self.auth)
            .flag("timeout", &mut self.timeout)
    }

    /// The same for a command whose `-timeout` means something else.
    pub(crate) fn flags_without_timeout(&mut self) -> Flags<'_> {
        Flags::default().flag("rpc-addr", &mut self.addr).flag("rpc-auth", &mut self.auth)
    }

    /// Connects and authenticates. The agent then has to answer at once, if `-timeout` does not say otherwise.
    ///
    /// # Errors
    /// Serf's line with the reason: no agent listens there, it does not answer, or the token is wrong.
    pub(crate) fn connect(&self) -> Result<Client, Failure> {
        self.connect_for(ANSWERED_WITHIN)
    }

    /// The same for what other members or the network may hold up.
    ///
    /// # Errors
    /// As those of [`connect`](Self::connect).
    pub(crate) fn connect_and_wait(&self) -> Result<Client, Failure> {
        self.connect_for(DONE_WITHIN)
    }

    /// How long the agent may be silent about what other members or the network may hold up.
    pub(crate) fn patience(&self) -> Duration {
        self.given().unwrap_or(DONE_WITHIN)
    }

    /// The same during a query that lasts so long; zero: as long as the agent chooses.
    pub(crate) fn patience_with_query(lasts: Duration) -> Duration {
        if lasts.is_zero() { DONE_WITHIN } else { lasts.saturating_add(ANSWERED_WITHIN) }
    }

    /// `-timeout`; zero: for ever.
    fn given(&self) -> Option<Duration> {
        self.timeout.map(|given| Duration::from_nanos(u64::try_from(given.0).unwrap_or_default()))
    }

    fn connect_for(&self, done: Duration) -> Result<Client, Failure> {
        let given = self.given();
        let client = Client::connect_within(&self.addr, &self.auth, given.unwrap_or(ANSWERED_WITHIN));
        let mut client = client.map_err(|error| {
            let error = match error {
                ClientError::NoAnswer(within) => format!("no answer from {} within {within:?}", self.addr),
                error => error.to_string(),
            };
            Failure::of("Error connecting to Serf agent", error)
        })?;
        client.wait_at_most(given.unwrap_or(done));
        Ok(client)
    }
}

/// The value of the first variable that is set and not empty.
fn first_set(names: [&str; 2]) -> Option<String> {
    names.iter().filter_map(|name| env::var(name).ok()).find(|value| !value.is_empty())
}
