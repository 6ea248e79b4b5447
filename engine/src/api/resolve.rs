//! The entries of a join: addresses, and host names that are looked up without delaying anything else.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// Longest wait for the answer to a name. The system's resolver may hang longer; its thread then ends later.
const LOOKUP_WITHIN: Duration = Duration::from_secs(10);
/// Threads that look up names, of all joins of this process together. They end when no name is left.
const LOOKUP_THREADS_MAX: usize = 32;
/// Stack of such a thread, bytes.
const STACK_BYTES: usize = 256 << 10;

/// Threads that look up names at this moment.
static LOOKUP_THREADS: AtomicUsize = AtomicUsize::new(0);

/// What an entry of a join is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// An address.
    Address(SocketAddr),
    /// A host name to look up.
    Name(Name),
}

/// A host name in an entry of a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// The whole entry, for errors.
    entry: String,
    host: String,
    port: u16,
}

/// The addresses of a name, or the line for the user.
pub(super) type Found = Result<Vec<SocketAddr>, String>;

impl Entry {
    /// Reads an address or a host name, with or without a port; a member's name and a slash may stand before it,
    /// which Serf takes too and does not check.
    ///
    /// # Errors
    /// One line with the entry and the mistake.
    pub(super) fn parse(entry: &str, default_port: u16) -> Result<Entry, String> {
        let host = match entry.split_once('/') {
            Some(("", _)) => return Err(failed(entry, "empty node name provided")),
            Some((_, host)) => host,
            None => entry,
        };
        if let Ok(addr) = host.parse::<SocketAddr>() {
            return Ok(Entry::Address(addr));
        }
        if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(Entry::Address(SocketAddr::new(ip, default_port)));
        }
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) => match port.parse() {
                Ok(port) => (host, port),
                Err(_) => return Err(failed(entry, &format!("invalid port {port:?}"))),
            },
            None => (host, default_port),
        };
        Ok(Entry::Name(Name { entry: entry.to_owned(), host: host.to_owned(), port }))
    }
}

/// Looks up the names on threads of their own. The receiver gets one answer for each name, as they arrive, and ends
/// after [`LOOKUP_WITHIN`] at the latest.
pub(super) fn look_up(names: Vec<Name>) -> mpsc::UnboundedReceiver<Found> {
    look_up_with(names, LOOKUP_WITHIN, |name| {
        (name.host.as_str(), name.port).to_socket_addrs().map(Vec::from_iter)
    })
}

fn look_up_with(
    names: Vec<Name>,
    within: Duration,
    resolver: impl Fn(&Name) -> std::io::Result<Vec<SocketAddr>> + Clone + Send + 'static,
) -> mpsc::UnboundedReceiver<Found> {
    let (answers, receiver) = mpsc::unbounded_channel();
    if names.is_empty() {
        return receiver;
    }
    let collect = move || {
        let deadline = Instant::now() + within;
        let (found, answered) = std::sync::mpsc::channel();
        let mut missing: Vec<Option<Name>> = names.iter().cloned().map(Some).collect();
        let waiting = Arc::new(Mutex::new(names.into_iter().enumerate().collect::<VecDeque<_>>()));
        for _ in 0..missing.len() {
            let (waiting, found, resolver) = (waiting.clone(), found.clone(), resolver.clone());
            if !start_thread(move || work(&waiting, &resolver, &found)) {
                break;
            }
        }
        drop(found);
        let left = || deadline.saturating_duration_since(Instant::now());
        while let Ok((place, result)) = answered.recv_timeout(left()) {
            if let Some(name) = missing[place].take() {
                // An error means that the join has been given up.
                let _ = answers.send(answer(&name, result));
            }
        }
        waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for name in missing.into_iter().flatten() {
            let _ = answers
                .send(Err(failed(&name.entry, &format!("no answer from the resolver within {within:?}"))));
        }
    };
    // Without a thread the channel is closed at once and the join says that nothing answered.
    let _ = thread::Builder::new().name("lookups".to_owned()).stack_size(STACK_BYTES).spawn(collect);
    receiver
}

/// Looks up names until none waits.
fn work(
    waiting: &Mutex<VecDeque<(usize, Name)>>,
    resolver: &impl Fn(&Name) -> std::io::Result<Vec<SocketAddr>>,
    found: &std::sync::mpsc::Sender<(usize, std::io::Result<Vec<SocketAddr>>)>,
) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some((place, name)) = next else { return };
        if found.send((place, resolver(&name))).is_err() {
            return;
        }
    }
}

