//! The agent's parts, waiting for the command that runs them: addresses, banner, log, event filters, handlers,
//! what its doors work with, and the RPC port.

pub(crate) mod address;
pub(crate) mod backend;
pub(crate) mod banner;
pub(crate) mod filter;
pub(crate) mod handlers;
pub(crate) mod log;
pub(crate) mod rpc;
