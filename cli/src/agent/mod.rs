//! The agent: `thane agent`, the daemon. Everything here lives on the main thread, in one `LocalSet`; the
//! engine has a thread of its own.

mod address;
mod backend;
mod banner;
mod config;
mod events;
mod files;
mod filter;
mod flags;
mod handlers;
mod join;
mod json;
mod log;
mod notices;
mod reload;
mod rpc;
mod run;
mod settings;
mod signals;
mod start;
#[cfg(unix)]
mod syslog;
mod telemetry;

pub(crate) use run::run;
