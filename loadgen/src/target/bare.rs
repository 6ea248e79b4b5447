//! What the kernel alone costs: a process that does nothing but take datagrams and answer pings, for comparison
//! with an agent under the same load. It sleeps in `recvfrom` and answers with one `sendto`.

use std::ffi::OsString;
use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

use thane_engine::wire::coordinate::Coordinate;
use thane_engine::wire::{Ack, Ping, SeqNo};

/// The subcommand; `target` starts it, users don't.
pub(crate) const COMMAND: &str = "bare";
/// What stands before the number in a ping of the load; the number is always a long one.
const BEFORE_SEQ: &[u8] = b"SeqNo\xce";
/// How long one look at whether the loop runs may take.
const LOOK: Duration = Duration::from_millis(50);

/// The loop, on the address that is its only argument.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let addr = arguments.first().and_then(|addr| addr.to_str()?.parse::<SocketAddr>().ok());
    let socket = addr.and_then(|addr| UdpSocket::bind(addr).ok());
    let Some(socket) = socket else {
        eprintln!("thane-loadgen {COMMAND}: needs a free address and port, not {arguments:?}");
        return ExitCode::from(crate::EXIT_USAGE);
    };
    answer(&socket)
}

fn answer(socket: &UdpSocket) -> ExitCode {
    let mut buffer = vec![0; 65_536];
    let mut ack = ack();
    let place = seq_place(&ack).expect("an ack has a number");
    loop {
        // An error tells of an answer that found nobody.
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let Some(seq) = seq_place(&buffer[..length]) else { continue };
        ack[place..place + 4].copy_from_slice(&buffer[seq..seq + 4]);
        // Whoever asked may be gone.
        let _ = socket.send_to(&ack, from);
    }
}

/// An ack as long as an agent's, coordinate included.
fn ack() -> Vec<u8> {
    let (mut payload, mut ack) = (Vec::new(), Vec::new());
    Coordinate::default().encode(&mut payload);
    Ack { seq: SeqNo(u32::MAX), payload: payload.into() }.encode(&mut ack);
    ack
}

/// Where the four bytes of the number are, if there are any.
fn seq_place(message: &[u8]) -> Option<usize> {
    let before = message.windows(BEFORE_SEQ.len()).position(|bytes| bytes == BEFORE_SEQ)?;
    let place = before + BEFORE_SEQ.len();
    (place + 4 <= message.len()).then_some(place)
}

/// Whether the loop answers at that address.
///
/// # Errors
/// It does not, or not yet.
pub(crate) fn is_there(addr: SocketAddr) -> std::io::Result<()> {
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
    use crate::target::emulated;
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
        emulated::messages(
            &emulated::envelope(&[]),
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
