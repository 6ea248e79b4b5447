//! The process that sends a flood: this program again, so that what it costs is not the agent's and an agent that
//! is busy can't slow it down. Open loop: what is due is sent, whatever becomes of it.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, ExitCode, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use thane_engine::io::{Driver, SocketIndex, Udp, UdpOptions};

use super::deck::{self, Deck};
use super::emulated::Wrapping;

/// The subcommand; `target` starts it, users don't.
pub(crate) const COMMAND: &str = "sender";
/// Packets per system call.
const BATCH: u64 = 64;
/// Pause when nothing is due.
const PAUSE: Duration = Duration::from_micros(200);
/// How long answers are waited for at the end.
const LATE: Duration = Duration::from_millis(200);

/// A flood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Flood {
    pub(crate) deck: Deck,
    pub(crate) wrapping: Wrapping,
    /// The agent's gossip address and name.
    pub(crate) to: SocketAddr,
    pub(crate) node: String,
    /// The first address that packets come from, and how many there are, each with a socket.
    pub(crate) from: Ipv4Addr,
    pub(crate) sources: u32,
    /// Packets a second; 0: as many as the machine can.
    pub(crate) rate: u64,
    pub(crate) span: Duration,
    /// Emulated members that the agent knows, and where.
    pub(crate) members: usize,
    pub(crate) members_at: SocketAddr,
}

/// What a sender did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sent {
    /// Packets that the kernel took.
    pub(crate) packets: u64,
    /// Packets that came back.
    pub(crate) answers: u64,
    pub(crate) took: Duration,
}

/// A flood that is being sent.
#[derive(Debug)]
pub(crate) struct Sending(Child);

impl Flood {
    /// Starts the process that sends it.
    ///
    /// # Errors
    /// It can't be started.
    pub(crate) fn start(&self) -> Result<Sending, String> {
        let failed = |error: std::io::Error| format!("can't start the sender: {error}");
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg(COMMAND).args(self.words()).stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().map(Sending).map_err(failed)
    }

    /// Sends it in a process of its own, to the end.
    ///
    /// # Errors
    /// That process can't be started or fails.
    pub(crate) fn send(&self) -> Result<Sent, String> {
        self.start()?.finish()
    }

    fn words(&self) -> [String; 10] {
        [
            self.deck.as_str().to_owned(),
            if self.wrapping == Wrapping::Sealed { "sealed" } else { "plain" }.to_owned(),
            self.to.to_string(),
            self.node.clone(),
            self.from.to_string(),
            self.sources.to_string(),
            self.rate.to_string(),
            self.span.as_micros().to_string(),
            self.members.to_string(),
            self.members_at.to_string(),
        ]
    }

    fn parse(words: &[String]) -> Option<Flood> {
        fn of<T: FromStr>(word: &str) -> Option<T> {
            word.parse().ok()
        }
        let [deck, wrapping, to, node, from, sources, rate, micros, members, members_at] = words else {
            return None;
        };
        Some(Flood {
            deck: of(deck)?,
            wrapping: if wrapping == "sealed" { Wrapping::Sealed } else { Wrapping::Plain },
            to: of(to)?,
            node: node.clone(),
            from: of(from)?,
            sources: of(sources)?,
            rate: of(rate)?,
            span: Duration::from_micros(of(micros)?),
            members: of(members)?,
            members_at: of(members_at)?,
        })
    }
}

impl Sending {
    /// Waits for the end.
    ///
    /// # Errors
    /// The process failed; it has said why.
    pub(crate) fn finish(self) -> Result<Sent, String> {
        let output = self.0.wait_with_output().map_err(|error| format!("the sender is gone: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [packets, answers, micros] if output.status.success() => {
                Ok(Sent { packets, answers, took: Duration::from_micros(micros) })
            }
            _ => Err(format!("the sender ended early ({})", output.status)),
        }
    }
}

