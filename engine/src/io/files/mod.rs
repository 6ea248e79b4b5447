//! The files that a node keeps: its snapshot and its keyring.

pub(crate) mod journal;
pub mod keyring;
mod writer;
