//! The agent: `thane agent`, the daemon. Everything here lives on the main thread, in one `LocalSet`; the
//! engine has a thread of its own.

mod address;
mod backend;
mod banner;
mod config;
mod events;
mod filter;
mod handlers;
mod identity;
mod join;
mod level;
mod log;
mod notices;
mod numbers;
mod reload;
mod rpc;
mod run;
mod running;
mod script;
mod signals;
mod start;
#[cfg(unix)]
mod syslog;
mod telemetry;

pub(crate) use run::run;
