//! The daemon of `thane agent`. Everything here runs on the main thread in one `LocalSet`; the engine has its own
//! thread.

mod address;
mod backend;
mod banner;
mod bind;
mod config;
mod events;
mod filter;
mod handlers;
mod identity;
mod interfaces;
mod join;
mod level;
mod log;
mod mdns;
mod notices;
mod numbers;
#[cfg(unix)]
mod orphans;
mod printer;
mod reload;
mod rpc;
mod run;
mod running;
mod script;
mod signals;
mod site;
mod start;
#[cfg(unix)]
mod syslog;
mod systemd;
mod telemetry;

pub(crate) use address::{Addresses, GOSSIP_PORT_DEFAULT};
pub(crate) use config::{Config, Tls, read_config};
pub(crate) use interfaces::Interfaces;
pub(crate) use run::run;
