//! Thane's engine: SWIM and Serf membership as a deterministic state machine, values in, values out.
//!
//! What is here so far: the whole gossip wire format ([`wire`]) and the structures the core stands on: one
//! timer wheel for many nodes ([`timers`]), interned facts ([`roster`]) and 8-byte views ([`view`]),
//! seeded chance ([`random`]), and the vocabulary of inputs and outputs ([`context`], [`command`],
//! [`event`], [`config`]).

pub mod command;
pub mod config;
pub mod context;
pub mod event;
pub mod random;
pub mod roster;
pub mod stats;
pub mod time;
pub mod timers;
pub mod view;
pub mod wire;
