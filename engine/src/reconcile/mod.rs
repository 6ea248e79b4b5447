//! Reconciliation between Thane peers: finding what two sets differ in without sending them (docs/protocol.md,
//! "Reconciliation"; Aljoscha Meyer, Range-Based Set Reconciliation, 2022).
//!
//! `compared` is what peers compare with every ping, `answer` is the exchange as a function from a message and a set
//! to the next message, `members` is a view as a set.

pub(crate) mod answer;
pub(crate) mod compared;
pub(crate) mod members;
#[cfg(test)]
mod tests;
