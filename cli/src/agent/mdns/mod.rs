//! Members find each other by multicast DNS, as Serf's agents do with hashicorp/mdns: each answers for the service of
//! its cluster's name and asks for it at its start and every minute, and joins whoever answers.
//!
//! An agent without `discover` has none of this: no socket, no task.

mod message;
mod service;
mod sockets;

use std::cell::Cell;
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use self::message::{Malformed, Name};
use self::service::{Service, found, service_name};
use self::sockets::{Interface, Sockets};
use super::backend::Backend;
use super::config::Settings;
use super::interfaces::Interfaces;
use super::level::Level;

const COMPONENT: &str = "agent.mdns";
/// Serf's times: how often it asks, how long it listens for answers, how long it waits for more of them before it
/// joins.
const ASKED_EVERY: Duration = Duration::from_secs(60);
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_millis(100);
/// Pause after a socket could not be read.
const PAUSE: Duration = Duration::from_secs(1);
/// Most answers per second. Whoever asks under another's address can have no more than these sent there.
const ANSWERS_PER_SECOND_MAX: u32 = 500;
/// Most members of one join, and most addresses that are remembered as joined.
const JOINED_AT_ONCE_MAX: usize = 64;
const SEEN_MAX: usize = 4096;

/// What was counted of discovery.
#[derive(Debug, Default)]
pub(crate) struct MdnsCounters {
    answers: Cell<u64>,
    found: Cell<u64>,
    cut: Cell<u64>,
    bad_name: Cell<u64>,
    too_many_records: Cell<u64>,
    too_many_queries: Cell<u64>,
    too_many_members: Cell<u64>,
}

impl MdnsCounters {
    /// Answers sent, and members found.
    pub(crate) fn done(&self) -> [(&'static str, &'static str, u64); 2] {
        [
            ("answers", "Answers to queries of others", self.answers.get()),
            ("found", "Members found by queries, each address once", self.found.get()),
        ]
    }

    /// What was dropped, by reason.
    pub(crate) fn drops(&self) -> [(&'static str, u64); 5] {
        [
            ("cut", self.cut.get()),
            ("bad_name", self.bad_name.get()),
            ("too_many_records", self.too_many_records.get()),
            ("too_many_queries", self.too_many_queries.get()),
            ("too_many_members", self.too_many_members.get()),
        ]
    }

    fn malformed(&self, why: Malformed) {
        count(match why {
            Malformed::Cut => &self.cut,
            Malformed::Name => &self.bad_name,
            Malformed::TooMany => &self.too_many_records,
        });
    }
}

fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// Discovery, ready to run.
pub(super) struct Discovery {
    name: Name,
    service: Service,
    listening: Sockets,
    interface: Interface,
    /// The families that are asked.
    v4: bool,
    v6: bool,
    replay: bool,
    counters: Rc<MdnsCounters>,
}

impl Discovery {
    /// Opens the listening sockets, for the member `node` at `addr`; `None` without the setting `discover`.
    ///
    /// # Errors
    /// The line for the user.
    pub(super) fn open(
        settings: &Settings,
        node: &str,
        addr: SocketAddr,
    ) -> Result<Option<Discovery>, String> {
        if settings.discover.is_empty() {
            return Ok(None);
        }
        let failed = |error: String| format!("Error starting mDNS listener: {error}");
        let interface = match [&settings.mdns_interface, &settings.interface].into_iter().find(|name| !name.is_empty()) {
            Some(name) => Interface {
                index: Interfaces::index_of(name).ok_or_else(|| {
                    format!("Invalid mDNS network interface: no interface '{name}': choose another with -mdns-iface")
                })?,
                v4: Interfaces::list().map_err(|error| failed(error.to_string()))?.v4_of(name),
            },
            None => Interface::default(),
        };
        let host = gethostname::gethostname().to_string_lossy().into_owned();
        let listening = Sockets::listening(interface).map_err(|error| {
            failed(format!(
                "no multicast listeners could be started: {error}: give an interface with multicast by -mdns-iface, or join with -retry-join instead of -discover"
            ))
        })?;
        Ok(Some(Discovery {
            name: service_name(&settings.discover).map_err(failed)?,
            service: Service::new(node, &settings.discover, &host, addr).map_err(failed)?,
            listening,
            interface,
            v4: !settings.mdns_disable_ipv4,
            v6: !settings.mdns_disable_ipv6,
            replay: settings.replay_on_join,
            counters: Rc::default(),
        }))
    }

