//! Benches of the parts, peers beside ours.
