//! The files that a node keeps: its snapshot and its keyring.

pub mod beside;
mod content;
pub(crate) mod journal;
pub mod keyring;
mod writer;
