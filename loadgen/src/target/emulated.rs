//! The emulated members around an agent under test: one UDP socket and one TCP listener that answer for all of
//! them. Their names differ, their address is one; Serf and Thane both accept that.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::ValueEnum;
use thane_engine::fixtures::{self, Member, messages};
use thane_engine::wire::envelope::Envelope;
use thane_engine::wire::packet::{Assembler, Scratch};
use thane_engine::wire::stream::{Role, StreamDecoder, StreamMessage, encode_stream};
use thane_engine::wire::{Ack, Message, SeqNo};

use crate::agent::Launch;

/// Pause between two looks at whether it is time to end.
const LOOK: Duration = Duration::from_millis(50);
/// Time for one stream of the agent, at most.
const STREAM_TIMEOUT: Duration = Duration::from_secs(30);
/// The tags `dc=east`, `rack=r12` and `role=web`, encoded.
const META: &[u8] = b"\xff\x83\xa2dc\xa4east\xa4rack\xa3r12\xa4role\xa3web";

/// The only key of encrypted agents that are started here.
pub(crate) const KEY: [u8; 16] = *b"of thane-loadgen";

/// How datagrams and streams are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wrapping {
    /// Plain.
    Plain,
    /// Sealed with [`KEY`].
    Sealed,
}

impl Wrapping {
    /// The same agent, with the key if this is sealed.
    pub(crate) fn launched(self, launch: &Launch) -> Launch {
        let mut launch = launch.clone();
        if self == Wrapping::Sealed {
            launch.flags.push(format!("-encrypt={}", BASE64_STANDARD.encode(KEY)));
        }
        launch
    }

    /// An envelope without label and compression, which every agent accepts.
    pub(crate) fn envelope(self) -> Envelope {
        match self {
            Wrapping::Plain => fixtures::envelope(None),
            Wrapping::Sealed => fixtures::envelope([&KEY[..]]),
        }
    }
}

/// The n-th nonce of this process.
pub(crate) fn nonce(n: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&std::process::id().to_be_bytes());
    nonce[4..].copy_from_slice(&n.to_be_bytes());
    nonce
}

/// The n-th emulated member, at that address; its name has 20 bytes.
pub(crate) fn member(n: usize, addr: SocketAddr) -> Member {
    Member::at(format!("emulated-member{n:05}"), addr, META)
}

/// Emulated members, alive until dropped.
#[derive(Debug)]
pub(crate) struct Members {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    exchanged: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
    wrapping: Wrapping,
    /// A push/pull with all members, without the wish to join.
    state: Arc<[u8]>,
}

impl Members {
    /// Starts `count` members at an address of `ip`.
    ///
    /// # Errors
    /// The address can't be bound.
    pub(crate) fn start(ip: IpAddr, count: usize, wrapping: Wrapping) -> std::io::Result<Members> {
        let listener = TcpListener::bind((ip, 0))?;
        let addr = listener.local_addr()?;
        let udp = UdpSocket::bind(addr)?;
        udp.set_read_timeout(Some(LOOK))?;
        listener.set_nonblocking(true)?;
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let exchanged = Arc::new(AtomicU64::new(0));
        let state: Arc<[u8]> =
            fixtures::push_pull(&(0..count).map(|n| member(n, addr)).collect::<Vec<_>>()).into();
        let answer = {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            std::thread::spawn(move || answer_datagrams(&udp, wrapping, &stop, &answered))
        };
        let accept = {
            let (stop, state, exchanged) = (Arc::clone(&stop), Arc::clone(&state), Arc::clone(&exchanged));
            std::thread::spawn(move || accept_streams(&listener, wrapping, &stop, &state, &exchanged))
        };
        Ok(Members { addr, stop, answered, exchanged, threads: vec![answer, accept], wrapping, state })
    }

    /// The address of all of them.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Probes of the agent that were answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Streams that the agent opened so far: its join and its push/pulls.
    pub(crate) fn exchanged(&self) -> u64 {
        self.exchanged.load(Ordering::Relaxed)
    }

    /// Exchanges states with the agent, as the periodic push/pull of a member does. Returns the time until the
    /// agent's whole answer was there, and the number of members in it.
    ///
    /// # Errors
    /// The agent does not answer, or not with its state.
    pub(crate) fn push_pull(&self, agent: SocketAddr) -> Result<(Duration, usize), String> {
        let failed = |error: std::io::Error| format!("push/pull with {agent}: {error}");
        let start = Instant::now();
        let mut stream = TcpStream::connect(agent).map_err(failed)?;
        stream.set_read_timeout(Some(STREAM_TIMEOUT)).map_err(failed)?;
        // A second thread writes: the agent may answer before it has read everything.
        let mut writing = stream.try_clone().map_err(failed)?;
        let (state, wrapping) = (Arc::clone(&self.state), self.wrapping);
        let written = std::thread::spawn(move || write_message(&mut writing, &state, wrapping));
        let message = read_message(&mut stream, Role::Dialler, wrapping).map_err(failed)?;
        let took = start.elapsed();
        written.join().map_err(|_| "the writing thread panicked".to_owned())?.map_err(failed)?;
        match message {
            StreamMessage::PushPull(frame) => Ok((took, frame.nodes_count as usize)),
            other => Err(format!("push/pull with {agent} was answered by {other:?}")),
        }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has printed why.
            let _ = thread.join();
        }
    }
}

