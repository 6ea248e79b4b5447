//! Limits of the wire format, each with where it comes from (PROTOCOL section 8).

/// A packet that gossip assembles, bytes. memberlist's UDPBufferSize, which Serf's agent can't change.
pub const UDP_PACKET_BYTES_MAX: usize = 1400;
/// A datagram that is accepted, bytes: what UDP can carry. Serf sends query responses whatever their size.
pub const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Decompressed size of one datagram, bytes, all its compressed parts together. Honest packets hold 1400
/// bytes before compression and responses a few thousand; LZW grows at most 1,355-fold, which is memory and
/// time an attacker must not get.
pub const DATAGRAM_DECOMPRESSED_BYTES_MAX: usize = 256 * 1024;
/// Messages of one datagram, refused ones included. Serf sends at most 255 in one compound; compounds inside
/// compressed compounds could make tens of thousands of one small datagram.
pub const DATAGRAM_MESSAGES_MAX: usize = 1024;
/// Decompressed size of one stream, bytes (newest memberlist).
pub const STREAM_DECOMPRESSED_BYTES_MAX: usize = 40 * 1024 * 1024;
/// An encrypted stream frame, bytes (memberlist's maxPushStateBytes), and a plain stream's whole.
pub const STREAM_FRAME_BYTES_MAX: usize = 20 * 1024 * 1024;
/// A frame above this size is accepted with a warning, bytes (memberlist: 60 %).
pub const STREAM_FRAME_BYTES_WARNING: usize = STREAM_FRAME_BYTES_MAX / 10 * 6;
/// A plain push/pull with its user state, bytes: as much as a compressed one may hold.
pub const STREAM_PLAIN_BYTES_MAX: usize = STREAM_DECOMPRESSED_BYTES_MAX;
/// A step of a reconciliation on a stream, bytes; this node writes half of it at the most.
pub const RECONCILE_STREAM_BYTES_MAX: usize = 1024 * 1024;
/// Members in a push/pull (newest memberlist).
pub const PUSH_PULL_NODES_MAX: u64 = 1 << 20;
/// Serf's part of a push/pull, bytes (newest memberlist).
pub const USER_STATE_BYTES_MAX: u64 = 20 * 1024 * 1024;
/// Meta, bytes (memberlist).
pub const META_BYTES_MAX: usize = 512;
/// What this node adds to an ack, bytes: with the ack it fits a packet. (Serf's coordinate has 130.)
pub const ACK_PAYLOAD_BYTES_MAX: usize = 512;
/// Label, bytes (one length byte).
pub const LABEL_BYTES_MAX: usize = 255;
/// A peer's node name, bytes. Serf has no limit; a name longer than a packet can't be gossiped.
pub const NODE_NAME_BYTES_MAX: usize = 1024;
/// A user event, bytes, whatever is configured (Serf).
pub const USER_EVENT_BYTES_HARD_MAX: usize = 9216;
/// Filters of a query. At 3 bytes for the shortest, 340 fit Serf's default query size.
pub const QUERY_FILTERS_MAX: u64 = 1024;
/// Slots of the user events that travel in a push/pull (Serf's EventBuffer).
pub const EVENT_SLOTS: usize = 512;
/// User events of one slot, which all have the same Lamport time: that many nodes sent at the same moment.
pub const SLOT_EVENTS_MAX: u32 = 4096;
/// Names in a query's node filter. A filter of that many fills a datagram.
pub const FILTER_NODES_MAX: u32 = 16_384;
/// Keys in the answer to a key query. At 25 bytes for the shortest, 40 fit Serf's default response size.
pub const KEYS_MAX: u32 = 1024;
/// Compounds and compressions inside each other. Honest packets use two.
pub const NESTING_MAX: u32 = 8;
/// Parts of a compound (one count byte).
pub const COMPOUND_PARTS_MAX: usize = 255;
/// Nesting of a msgpack value that is skipped.
pub const MSGPACK_DEPTH_MAX: u32 = 32;
