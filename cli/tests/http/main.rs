//! The HTTP port of a running agent: what it answers, compared with docs/openapi.json; its metrics; its limits; and the
//! dashboard in a browser.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod bounds;
mod browser;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod dashboard;
mod events;
mod metrics;
mod openapi;
#[path = "../agent/process.rs"]
#[allow(dead_code, reason = "shared with the tests of the agent")]
mod process;
mod schema;
mod tokens;
