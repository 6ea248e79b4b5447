//! The agent that a command talks to: its RPC address and token, and how long the command waits for it.

use std::env;
use std::time::Duration;

use thane_engine::duration::Nanoseconds;
use thane_engine::ipc::{Client, ClientError, ClientTls};
use thane_engine::tls::{self, Own};

use crate::command::Failure;
use crate::flags::Flags;

/// The option for the agent's address, in the help of every command that talks to an agent.
pub(crate) const ADDR_OPTION: (&str, &str) =
    ("-rpc-addr=127.0.0.1:7373", "RPC address of the agent; also $THANE_RPC_ADDR or $SERF_RPC_ADDR");
/// The option for the agent's token.
pub(crate) const AUTH_OPTION: (&str, &str) =
    ("-rpc-auth=TOKEN", "RPC token of the agent; also $THANE_RPC_AUTH or $SERF_RPC_AUTH");

/// The option for TLS, in the help of the same commands.
pub(crate) const TLS_OPTION: (&str, &str) = (
    "-tls",
    "Speak TLS, with -tls-ca-file=FILE; if the agent wants it -tls-cert-file=FILE, -tls-key-file=FILE; \
    -tls-server-name=NAME of the agent's certificate; also $THANE_TLS_CA_FILE and so on",
);

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
    tls: Tls,
}

/// How the command speaks TLS; empty values are not given.
#[derive(Clone, Debug)]
struct Tls {
    /// Without a value it is on if a file is given.
    on: Option<bool>,
    ca_file: String,
    cert_file: String,
    key_file: String,
    server_name: String,
}

impl Rpc {
    /// The values of the environment; without them the agent on this machine and no token.
    pub(crate) fn from_environment() -> Rpc {
        Rpc {
            addr: first_set(["THANE_RPC_ADDR", "SERF_RPC_ADDR"])
                .unwrap_or_else(|| "127.0.0.1:7373".to_owned()),
            auth: first_set(["THANE_RPC_AUTH", "SERF_RPC_AUTH"]).unwrap_or_default(),
            timeout: None,
            tls: Tls::from_environment(),
        }
    }

    /// Flags that replace these values.
    pub(crate) fn flags(&mut self) -> Flags<'_> {
        let Rpc { addr, auth, timeout, tls } = self;
        tls.flags().flag("rpc-addr", addr).flag("rpc-auth", auth).flag("timeout", timeout)
    }

    /// The same for a command whose `-timeout` means something else.
    pub(crate) fn flags_without_timeout(&mut self) -> Flags<'_> {
        let Rpc { addr, auth, tls, .. } = self;
        tls.flags().flag("rpc-addr", addr).flag("rpc-auth", auth)
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
        let tls = self.tls.load().map_err(|error| Failure::of("Error connecting to Serf agent", error))?;
        let within = given.unwrap_or(ANSWERED_WITHIN);
        let client = Client::connect_with(&self.addr, &self.auth, within, tls.as_ref());
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

impl Tls {
    fn from_environment() -> Tls {
        let of = |name: &str| env::var(format!("THANE_TLS{name}")).unwrap_or_default();
        Tls {
            on: match of("").as_str() {
                "" => None,
                value => Some(["1", "true", "yes", "on"].contains(&value)),
            },
            ca_file: of("_CA_FILE"),
            cert_file: of("_CERT_FILE"),
            key_file: of("_KEY_FILE"),
            server_name: of("_SERVER_NAME"),
        }
    }

    fn flags(&mut self) -> Flags<'_> {
        Flags::default()
            .flag("tls", &mut self.on)
            .flag("tls-ca-file", &mut self.ca_file)
            .flag("tls-cert-file", &mut self.cert_file)
            .flag("tls-key-file", &mut self.key_file)
            .flag("tls-server-name", &mut self.server_name)
    }

    /// Reads the files. None: the command speaks no TLS.
    fn load(&self) -> Result<Option<ClientTls>, String> {
        let given = [&self.ca_file, &self.cert_file, &self.key_file];
        if !self.on.unwrap_or(given.iter().any(|file| !file.is_empty())) {
            return Ok(None);
        }
        if self.ca_file.is_empty() {
            return Err("TLS needs the CA of the agent's certificate: give -tls-ca-file".to_owned());
        }
        let own = match (self.cert_file.as_str(), self.key_file.as_str()) {
            ("", "") => None,
            ("", _) | (_, "") => {
                return Err("a certificate needs its key: give -tls-cert-file and -tls-key-file".to_owned());
            }
            (cert, key) => Some(Own { cert: cert.into(), key: key.into() }),
        };
        let config = tls::client(self.ca_file.as_ref(), own.as_ref()).map_err(|error| error.to_string())?;
        let server_name = Some(self.server_name.clone()).filter(|name| !name.is_empty());
        Ok(Some(ClientTls { config, server_name }))
    }
}

/// The value of the first variable that is set and not empty.
fn first_set(names: [&str; 2]) -> Option<String> {
    names.iter().filter_map(|name| env::var(name).ok()).find(|value| !value.is_empty())
}
