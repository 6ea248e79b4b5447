//! The cost of the kernel alone: a process that only receives datagrams and answers pings, for comparison with an
//! agent under the same load. It sleeps in `recvfrom` and answers with one `sendto`.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use clap::Args;
use thane_engine::wire::coordinate::Coordinate;
use thane_engine::wire::{Ack, Ping, SeqNo};

use crate::agent::{Agent, Launch};
use crate::arguments::Failure;

/// The subcommand; `target` starts it, users don't.
pub(crate) const COMMAND: &str = "bare";
/// The bytes before the number in a ping of the load; the number always has four bytes.
const BEFORE_SEQ: &[u8] = b"SeqNo\xce";
/// Time for the answer to one ping while the loop starts, at most.
const LOOK: Duration = Duration::from_millis(50);

/// The arguments of the loop's process.
#[derive(Debug, Args)]
pub(crate) struct Options {
    addr: SocketAddr,
}

impl Options {
    /// Runs the loop for ever.
    ///
    /// # Errors
    /// The address is taken.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let socket = UdpSocket::bind(self.addr).map_err(|error| format!("{}: {error}", self.addr))?;
        answer(&socket)
    }
}

/// Starts the loop in a process of its own and waits until it answers.
///
/// # Errors
/// It can't be started or does not answer.
pub(crate) fn start(launch: &Launch) -> Result<Agent, String> {
    let arguments = vec![COMMAND.to_owned(), launch.gossip().to_string()];
    Agent::start_as(launch, arguments, |agent| is_there(agent.gossip).map_err(|error| error.to_string()))
}

fn answer(socket: &UdpSocket) -> ! {
    let mut buffer = vec![0; 65_536];
    let mut ack = ack();
    let place = seq_place(&ack).expect("an ack has a number");
    loop {
        // An error reports an earlier answer to a port that is closed.
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let Some(seq) = seq_place(&buffer[..length]) else { continue };
        ack[place..place + 4].copy_from_slice(&buffer[seq..seq + 4]);
        // The sender may have closed its socket.
        let _ = socket.send_to(&ack, from);
    }
}

/// An ack as long as an agent's, coordinate included.
fn ack() -> Vec<u8> {
    let (mut payload, mut ack) = (Vec::new(), Vec::new());
    Coordinate::default().encode(&mut payload);
    Ack { seq: SeqNo(u32::MAX), payload: payload.into(), ..Ack::default() }.encode(&mut ack);
    ack
}

/// The position of the four bytes of the number, if the message has one.
fn seq_place(message: &[u8]) -> Option<usize> {
    let before = message.windows(BEFORE_SEQ.len()).position(|bytes| bytes == BEFORE_SEQ)?;
    let place = before + BEFORE_SEQ.len();
    (place + 4 <= message.len()).then_some(place)
}

/// Pings the loop at that address once.
///
/// # Errors
/// It does not answer, or not yet.
fn is_there(addr: SocketAddr) -> std::io::Result<()> {
    let socket = UdpSocket::bind((addr.ip(), 0))?;
    socket.set_read_timeout(Some(LOOK))?;
    socket.connect(addr)?;
    let mut ping = Vec::new();
    Ping { seq: SeqNo(u32::MAX), node: COMMAND, ..Ping::default() }.encode(&mut ping);
    socket.send(&ping)?;
    socket.recv(&mut ping).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use thane_engine::fixtures;
    use thane_engine::wire::Message;
    use thane_engine::wire::packet::Scratch;

    #[test]
    fn it_acks_pings_with_their_number_and_nothing_else() {
        let socket = UdpSocket::bind("127.34.1.9:0").unwrap();
        let addr = socket.local_addr().unwrap();
        std::thread::spawn(move || answer(&socket));
        let asking = UdpSocket::bind("127.34.1.9:0").unwrap();
        asking.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut ping = Vec::new();
        Ping { seq: SeqNo(0x4000_0007), node: "n", ..Ping::default() }.encode(&mut ping);
        for packet in [b"what".as_slice(), BEFORE_SEQ, &ping] {
            asking.send_to(packet, addr).unwrap();
        }
        let mut buffer = [0; 2048];
        let length = asking.recv(&mut buffer).unwrap();
        let mut acked = Vec::new();
        fixtures::messages(
            &fixtures::envelope(None),
            &mut buffer[..length],
            &mut Scratch::default(),
            |message| {
                if let Message::Ack(ack) = message {
                    acked.push((ack.seq, ack.payload.len()));
                }
            },
        );
        assert_eq!(acked, [(SeqNo(0x4000_0007), 130)]);
    }
}
