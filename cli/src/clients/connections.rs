//! Which clients are connected: so many in all and from one source, and idle ones make room for further ones, so that
//! connections which nobody uses keep no administrator out.

use std::cell::Cell;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::listener::Peer;

/// Connections of one port at one time. Each costs a few kilobytes, and a megabyte at most while it sends an RPC request
/// of that size.
pub(crate) const CONNECTIONS_MAX: usize = 256;
/// Connections from other machines; the rest is a reserve for clients of this one.
const REMOTE_MAX: usize = 224;
/// Connections from one other machine.
const SOURCE_MAX: usize = 192;

/// The caps of a port, as `info` names them.
pub(crate) struct Caps;

impl Caps {
    pub(crate) const ALL: [(&'static str, usize); 3] = [
        ("connections_max", CONNECTIONS_MAX),
        ("connections_remote_max", REMOTE_MAX),
        ("connections_per_source_max", SOURCE_MAX),
    ];
}

/// A client that has not shown its token (without tokens: has not made its handshake) makes room after this time.
const UNPROVEN_IDLE: Duration = Duration::from_millis(250);
/// One that has, and has no stream or monitor, makes room this long after its last request.
const PROVEN_IDLE: Duration = Duration::from_secs(5);

/// What a connection is doing, shared with its session.
#[derive(Debug)]
pub(crate) struct Standing {
    /// The client made its handshake and showed its token, if there is one.
    pub(crate) proven: Cell<bool>,
    /// A request is being executed, or a stream or monitor runs.
    pub(crate) busy: Cell<bool>,
    /// When the last request ended; at first, when the client connected.
    pub(crate) last: Cell<Instant>,
}

impl Standing {
    fn new(now: Instant) -> Standing {
        Standing { proven: Cell::new(false), busy: Cell::new(false), last: Cell::new(now) }
    }

    /// Idle connections are closed for others, those that proved nothing first, then the longest idle.
    fn idle(&self, since: Instant, now: Instant) -> Option<(bool, Instant)> {
        let proven = self.proven.get();
        let (from, enough) = if proven { (self.last.get(), PROVEN_IDLE) } else { (since, UNPROVEN_IDLE) };
        let idle = (!proven || !self.busy.get()) && now.duration_since(from) >= enough;
        idle.then_some((proven, from))
    }
}

/// Where a client comes from: this machine, or another one's address. The 64 bits of an IPv6 address that name a
/// network count, because one host may have all addresses of it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Here,
    There(IpAddr),
}

impl Source {
    /// `server`: the address that the client connected to.
    pub(super) fn of(client: IpAddr, server: IpAddr) -> Source {
        let (client, server) = (client.to_canonical(), server.to_canonical());
        match client {
            _ if client.is_loopback() || client == server => Source::Here,
            IpAddr::V4(_) => Source::There(client),
            IpAddr::V6(ip) => Source::There(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into()),
        }
    }
}

/// The open connections.
#[derive(Debug, Default)]
pub(super) struct Connections(Vec<Connection>);

#[derive(Debug)]
struct Connection {
    client: Peer,
    source: Source,
    since: Instant,
    standing: Rc<Standing>,
    task: Option<AbortHandle>,
}

/// A connection for which there is room.
pub(super) struct Admitted {
    /// For its session.
    pub(super) standing: Rc<Standing>,
    /// The client whose connection was closed for it.
    pub(super) instead_of: Option<Peer>,
}

impl Connections {
    /// Makes room for a client, or returns `None` if there is none.
    pub(super) fn admit(&mut self, client: Peer, source: Source, now: Instant) -> Option<Admitted> {
        self.0.retain(|open| open.task.as_ref().is_none_or(|task| !task.is_finished()));
        let count = |of: &dyn Fn(Source) -> bool| self.0.iter().filter(|open| of(open.source)).count();
        let remote = source != Source::Here;
        let instead_of = if remote && count(&|other| other == source) >= SOURCE_MAX {
            Some(self.longest_idle(now, |other| other == source)?)
        } else if remote && count(&|other| other != Source::Here) >= REMOTE_MAX {
            Some(self.longest_idle(now, |other| other != Source::Here)?)
        } else if self.0.len() >= CONNECTIONS_MAX {
            Some(self.longest_idle(now, |_| true)?)
        } else {
            None
        };
        let standing = Rc::new(Standing::new(now));
        let instead_of = instead_of.map(|place| {
            let closed = self.0.swap_remove(place);
            closed.task.inspect(AbortHandle::abort);
            closed.client
        });
        self.0.push(Connection { client, source, since: now, standing: standing.clone(), task: None });
        Some(Admitted { standing, instead_of })
    }

