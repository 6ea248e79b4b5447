//! Recent user events and queries as a set to reconcile: who missed one gets it from a peer that has it.

use std::net::SocketAddr;

use super::Serf;
use crate::digest::{Fingerprint, share};
use crate::drop_reason::DropReason;
use crate::reconcile::answer::{Held, Holdings, Presence};
use crate::roster::circle::point_of_bytes;
use crate::scope::Scope;
use crate::wire::reconcile::{Cursor, PointRange, write_number};
use crate::wire::serf::{Query, UserEvent};
use crate::wire::{DecodeError, LamportTime, SerfMessage};

/// A record's first byte: a query that can't be answered any more. Its time and id follow.
const OVER: u8 = 0xf0;

/// The point of a user event: the same on every node that has seen it.
pub(super) fn event_point(ltime: LamportTime, name: &str, payload: &[u8]) -> u64 {
    let name = point_of_bytes(name.as_bytes());
    share(name ^ point_of_bytes(payload).rotate_left(17), ltime.0)
}

/// The point of a query.
pub(super) fn query_point(ltime: LamportTime, id: u32) -> u64 {
    share(u64::from(id) | 1 << 40, ltime.0)
}

/// Where a message lies.
#[derive(Copy, Clone)]
enum Place {
    Event { slot: usize, place: usize },
    Query { ltime: LamportTime, id: u32 },
}

/// The recent messages of one node, in the order of their points.
pub(crate) struct RecentMessages<'a> {
    serf: &'a Serf,
    order: Vec<(u64, Place)>,
}

impl Serf {
    /// The recent messages as a set.
    pub(crate) fn recent_messages(&self) -> RecentMessages<'_> {
        let mut order = Vec::new();
        for (slot, held) in self.events.slots().enumerate() {
            let Some((ltime, events)) = held else { continue };
            order.extend(events.iter().enumerate().map(|(place, (name, payload))| {
                (event_point(ltime, name, payload), Place::Event { slot, place })
            }));
        }
        let queries = self.queries.seen.passed_on();
        order.extend(queries.map(|(ltime, id)| (query_point(ltime, id), Place::Query { ltime, id })));
        order.sort_unstable_by_key(|&(point, _)| point);
        RecentMessages { serf: self, order }
    }

    /// A sum over the recent messages.
    pub(crate) fn messages_digest(&self) -> u64 {
        self.events.sum().wrapping_add(self.queries.seen.sum())
    }

    /// Takes what a peer has and this node missed, oldest first. `clocks` are the peer's event and query clocks.
    pub(crate) fn merge_messages<'a>(
        &mut self,
        scope: &mut Scope<'_>,
        from: Option<SocketAddr>,
        clocks: [u64; 2],
        records: impl Iterator<Item = &'a [u8]>,
    ) {
        let [event, query] = clocks.map(|clock| LamportTime(clock.saturating_sub(1)));
        let now = scope.now();
        if !self.event_clock.witness(event, now) || !self.query_clock.witness(query, now) {
            return scope.drop_input(DropReason::LamportTimeRefused, from);
        }
        self.settle_earlier(scope, LamportTime(clocks[0]), LamportTime(clocks[1]));
        let mut missed: Vec<(LamportTime, SerfMessage<'a>)> = Vec::new();
        for record in records {
            scope.stats.records_received += 1;
            match record.split_first() {
                Some((&OVER, rest)) => match decode_over(rest) {
                    Ok((ltime, id)) => self.queries.seen.note(self.query_clock.time(), ltime, id),
                    Err(reason) => scope.drop_input(reason, from),
                },
                _ => match SerfMessage::decode(record) {
                    Ok(message @ SerfMessage::UserEvent(UserEvent { ltime, .. })) => {
                        missed.push((ltime, message))
                    }
                    Ok(message @ SerfMessage::Query(Query { ltime, .. })) => missed.push((ltime, message)),
                    Ok(_) => scope.drop_input(DecodeError::MisplacedType, from),
                    Err(reason) => scope.drop_input(reason, from),
                },
            }
        }
        missed.sort_by_key(|&(ltime, _)| ltime);
        for (_, message) in missed {
            match message {
                SerfMessage::UserEvent(event) => drop(self.on_user_event(scope, &event)),
                SerfMessage::Query(query) => drop(self.on_query(scope, &query)),
                _ => unreachable!("only events and queries were collected"),
            }
        }
        self.forget_old_messages();
    }

    /// Drops what lies further back than the clocks' windows, so that peers with equal clocks compare the same.
    pub(super) fn forget_old_messages(&mut self) {
        self.events.advance(self.event_clock.time());
        self.queries.seen.advance(self.query_clock.time());
    }
}

fn decode_over(bytes: &[u8]) -> Result<(LamportTime, u32), DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let ltime = LamportTime(cursor.number()?);
    let id = u32::try_from(cursor.number()?).map_err(|_| DecodeError::FieldOverflow)?;
    Ok((ltime, id))
}

impl RecentMessages<'_> {
    fn between(&self, first: u64, last: u64, work: &mut usize) -> Option<&[(u64, Place)]> {
        let start = self.order.partition_point(|&(point, _)| point < first);
        let end = self.order.partition_point(|&(point, _)| point <= last);
        *work = work.checked_sub(end - start)?;
        Some(&self.order[start..end])
    }
}

impl Holdings for RecentMessages<'_> {
    fn fingerprints(
        &self,
        range: PointRange,
        split: u8,
        work: &mut usize,
        into: &mut Vec<Fingerprint>,
    ) -> bool {
        let Some(inside) = self.between(range.first(), range.last(), work) else { return false };
        let start = into.len();
        into.resize(start + (1 << split), Fingerprint::default());
        for &(point, _) in inside {
            into[start + range.place_of(point, split)].add(share(point, 0));
        }
        true
    }

    fn list(&self, first: u64, last: u64, work: &mut usize, into: &mut Vec<Held>) -> bool {
        let Some(inside) = self.between(first, last, work) else { return false };
        let before = self.order.partition_point(|&(point, _)| point < first) as u32;
        into.extend((before..).zip(inside).map(|(handle, &(point, _))| Held {
            point,
            version: 0,
            presence: Presence::Here,
            handle,
        }));
        true
    }

    fn rebuts(&self, _record: &[u8]) -> Option<Held> {
        None
    }

    fn record(&self, held: &Held, out: &mut Vec<u8>) {
        match self.order[held.handle as usize].1 {
            Place::Event { slot, place } => {
                let held = self.serf.events.slots().nth(slot).flatten();
                let (ltime, events) = held.expect("what is listed lies in a slot");
                let (name, payload) = &events[place];
                UserEvent { ltime, name, payload: payload[..].into(), coalesce: false }.encode(out);
            }
            Place::Query { ltime, id } => match self.serf.queries.seen.bytes_of(ltime, id) {
                Some(bytes) => out.extend_from_slice(bytes),
                None => {
                    out.push(OVER);
                    write_number(out, ltime.0);
                    write_number(out, u64::from(id));
                }
            },
        }
    }
}
