//! Thane engine.

pub mod wire;