/// The process: sends the flood that its arguments describe and prints what it did.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let words: Vec<String> =
        arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let Some(flood) = Flood::parse(&words) else {
        eprintln!("thane-loadgen {COMMAND}: is started by target; {words:?} makes no sense");
        return ExitCode::from(crate::EXIT_USAGE);
    };
    match send(&flood) {
        Ok(Sent { packets, answers, took }) => {
            println!("{packets} {answers} {}", took.as_micros());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("thane-loadgen {COMMAND}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn send(flood: &Flood) -> std::io::Result<Sent> {
    let packets = flood.deck.packets(flood.wrapping, &flood.node, flood.members, flood.members_at);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut udp = Udp::new(Driver::Portable, &UdpOptions::default())?;
        let open = |n| UdpSocket::bind((deck::source(flood.from, n), 0)).and_then(|socket| udp.add(socket));
        let sockets: Vec<SocketIndex> = (0..flood.sources).map(open).collect::<Result<_, _>>()?;
        Ok(deal(&mut udp, &sockets, &packets, flood))
    })
}

fn deal(udp: &mut Udp, sockets: &[SocketIndex], packets: &[Vec<u8>], flood: &Flood) -> Sent {
    let (start, mut sent) = (Instant::now(), Sent { packets: 0, answers: 0, took: Duration::ZERO });
    let mut tried = 0u64;
    loop {
        let elapsed = start.elapsed();
        if elapsed >= flood.span {
            sent.took = elapsed;
            break;
        }
        let due = (elapsed.as_secs_f64() * flood.rate as f64) as u64;
        let count = if flood.rate == 0 { BATCH } else { due.saturating_sub(tried).min(BATCH) };
        if count == 0 {
            std::thread::sleep(PAUSE);
            continue;
        }
        // A batch from one socket is one system call; the next batch comes from the next address.
        let socket = sockets[(tried / BATCH) as usize % sockets.len()];
        let packet = |n: u64| packets[(n % packets.len() as u64) as usize].as_slice();
        sent.packets += udp.send((tried..tried + count).map(|n| (socket, flood.to, packet(n)))) as u64;
        tried += count;
        sent.answers += udp.receive(BATCH as usize, |_, _, _| ()) as u64;
    }
    std::thread::sleep(LATE);
    loop {
        match udp.receive(usize::MAX, |_, _, _| ()) {
            0 => return sent,
            more => sent.answers += more as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::target::emulated::Members;
    use std::net::IpAddr;

    fn flood(to: SocketAddr, rate: u64) -> Flood {
        Flood {
            deck: Deck::Gossip,
            wrapping: Wrapping::Sealed,
            to,
            node: "subject".to_owned(),
            from: Ipv4Addr::new(127, 46, 3, 10),
            sources: 3,
            rate,
            span: Duration::from_millis(200),
            members: 10,
            members_at: to,
        }
    }

    #[test]
    fn the_words_of_a_flood_say_everything() {
        let flood = flood(SocketAddr::from(([127, 46, 3, 1], 7946)), 7);
        assert_eq!(Flood::parse(&flood.words()), Some(flood.clone()));
        assert_eq!(Flood::parse(&flood.words()[1..]), None);
    }

    #[test]
    fn a_rate_is_kept_and_pings_are_answered() {
        let members = Members::start(IpAddr::from([127, 46, 3, 1]), 10, Wrapping::Sealed).unwrap();
        let flood = flood(members.addr(), 3_000);
        let sent = send(&flood).unwrap();
        let due = sent.took.as_secs_f64() * 3_000.0;
        assert!(sent.packets as f64 > due / 4.0 && sent.packets as f64 <= due + 1.0, "{sent:?}");
        // Late answers of a busy machine are not waited for.
        let pings = sent.packets / flood.deck.ping_every();
        assert!(sent.answers > pings / 4 && sent.answers <= pings + 2, "{sent:?}");
    }
}
