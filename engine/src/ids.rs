//! The ids that a driver and its nodes agree on.

/// Identifies one node among those of a [`Context`](crate::context::Context).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// Identifies a stream of one node: the driver accepted those with odd numbers, the node opened those with even
/// numbers.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

impl StreamId {
    /// The `n`-th stream that the driver accepted for a node, counted from 0.
    pub fn accepted(n: u64) -> StreamId {
        StreamId(n * 2 + 1)
    }

    /// The `n`-th stream that a node opened, counted from 0.
    pub fn opened(n: u64) -> StreamId {
        StreamId(n * 2)
    }

    /// Whether the other side opened it.
    pub fn is_accepted(self) -> bool {
        self.0 % 2 == 1
    }
}

/// Identifies one queued broadcast of a node.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BroadcastId(pub u64);
