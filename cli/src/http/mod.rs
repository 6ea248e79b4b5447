//! The HTTP port: health, metrics, members, events and commands for programs and people (docs/operating.md, HTTP), and
//! the dashboard. Nothing of it exists while it is off.
//!
//! A connection is a task that runs hyper. What a port shows, and whom it commands, is its [`Site`]: an agent, or a
//! node of the demo.

mod body;
mod commands;
mod counters;
mod events;
mod guard;
mod health;
mod io;
mod json;
mod members;
mod metrics;
mod page;
mod port;
mod query;
mod ring;
mod route;
mod site;

pub(crate) use self::counters::HttpCounters;
pub(crate) use self::metrics::{Exposition, Kind};
pub(crate) use self::port::serve;
pub(crate) use self::site::{Severity, Site, Soon, TagsRefused};