    /// What it counts.
    pub(super) fn counters(&self) -> Rc<MdnsCounters> {
        self.counters.clone()
    }

    /// Answers and asks from now on.
    pub(super) fn run(self, backend: Rc<Backend>) {
        let Discovery { name, service, listening, interface, v4, v6, replay, counters } = self;
        spawn_local(answer(listening, service, counters.clone()));
        let asking = move || Sockets::asking(interface, v4, v6);
        let mut searcher =
            Searcher { name, seen: HashSet::new(), pending: Vec::new(), replay, counters, backend };
        spawn_local(async move {
            let mut ticks = interval(ASKED_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let searched = match asking() {
                    Ok(sockets) => searcher.search(sockets).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = searched {
                    searcher.log(Level::Err, format_args!("Failed to poll for new hosts: {error}"));
                }
            }
        });
    }
}

/// Answers the queries of others.
async fn answer(mut sockets: Sockets, service: Service, counters: Rc<MdnsCounters>) {
    let (mut second, mut sent) = (Instant::now(), 0);
    loop {
        let (answers, from) = match sockets.receive().await {
            Ok((packet, from)) => match message::read(packet) {
                Ok(query) => (service.answers(&query), from),
                Err(why) => {
                    counters.malformed(why);
                    continue;
                }
            },
            Err(_) => {
                sleep(PAUSE).await;
                continue;
            }
        };
        if second.elapsed() >= Duration::from_secs(1) {
            (second, sent) = (Instant::now(), 0);
        }
        for answer in answers {
            if sent == ANSWERS_PER_SECOND_MAX {
                count(&counters.too_many_queries);
                continue;
            }
            sent += 1;
            // An asker that can't be reached gets no answer.
            if sockets.send(&answer, from).await.is_ok() {
                count(&counters.answers);
            }
        }
    }
}

/// Finds members and joins them.
struct Searcher {
    name: Name,
    /// Addresses that were joined, whether that succeeded or not: as in Serf none is joined again.
    seen: HashSet<SocketAddr>,
    /// Addresses that wait to be joined.
    pending: Vec<SocketAddr>,
    replay: bool,
    counters: Rc<MdnsCounters>,
    backend: Rc<Backend>,
}

impl Searcher {
    /// Asks once and joins those who answer.
    async fn search(&mut self, mut sockets: Sockets) -> io::Result<()> {
        let mut id = [0; 2];
        // The answers to everybody carry no number: any will do.
        let _ = getrandom::fill(&mut id);
        sockets.multicast(&message::query(u16::from_be_bytes(id), &self.name)).await?;
        let end = Instant::now() + ANSWERED_WITHIN;
        let mut quiet = end;
        loop {
            tokio::select! {
                received = sockets.receive() => {
                    let (packet, _) = received?;
                    if self.take(packet) {
                        quiet = end.min(Instant::now() + QUIET);
                    }
                }
                () = sleep_until(quiet), if !self.pending.is_empty() => self.join().await,
                () = sleep_until(end) => {
                    self.join().await;
                    return Ok(());
                }
            }
        }
    }

    /// Notes the members that a packet names. Returns whether one of them is new.
    fn take(&mut self, packet: &[u8]) -> bool {
        let message = match message::read(packet) {
            Ok(message) if message.is_response => message,
            Ok(_) => return false,
            Err(why) => {
                self.counters.malformed(why);
                return false;
            }
        };
        let before = self.pending.len();
        for addr in found(&self.name, &message) {
            if self.seen.contains(&addr) || self.pending.contains(&addr) {
                continue;
            }
            if self.pending.len() == JOINED_AT_ONCE_MAX || self.seen.len() + self.pending.len() >= SEEN_MAX {
                count(&self.counters.too_many_members);
                continue;
            }
            count(&self.counters.found);
            self.pending.push(addr);
        }
        self.pending.len() > before
    }

    async fn join(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let addresses: Vec<String> = self.pending.iter().map(SocketAddr::to_string).collect();
        match self.backend.join(&addresses, self.replay).await {
            Ok(joined) => self.log(Level::Info, format_args!("Joined {joined} hosts")),
            Err(error) => self.log(Level::Err, format_args!("Failed to join: {error}")),
        }
        self.seen.extend(self.pending.drain(..));
    }

    fn log(&self, level: Level, text: std::fmt::Arguments<'_>) {
        self.backend.log.add(level, COMPONENT, text);
    }
}