/// A push/pull without members, wrapped: a request for the agent's state.
pub(crate) fn push_pull_request(wrapping: Wrapping) -> Vec<u8> {
    let mut out = Vec::new();
    encode_stream(&fixtures::push_pull(&[]), &wrapping.envelope(), Role::Listener, nonce(0), &mut out);
    out
}

/// Acks pings and indirect pings to every member.
fn answer_datagrams(udp: &UdpSocket, wrapping: Wrapping, stop: &AtomicBool, answered: &AtomicU64) {
    let (mut buffer, mut scratch) = (vec![0; 65_536], Scratch::default());
    let (mut assembler, envelope, mut out) = (Assembler::default(), wrapping.envelope(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = udp.recv_from(&mut buffer) else { continue };
        let mut asked: Option<SeqNo> = None;
        messages(&envelope, &mut buffer[..length], &mut scratch, |message| match message {
            Message::Ping(ping) => asked = Some(ping.seq),
            Message::IndirectPing(request) => asked = Some(request.seq),
            _ => {}
        });
        let Some(seq) = asked else { continue };
        assembler.begin(1400);
        assembler.push(|out| Ack { seq, ..Ack::default() }.encode(out));
        out.clear();
        assembler.finish(&mut out, &envelope, false, nonce(answered.load(Ordering::Relaxed)));
        if udp.send_to(&out, from).is_ok() {
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn accept_streams(
    listener: &TcpListener,
    wrapping: Wrapping,
    stop: &AtomicBool,
    state: &Arc<[u8]>,
    exchanged: &AtomicU64,
) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                exchanged.fetch_add(1, Ordering::Relaxed);
                let state = Arc::clone(state);
                std::thread::spawn(move || {
                    // A failed stream shows in the report of the agent.
                    let _ = answer_stream(stream, wrapping, &state);
                });
            }
            Err(_) => std::thread::sleep(LOOK / 10),
        }
    }
}

fn answer_stream(mut stream: TcpStream, wrapping: Wrapping, state: &[u8]) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(STREAM_TIMEOUT))?;
    match read_message(&mut stream, Role::Listener, wrapping)? {
        StreamMessage::PushPull(_) => write_message(&mut stream, state, wrapping)?,
        StreamMessage::Ping { seq, .. } => {
            let mut out = Vec::new();
            Ack { seq, ..Ack::default() }.encode(&mut out);
            write_message(&mut stream, &out, wrapping)?;
        }
        StreamMessage::Ack { .. }
        | StreamMessage::User(_)
        | StreamMessage::Err(_)
        | StreamMessage::Reconcile(_) => {}
    }
    stream.shutdown(std::net::Shutdown::Write)
}

fn write_message(stream: &mut TcpStream, message: &[u8], wrapping: Wrapping) -> std::io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(1 << 63);
    let (mut out, nonce) = (Vec::new(), nonce(COUNT.fetch_add(1, Ordering::Relaxed)));
    // Without a label both sides write the same.
    encode_stream(message, &wrapping.envelope(), Role::Listener, nonce, &mut out);
    stream.write_all(&out)
}

/// Reads the one message of a stream.
fn read_message(stream: &mut TcpStream, role: Role, wrapping: Wrapping) -> std::io::Result<StreamMessage> {
    let (mut decoder, envelope) = (StreamDecoder::new(role), wrapping.envelope());
    let mut part = vec![0; 65_536];
    let refused = |reason| std::io::Error::new(ErrorKind::InvalidData, format!("refused: {reason:?}"));
    loop {
        let length = stream.read(&mut part)?;
        if length == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        decoder.feed(&part[..length]).map_err(refused)?;
        if let Some(message) = decoder.poll(&envelope).map_err(refused)? {
            return Ok(message);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use thane_engine::wire::Ping;

    fn loopback() -> IpAddr {
        IpAddr::from([127, 34, 1, 1])
    }

    #[test]
    fn a_ping_is_acked_with_its_number() {
        let members = Members::start(loopback(), 10, Wrapping::Plain).unwrap();
        let socket = UdpSocket::bind((loopback(), 0)).unwrap();
        socket.set_read_timeout(Some(STREAM_TIMEOUT)).unwrap();
        let mut ping = Vec::new();
        let asked = member(3, members.addr()).name;
        Ping { seq: SeqNo(77), node: &asked, ..Ping::default() }.encode(&mut ping);
        socket.send_to(&ping, members.addr()).unwrap();
        let mut buffer = [0; 2048];
        let length = socket.recv(&mut buffer).unwrap();
        let mut acked = None;
        messages(&fixtures::envelope(None), &mut buffer[..length], &mut Scratch::default(), |message| {
            if let Message::Ack(ack) = message {
                acked = Some(ack.seq);
            }
        });
        assert_eq!(acked, Some(SeqNo(77)));
    }

    #[test]
    fn two_sets_of_members_exchange_whole_states() {
        for wrapping in [Wrapping::Plain, Wrapping::Sealed] {
            let members = |count| Members::start(loopback(), count, wrapping).unwrap();
            let (one, two) = (members(5), members(2_000));
            assert_eq!(one.push_pull(two.addr()).unwrap().1, 2_000);
            assert_eq!(two.push_pull(one.addr()).unwrap().1, 5);
        }
        assert_eq!(member(42, SocketAddr::from((loopback(), 1))).name.len(), 20);
    }
}
