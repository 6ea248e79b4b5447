//! The agent's parts that do not need the engine's driver: addresses, banner, log, event filters, handlers.

pub(crate) mod address;
pub(crate) mod backend;
pub(crate) mod banner;
pub(crate) mod filter;
pub(crate) mod handlers;
pub(crate) mod log;
pub(crate) mod rpc;
