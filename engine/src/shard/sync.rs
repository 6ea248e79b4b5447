//! The types through which threads meet. `tests/interleavings.rs` compiles the mailbox and the broadcast ring a
//! second time, with models (loom) in place of these.

pub(crate) use std::sync::OnceLock;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

pub(crate) use arc_swap::ArcSwapOption;
pub(crate) use crossbeam::queue::ArrayQueue;
pub(crate) use tokio::sync::Notify;
