//! thane
fn main() {}
