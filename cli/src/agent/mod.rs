//! The agent's parts that do not need the engine's driver: log, event filters, event handlers.

pub(crate) mod filter;
pub(crate) mod handlers;
pub(crate) mod log;
