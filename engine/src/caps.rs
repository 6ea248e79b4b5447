//! The caps that hold against hostile and broken peers, for `info` and the documents (DESIGN section 8). What lies
//! beyond one is refused or left out, and counted by its [drop reason](crate::drop_reason::DropReason).

use crate::node::{ACCEPTED_MAX, FIRST_BYTE, HELD_BYTES_MAX, SOURCE_MAX};
use crate::serf::EVENT_BYTES_MAX;
use crate::swim::{CLAIMS_MAX, UNANSWERED_MIN};
use crate::wire::limits;

/// Every cap: its name and value; times in milliseconds.
pub fn caps() -> [(&'static str, u64); 15] {
    [
        ("streams", ACCEPTED_MAX as u64),
        ("streams_per_source", SOURCE_MAX as u64),
        ("stream_first_byte_ms", FIRST_BYTE.as_millis() as u64),
        ("stream_bytes_held", HELD_BYTES_MAX as u64),
        ("stream_frame_bytes", limits::STREAM_FRAME_BYTES_MAX as u64),
        ("push_pull_sent_bytes", limits::PUSH_PULL_SENT_BYTES_MAX as u64),
        ("push_pull_members", limits::PUSH_PULL_NODES_MAX),
        ("datagram_decompressed_bytes", limits::DATAGRAM_DECOMPRESSED_BYTES_MAX as u64),
        ("datagram_messages", limits::DATAGRAM_MESSAGES_MAX as u64),
        ("event_bytes", limits::USER_EVENT_BYTES_HARD_MAX as u64),
        ("event_buffer_bytes", EVENT_BYTES_MAX as u64),
        ("node_name_bytes", limits::NODE_NAME_BYTES_MAX as u64),
        ("meta_bytes", limits::META_BYTES_MAX as u64),
        ("unanswered_members", UNANSWERED_MIN as u64),
        ("name_claims", CLAIMS_MAX as u64),
    ]
}
