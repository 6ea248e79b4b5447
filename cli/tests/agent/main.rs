//! The agent from outside: what it prints, how it ends, what its scripts see, side by side with `serf agent`
//! where that is installed.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod crash;
mod doctor;
mod files;
mod handlers;
mod joins;
mod lenient;
mod logs;
mod long_joins;
#[cfg(target_os = "linux")]
mod mdns;
#[cfg(target_os = "linux")]
mod namespaces;
mod process;
mod prunes;
mod refusals;
mod reload;
mod signals;
mod stalls;
mod start;
mod systemd;
mod telemetry;
mod tls;
mod tls_gossip;
mod top;
