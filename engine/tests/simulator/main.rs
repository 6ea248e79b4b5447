//! The simulator itself: swarm seeds, canaries, scenarios with expected traces, rules of the papers.
#![allow(clippy::unwrap_used)]

mod papers;
mod sweep;
mod traces;
