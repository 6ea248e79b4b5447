//! Serf's part of a push/pull (PROTOCOL 5.8).

use std::borrow::Cow;

use super::{LamportTime, PUSH_PULL};
use crate::wire::decode_error::DecodeError;
use crate::wire::limits::{EVENT_SLOTS, SLOT_EVENTS_MAX};
use crate::wire::message::{name, write_str_field, write_uint_field};
use crate::wire::msgpack::{Reader, write_array, write_map, write_raw, write_raw_or_nil};

type Result<T> = std::result::Result<T, DecodeError>;

/// Serf's part of a push/pull. The lists are validated when it is decoded and walked in place after that.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PushPullState<'a> {
    /// Member clock.
    pub ltime: LamportTime,
    /// Event clock.
    pub event_ltime: LamportTime,
    /// Query clock.
    pub query_ltime: LamportTime,
    status_ltimes: &'a [u8],
    left_members: &'a [u8],
    events: &'a [u8],
}

/// The events of one Lamport time in a push/pull.
#[derive(Clone, Debug, PartialEq)]
pub struct EventSlot<'a> {
    /// Their Lamport time.
    pub ltime: LamportTime,
    /// Name and payload of each.
    pub events: Vec<(&'a str, Cow<'a, [u8]>)>,
}

impl<'a> PushPullState<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<PushPullState<'a>> {
        let mut state = PushPullState::default();
        let names = ["LTime", "StatusLTimes", "LeftMembers", "EventLTime", "Events", "QueryLTime"];
        reader.fields(&names, |r, field| {
            let start = r.rest();
            match field {
                0 => state.ltime = LamportTime(r.u64()?),
                1 => {
                    let pairs = r.map()?;
                    for _ in 0..pairs {
                        name(r)?;
                        r.u64()?;
                    }
                    state.status_ltimes = &start[..start.len() - r.rest().len()];
                }
                2 => {
                    let count = r.array()?;
                    for _ in 0..count {
                        name(r)?;
                    }
                    state.left_members = &start[..start.len() - r.rest().len()];
                }
                3 => state.event_ltime = LamportTime(r.u64()?),
                4 => {
                    let count = r.array()?;
                    for _ in 0..count {
                        decode_event_slot(r)?;
                    }
                    state.events = &start[..start.len() - r.rest().len()];
                }
                _ => state.query_ltime = LamportTime(r.u64()?),
            }
            Ok(())
        })?;
        Ok(state)
    }

    /// The newest intent's Lamport time of each member.
    pub fn status_ltimes(&self) -> impl Iterator<Item = (&'a str, LamportTime)> + use<'a> {
        let mut reader = Reader::new(self.status_ltimes);
        let pairs = reader.map().unwrap_or(0);
        (0..pairs).map_while(move |_| Some((reader.str().ok()?, LamportTime(reader.u64().ok()?))))
    }

    /// Members that left.
    pub fn left_members(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader::new(self.left_members);
        let count = reader.array().unwrap_or(0);
        (0..count).map_while(move |_| reader.str().ok())
    }

    /// User events, by Lamport time.
    pub fn events(&self) -> impl Iterator<Item = EventSlot<'a>> + use<'a> {
        let mut reader = Reader::new(self.events);
        let count = reader.array().unwrap_or(0);
        (0..count).filter_map(move |_| decode_event_slot(&mut reader).ok().flatten())
    }
}

fn decode_event_slot<'a>(reader: &mut Reader<'a>) -> Result<Option<EventSlot<'a>>> {
    if reader.nil()? {
        return Ok(None);
    }
    let mut slot = EventSlot { ltime: LamportTime(0), events: Vec::new() };
    reader.fields(&["LTime", "Events"], |r, field| {
        if field == 0 {
            slot.ltime = LamportTime(r.u64()?);
            return Ok(());
        }
        let count = r.array()?;
        if count > SLOT_EVENTS_MAX {
            return Err(DecodeError::TooManyEvents);
        }
        for _ in 0..count {
            let (mut name, mut payload) = ("", Cow::default());
            r.fields(&["Name", "Payload"], |r, field| {
                match field {
                    0 => name = r.str()?,
                    _ => payload = r.bytes()?,
                }
                Ok(())
            })?;
            slot.events.push((name, payload));
        }
        Ok(())
    })?;
    Ok(Some(slot))
}

/// What [`encode_push_pull`] writes.
#[derive(Debug)]
pub struct PushPullSource<'s, M, L, E> {
    /// Member clock.
    pub ltime: LamportTime,
    /// Event clock.
    pub event_ltime: LamportTime,
    /// Query clock.
    pub query_ltime: LamportTime,
    /// All members with the Lamport time of their newest intent, and how many.
    pub members: (u32, M),
    /// Members that left, and how many.
    pub left: (u32, L),
    /// The event in each of the [`EVENT_SLOTS`] slots.
    pub events: E,
    /// Ties the iterators' lifetime.
    pub marker: std::marker::PhantomData<&'s ()>,
}

/// One slot of the event buffer: a Lamport time and its events, or nothing.
pub type SlotRef<'s> = Option<(LamportTime, &'s [(String, bytes::Bytes)])>;

/// Appends Serf's part of a push/pull, type byte first.
pub fn encode_push_pull<'s, M, L, E>(source: PushPullSource<'s, M, L, E>, out: &mut Vec<u8>)
where
    M: Iterator<Item = (&'s str, LamportTime)>,
    L: Iterator<Item = &'s str>,
    E: Iterator<Item = SlotRef<'s>>,
{
    out.push(PUSH_PULL);
    write_map(out, 6);
    write_uint_field(out, "EventLTime", source.event_ltime.0);
    write_raw(out, b"Events");
    write_array(out, EVENT_SLOTS as u32);
    let mut slots = 0;
    for slot in source.events {
        slots += 1;
        match slot {
            None => out.push(0xc0),
            Some((ltime, events)) => encode_event_slot(ltime, events, out),
        }
    }
    assert!(slots <= EVENT_SLOTS, "the buffer has {EVENT_SLOTS} slots");
    out.resize(out.len() + EVENT_SLOTS - slots, 0xc0);
    write_uint_field(out, "LTime", source.ltime.0);
    write_raw(out, b"LeftMembers");
    write_array(out, source.left.0);
    source.left.1.for_each(|name| write_raw(out, name.as_bytes()));
    write_uint_field(out, "QueryLTime", source.query_ltime.0);
    write_raw(out, b"StatusLTimes");
    write_map(out, source.members.0);
    source.members.1.for_each(|(name, ltime)| write_uint_field(out, name, ltime.0));
}

fn encode_event_slot(ltime: LamportTime, events: &[(String, bytes::Bytes)], out: &mut Vec<u8>) {
    write_map(out, 2);
    write_raw(out, b"Events");
    write_array(out, events.len() as u32);
    for (name, payload) in events {
        write_map(out, 2);
        write_str_field(out, "Name", name);
        write_raw(out, b"Payload");
        write_raw_or_nil(out, payload);
    }
    write_uint_field(out, "LTime", ltime.0);
}
