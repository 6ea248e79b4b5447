//! Thane's engine: SWIM and Serf membership as a deterministic state machine, values in, values out.
//!
//! A [`node::Node`] is one member of a cluster. Its owner (a driver with sockets, or the `sim` World with
//! virtual time) lends it a [`context::Context`] with every input and drains the outputs afterwards, in the
//! order that the Context's documentation gives. [`wire`] turns bytes into types and back, [`swim`] knows
//! who is here, [`roster`] and [`view`] hold it, [`timers`] and [`random`] are all the time and chance
//! there is.

pub mod api;
mod bytes_store;
pub mod command;
pub mod config;
pub mod context;
mod egress;
pub mod event;
pub mod io;
pub mod ipc;
pub mod node;
pub mod random;
pub mod roster;
mod serf;
#[cfg(feature = "sim")]
pub mod sim;
pub mod stats;
mod streams;
pub mod swim;
pub mod time;
pub mod timers;
pub mod view;
pub mod wire;
