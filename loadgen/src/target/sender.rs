//! The process that sends a flood: this program again, so that its cost is not counted as the agent's and a busy
//! agent can't slow it down. Open loop: every packet is sent when it is due, whatever happened to those before it.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use thane_engine::duration::Span;
use thane_engine::io::{Driver, SocketIndex, Udp, UdpOptions};

use super::deck::{self, Deck};
use super::emulated::Wrapping;
use crate::arguments::{self, Failure};

/// The subcommand; `target` starts it, users don't.
pub(crate) const COMMAND: &str = "sender";
/// Packets per system call.
const BATCH: u64 = 64;
/// Pause when nothing is due.
const PAUSE: Duration = Duration::from_micros(200);
/// Time for late answers at the end.
const LATE: Duration = Duration::from_millis(200);

/// A flood, and the arguments of the process that sends it.
#[derive(Args, Clone, Debug, PartialEq)]
pub(crate) struct Flood {
    #[arg(value_enum)]
    pub(crate) deck: Deck,
    #[arg(value_enum)]
    pub(crate) wrapping: Wrapping,
    /// The agent's gossip address.
    pub(crate) to: SocketAddr,
    /// The agent's node name.
    pub(crate) node: String,
    /// The first address that packets come from.
    pub(crate) from: Ipv4Addr,
    /// How many addresses there are, each with a socket.
    pub(crate) sources: u32,
    /// Packets a second; 0: as many as the machine can.
    pub(crate) rate: u64,
    #[arg(value_parser = arguments::span)]
    pub(crate) span: Duration,
    /// Emulated members that the agent knows.
    pub(crate) members: usize,
    /// The address of all of them.
    pub(crate) members_at: SocketAddr,
}

/// The result of a flood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sent {
    /// Packets that the kernel accepted.
    pub(crate) packets: u64,
    /// Packets received.
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

    /// The arguments of the process.
    fn words(&self) -> [String; 10] {
        [
            value_name(&self.deck),
            value_name(&self.wrapping),
            self.to.to_string(),
            self.node.clone(),
            self.from.to_string(),
            self.sources.to_string(),
            self.rate.to_string(),
            Span(self.span).to_string(),
            self.members.to_string(),
            self.members_at.to_string(),
        ]
    }

    /// Sends it in this process and prints the result.
    ///
    /// # Errors
    /// A socket can't be opened.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let Sent { packets, answers, took } = send(self).map_err(|error| error.to_string())?;
        println!("{packets} {answers} {}", took.as_micros());
        Ok(())
    }
}

/// The name of a value on the command line.
fn value_name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

impl Sending {
    /// Waits for the end.
    ///
    /// # Errors
    /// The process failed; it has printed why.
    pub(crate) fn finish(self) -> Result<Sent, String> {
        let output =
            self.0.wait_with_output().map_err(|error| format!("can't wait for the sender: {error}"))?;
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
    use clap::Parser;
    use std::net::IpAddr;

    #[derive(clap::Parser)]
    struct Process {
        #[command(flatten)]
        flood: Flood,
    }

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
        let words = [&[COMMAND.to_owned()][..], &flood.words()].concat();
        assert_eq!(Process::try_parse_from(words).unwrap().flood, flood);
    }

    #[test]
    fn a_rate_is_kept_and_pings_are_answered() {
        let members = Members::start(IpAddr::from([127, 46, 3, 1]), 10, Wrapping::Sealed).unwrap();
        let flood = flood(members.addr(), 3_000);
        let sent = send(&flood).unwrap();
        let due = sent.took.as_secs_f64() * 3_000.0;
        assert!(sent.packets as f64 > due / 4.0 && sent.packets as f64 <= due + 1.0, "{sent:?}");
        // A busy machine answers some pings too late.
        let pings = sent.packets / flood.deck.ping_every();
        assert!(sent.answers > pings / 4 && sent.answers <= pings + 2, "{sent:?}");
    }
}
