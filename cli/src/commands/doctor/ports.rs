//! The agent's own ports: free, held by the agent itself, or held by something else.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use thane_engine::ipc::{Client, ClientError, ClientTls, Request, Stats};
use thane_engine::tls;

use super::finding::{Report, Severity};
use super::holder;
use crate::agent::{Addresses, Config, GOSSIP_PORT_DEFAULT, Interfaces};

/// How long an agent on this machine may take to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// A running agent, as it tells of itself.
pub(super) struct Running {
    pub(super) name: String,
    pub(super) stats: Stats,
}

/// Asks the agent at the RPC address, if there is one.
pub(super) fn rpc(config: &Config, report: &mut Report) -> Option<Running> {
    let addr = &config.rpc_addr;
    let tls = match client_tls(config) {
        Ok(tls) => tls,
        Err(why) => {
            report.add(Severity::Note, "rpc", format!("{addr} is not asked: {why}"));
            return None;
        }
    };
    let asked = Client::connect_with(addr, &config.settings.rpc_auth, ANSWERED_WITHIN, tls.as_ref());
    let mut client = match asked {
        Ok(client) => client,
        Err(ClientError::Tls(why)) => {
            report.add(Severity::Bad, "rpc", format!("{why}; check the 'tls_' settings and files"));
            return None;
        }
        Err(ClientError::Dial(why)) => {
            report.add(Severity::Note, "rpc", format!("no agent runs here ({why})"));
            return None;
        }
        Err(error) => {
            let holder = port(addr).and_then(holder::of).unwrap_or_else(|| "what listens there".to_owned());
            let text =
                format!("{addr}: {holder} refuses or is no agent: {error}; check 'rpc_auth', or -rpc-addr");
            report.add(Severity::Bad, "rpc", text);
            return None;
        }
    };
    client.wait_at_most(ANSWERED_WITHIN);
    match client.fetch::<Stats>(&Request::Stats) {
        Ok(stats) => {
            let name = stats.get("agent").and_then(|agent| agent.get("name")).cloned().unwrap_or_default();
            report.add(Severity::Good, "rpc", format!("agent '{name}' runs and answers at {addr}"));
            Some(Running { name, stats })
        }
        Err(error) => {
            report.add(Severity::Bad, "rpc", format!("{addr} answers, but not what it counts: {error}"));
            None
        }
    }
}

/// TLS as a client of this agent speaks it that has the same files. None: the RPC port uses none.
fn client_tls(config: &Config) -> Result<Option<ClientTls>, String> {
    let Some(of_ports) = config.tls.as_ref().filter(|tls| tls.rpc) else { return Ok(None) };
    let ca = of_ports.ca.as_ref().ok_or("it speaks TLS, and there is no 'tls_ca_file' to check it by")?;
    let config = tls::client(ca, Some(&of_ports.own)).map_err(|error| error.to_string())?;
    Ok(Some(ClientTls { config, server_name: None }))
}

/// Checks the files of TLS, if a port uses it.
pub(super) fn tls_files(config: &Config, report: &mut Report) {
    let Some(tls) = &config.tls else { return };
    match tls.load().and_then(|_| tls.load_gossip()) {
        Ok(_) => report.add(
            Severity::Good,
            "tls",
            format!("certificate and key in '{}' can be used", tls.own.cert.display()),
        ),
        Err(error) => report.add(Severity::Bad, "tls", error.to_string()),
    }
}

fn port(addr: &str) -> Option<u16> {
    addr.rsplit_once(':')?.1.parse().ok()
}

/// Checks the gossip address. Returns it if it is free.
pub(super) fn gossip(config: &Config, agent: Option<&Running>, report: &mut Report) -> Option<SocketAddr> {
    let interfaces = match Interfaces::list() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            report.add(
                Severity::Bad,
                "address",
                format!("the addresses of this machine can't be listed: {error}"),
            );
            return None;
        }
    };
    let settings = &config.settings;
    let found = Addresses::find(&config.bind, &settings.advertise, &settings.interface, &interfaces);
    let addresses = match found {
        Ok(addresses) => addresses,
        Err(why) => {
            report.add(Severity::Bad, "address", format!("{why}; check -bind, -advertise and -iface"));
            return None;
        }
    };
    let announced = addresses.announced;
    if announced.ip().is_loopback() && !addresses.bind.ip().is_loopback() {
        let text =
            format!("{announced} is announced, which no other machine reaches; set -advertise or -bind");
        report.add(Severity::Warning, "address", text);
    } else {
        report.add(Severity::Good, "address", format!("{announced} is announced to other members"));
    }
    mtu(announced, &interfaces, report);
    let free = [
        ("UDP", UdpSocket::bind(addresses.bind).map(drop)),
        ("TCP", TcpListener::bind(addresses.bind).map(drop)),
    ]
    .into_iter()
    .all(|(protocol, bound)| bindable(protocol, addresses.bind, bound, agent, report));
    free.then_some(addresses.bind)
}

fn bindable(
    protocol: &str,
    addr: SocketAddr,
    bound: io::Result<()>,
    agent: Option<&Running>,
    report: &mut Report,
) -> bool {
    let error = match bound {
        Ok(()) => {
            report.add(Severity::Good, "port", format!("{protocol} {addr} is free"));
            return true;
        }
        Err(error) => error,
    };
    let (severity, text) = match (error.kind(), agent) {
        (ErrorKind::AddrInUse, Some(agent)) => {
            (Severity::Good, format!("{protocol} {addr} is in use, and agent '{}' runs", agent.name))
        }
        (ErrorKind::AddrInUse, None) => {
            let holder = holder::of(addr.port()).unwrap_or_else(|| "another process".to_owned());
            let docker =
                if addr.port() == GOSSIP_PORT_DEFAULT { " (Docker's swarm mode uses 7946 too)" } else { "" };
            let text = format!(
                "{protocol} {addr} is held by {holder}{docker}: stop it, or choose another with -bind"
            );
            (Severity::Bad, text)
        }
        (ErrorKind::AddrNotAvailable, _) => {
            (Severity::Bad, format!("no interface of this machine has {addr}: choose another with -bind"))
        }
        _ => (Severity::Bad, format!("{protocol} {addr} can't be bound: {error}")),
    };
    report.add(severity, "port", text);
    false
}

/// The longest datagram of gossip, with the headers of IPv6 and UDP.
const PACKET_BYTES: u32 = 1400 + 48;

/// Whether the interface takes the longest datagram in one piece.
fn mtu(announced: SocketAddr, interfaces: &Interfaces, report: &mut Report) {
    let Some((name, mtu)) = interfaces.mtu_of(announced.ip()) else { return };
    if mtu < PACKET_BYTES {
        let text =
            format!("{name} takes {mtu} bytes and gossip sends {PACKET_BYTES}: datagrams are fragmented");
        report.add(Severity::Warning, "mtu", text);
    } else {
        report.add(
            Severity::Good,
            "mtu",
            format!("{name} takes {mtu} bytes, gossip sends at most {PACKET_BYTES}"),
        );
    }
}
