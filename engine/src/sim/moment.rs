//! A moment of a run, for progress lines and curves over time.

use std::time::Duration;

use super::World;
use super::measure::Measures;
use crate::view::SwimState;

/// A run at one moment.
#[derive(Copy, Clone, Debug)]
pub struct Moment<'a> {
    /// Virtual time since the start.
    pub passed: Duration,
    /// Virtual time of the whole run, as far as it is known.
    pub expected: Duration,
    /// The World.
    pub world: &'a World,
    /// The measures so far.
    pub measures: &'a Measures,
}

impl Moment<'_> {
    /// Nodes that run.
    pub fn running(&self) -> u64 {
        self.world.running().count() as u64
    }

    /// Pairs of nodes of which the first knows some member as alive, itself included: full views of N nodes are N².
    /// A view with more members than nodes run, which is not up to date, counts as full.
    pub fn known(&self) -> u64 {
        let running = self.running();
        let nodes = self.world.running().filter_map(|id| self.world.node(id));
        nodes.map(|node| (node.view().swim_count(SwimState::Alive) as u64).min(running)).sum()
    }
}