/// Starts a thread, unless there are [`LOOKUP_THREADS_MAX`] already or the system refuses one.
fn start_thread(work: impl FnOnce() + Send + 'static) -> bool {
    let more = |threads: usize| (threads < LOOKUP_THREADS_MAX).then_some(threads + 1);
    if LOOKUP_THREADS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
        return false;
    }
    let run = move || {
        work();
        LOOKUP_THREADS.fetch_sub(1, Ordering::Relaxed);
    };
    let started = thread::Builder::new().name("lookup".to_owned()).stack_size(STACK_BYTES).spawn(run).is_ok();
    if !started {
        LOOKUP_THREADS.fetch_sub(1, Ordering::Relaxed);
    }
    started
}

fn answer(name: &Name, result: std::io::Result<Vec<SocketAddr>>) -> Found {
    match result {
        Ok(addrs) if addrs.is_empty() => Err(failed(&name.entry, "no addresses")),
        Ok(addrs) => Ok(addrs),
        Err(error) => Err(failed(&name.entry, &lookup_error(&name.host, &error))),
    }
}

/// Why a host name has no address.
fn lookup_error(host: &str, error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.strip_prefix("failed to lookup address information: ").unwrap_or(&text) {
        "Name or service not known" | "No address associated with hostname" => {
            format!("lookup {host}: no such host")
        }
        reason => format!("lookup {host}: {reason}"),
    }
}

fn failed(entry: &str, reason: &str) -> String {
    format!("Failed to resolve {entry}: {reason}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(entry: &str) -> SocketAddr {
        match Entry::parse(entry, 7946).unwrap() {
            Entry::Address(addr) => addr,
            Entry::Name(name) => panic!("{name:?} is an address"),
        }
    }

    fn name(entry: &str) -> Name {
        match Entry::parse(entry, 7946).unwrap() {
            Entry::Name(name) => name,
            Entry::Address(addr) => panic!("{addr} is a name"),
        }
    }

    #[test]
    fn join_entries_take_every_form() {
        let v4: SocketAddr = "127.0.0.1:7946".parse().unwrap();
        let v6: SocketAddr = "[::1]:7946".parse().unwrap();
        assert_eq!(address("127.0.0.1"), v4);
        assert_eq!(address("127.0.0.1:17"), "127.0.0.1:17".parse().unwrap());
        assert_eq!(address("::1"), v6);
        assert_eq!(address("[::1]"), v6);
        assert_eq!(address("[::1]:7946"), v6);
        assert_eq!(address("a/127.0.0.1"), v4);
        assert_eq!(
            (name("x/seed:17").host.as_str(), name("seed:17").port, name("seed").port),
            ("seed", 17, 7946)
        );
        assert!(Entry::parse("/127.0.0.1", 1).unwrap_err().contains("empty node name"));
        assert!(Entry::parse("127.0.0.1:x", 1).unwrap_err().contains("invalid port"));
    }

    // One test, because the limit of threads is for the whole process.
    #[test]
    fn names_are_looked_up_side_by_side_and_a_hanging_one_ends_at_the_deadline() {
        all_are_looked_up(LOOKUP_THREADS_MAX * 3);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let resolver = move |name: &Name| {
            if name.host == "hangs" {
                // Returns when the test drops its end.
                let _ = held.lock().unwrap().recv();
            }
            Ok(vec![SocketAddr::from(([127, 0, 0, 9], name.port))])
        };
        let names: Vec<Name> = ["hangs:1", "hangs:2", "seed:3", "seed:4"].map(name).into();
        let mut answers = look_up_with(names, Duration::from_millis(500), resolver);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answers: Vec<Found> = runtime.block_on(async {
            let mut all = Vec::new();
            while let Some(answer) = answers.recv().await {
                all.push(answer);
            }
            all
        });
        drop(release);
        let mut ports: Vec<u16> =
            answers[..2].iter().map(|answer| answer.as_ref().unwrap()[0].port()).collect();
        ports.sort_unstable();
        assert_eq!(ports, [3, 4]);
        let late = answers[2..].iter().map(|answer| answer.as_ref().unwrap_err().as_str());
        let expected =
            [1, 2].map(|n| format!("Failed to resolve hangs:{n}: no answer from the resolver within 500ms"));
        assert!(late.eq(expected.iter().map(String::as_str)), "{answers:?}");
    }

    fn all_are_looked_up(names_count: usize) {
        let names = (1..=names_count as u16).map(|port| name(&format!("seed:{port}"))).collect();
        let resolver = |name: &Name| Ok(vec![SocketAddr::from(([127, 0, 0, 9], name.port))]);
        let mut answers = look_up_with(names, Duration::from_secs(60), resolver);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let count = runtime.block_on(async {
            let mut count = 0;
            while let Some(answer) = answers.recv().await {
                assert!(answer.is_ok(), "{answer:?}");
                count += 1;
            }
            count
        });
        assert_eq!(count, names_count);
    }
}