    /// The session of the client that was admitted last runs in that task.
    pub(super) fn started(&mut self, task: AbortHandle) {
        if let Some(last) = self.0.last_mut() {
            last.task = Some(task);
        }
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.0.iter().filter(|open| open.task.as_ref().is_none_or(|task| !task.is_finished())).count()
    }

    /// The place of the connection that is closed first among those of these sources: one of the source with the most
    /// connections, so that a source with few keeps them.
    fn longest_idle(&self, now: Instant, among: impl Fn(Source) -> bool) -> Option<usize> {
        let idle = self.0.iter().enumerate().filter(|(_, open)| among(open.source));
        let idle = idle.filter_map(|(place, open)| Some((place, open, open.standing.idle(open.since, now)?)));
        let count = |source| self.0.iter().filter(|open| open.source == source).count();
        let first = idle.min_by_key(|(place, open, (proven, from))| {
            (*proven, std::cmp::Reverse(count(open.source)), *from, *place)
        });
        first.map(|(place, ..)| place)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn there(n: u8) -> Source {
        Source::There([10, 0, 0, n].into())
    }

    fn client(port: usize) -> Peer {
        Peer::Tcp(([10, 0, 0, 1], port as u16).into())
    }

    /// Admits so many; returns their standings.
    fn fill(connections: &mut Connections, source: Source, count: usize, now: Instant) -> Vec<Rc<Standing>> {
        (0..count).map(|n| connections.admit(client(n), source, now).unwrap().standing).collect()
    }

    #[test]
    fn one_source_and_all_remote_ones_leave_a_reserve() {
        let (mut connections, now) = (Connections::default(), Instant::now());
        fill(&mut connections, there(1), SOURCE_MAX, now);
        assert!(connections.admit(client(0), there(1), now).is_none());
        fill(&mut connections, there(2), REMOTE_MAX - SOURCE_MAX, now);
        assert!(connections.admit(client(0), there(3), now).is_none());
        fill(&mut connections, Source::Here, CONNECTIONS_MAX - REMOTE_MAX, now);
        assert!(connections.admit(client(0), Source::Here, now).is_none());
    }

    #[test]
    fn idle_connections_make_room_and_those_in_use_do_not() {
        let (mut connections, now) = (Connections::default(), Instant::now());
        let standings = fill(&mut connections, Source::Here, CONNECTIONS_MAX, now);
        for standing in &standings[1..] {
            standing.proven.set(true);
            standing.busy.set(true);
        }
        let later = now + UNPROVEN_IDLE;
        let admitted = connections.admit(client(999), Source::Here, later).unwrap();
        assert_eq!(admitted.instead_of, Some(client(0)), "it proved nothing");
        assert!(connections.admit(client(0), Source::Here, later).is_none(), "fresh, or busy");
        admitted.standing.proven.set(true);
        admitted.standing.busy.set(true);
        let hour = now + Duration::from_secs(3600);
        assert!(connections.admit(client(0), Source::Here, hour).is_none(), "streams are never idle");
        standings[7].busy.set(false);
        standings[7].last.set(hour - PROVEN_IDLE / 2);
        assert!(connections.admit(client(0), Source::Here, hour).is_none(), "a request has just ended");
        standings[7].last.set(hour - PROVEN_IDLE);
        let admitted = connections.admit(client(0), Source::Here, hour).unwrap();
        assert_eq!(admitted.instead_of, Some(client(7)));
    }

    #[test]
    fn the_source_with_the_most_connections_loses_one_first() {
        let (mut connections, now) = (Connections::default(), Instant::now());
        fill(&mut connections, there(1), 1, now);
        fill(&mut connections, there(2), SOURCE_MAX, now + Duration::from_millis(1));
        fill(&mut connections, Source::Here, CONNECTIONS_MAX - SOURCE_MAX - 1, now);
        let later = now + Duration::from_secs(1);
        let admitted = connections.admit(client(999), Source::Here, later).unwrap();
        assert_eq!(admitted.instead_of, Some(client(0)));
        let of = |source| connections.0.iter().filter(|open| open.source == source).count();
        assert_eq!((of(there(1)), of(there(2))), (1, SOURCE_MAX - 1));
    }

    #[test]
    fn clients_of_this_machine_are_told_from_others() {
        let of = |client: &str, server: &str| Source::of(client.parse().unwrap(), server.parse().unwrap());
        assert_eq!(of("127.0.0.1", "127.0.0.1"), Source::Here);
        assert_eq!(of("10.0.0.1", "10.0.0.1"), Source::Here);
        assert_eq!(of("::ffff:127.0.0.1", "::ffff:127.0.0.1"), Source::Here);
        assert_eq!(of("10.0.0.2", "10.0.0.1"), there(2));
        assert_eq!(of("2001:db8::1", "2001:db8:1::1"), of("2001:db8::2", "2001:db8:1::1"));
    }
}
