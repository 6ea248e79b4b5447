//! The way to a member: its TCP and UDP ports, key and label, long datagrams, and the names that it knows.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use thane_engine::tls::GossipTls;
use thane_engine::wire::message::WireState;
use thane_engine::wire::packet::{Assembler, Scratch, for_each_message};
use thane_engine::wire::serf::{PushPullSource, encode_push_pull};
use thane_engine::wire::stream::{
    Role, StreamDecoder, StreamMessage, encode_push_pull_header, encode_stream,
};
use thane_engine::wire::{DecodeError, Envelope, LamportTime, Message, Nack, Ping, SeqNo, ip_from_bytes};

use super::finding::{Report, Severity};
use super::here::with_port;
use super::ports::Running;
use crate::agent::{Config, GOSSIP_PORT_DEFAULT, Tls};

/// How long the member may take for each step.
const WITHIN: Duration = Duration::from_secs(3);
/// Pings of each size; some may be lost.
const PINGS: u32 = 5;
/// How long each may take until the next one is sent.
const PING_WITHIN: Duration = Duration::from_secs(1);
/// The longest datagram of gossip.
const LONG_BYTES: usize = 1400;

/// The addresses of a member, named as in `-join`.
pub(super) fn targets(text: &str) -> Result<Vec<SocketAddr>, String> {
    let host = text.split_once('/').map_or(text, |(_, host)| host);
    with_port(host, GOSSIP_PORT_DEFAULT)
}

/// A member that the other side lists.
struct Known {
    name: String,
    addr: SocketAddr,
    gone: bool,
}

/// Checks the way to a member. `free`: the gossip address of this node, if nothing holds it.
pub(super) fn examine(
    config: &Config,
    addr: &str,
    keys: Vec<Vec<u8>>,
    free: Option<SocketAddr>,
    agent: Option<&Running>,
    report: &mut Report,
) {
    let target = match targets(addr) {
        Ok(targets) => targets[0],
        Err(why) => return report.add(Severity::Bad, "member", format!("{addr} can't be resolved: {why}")),
    };
    let mut envelope = match Envelope::new(&keys) {
        Ok(envelope) => envelope,
        Err(error) => return report.add(Severity::Bad, "keys", error.to_string()),
    };
    envelope.label = config.settings.label.clone().into_bytes();
    let tls = match config.tls.as_ref().map_or(Ok(None), Tls::load_gossip) {
        Ok(tls) => tls.filter(GossipTls::required),
        // It was reported with the other files.
        Err(_) => return,
    };
    let known = match state_of(target, &envelope, tls.as_ref()) {
        Ok(known) => {
            let text =
                format!("TCP {target} answers with {} members; key and label are the same", known.len());
            report.add(Severity::Good, "member", text);
            known
        }
        Err(why) => return report.add(Severity::Bad, "member", why),
    };
    name_clash(config, &known, agent, report);
    match known.iter().find(|member| member.addr == target) {
        Some(member) => ping(target, &member.name, &envelope, free, report),
        None => {
            let text = format!(
                "no member announces {target}: UDP was not tried; name a member by the address it announces"
            );
            report.add(Severity::Note, "member", text);
        }
    }
}

/// A connection, plain or by TLS.
trait Duplex: Read + Write {}
impl<S: Read + Write> Duplex for S {}

/// The member list of the other side, over a stream that says nothing of this one.
fn state_of(target: SocketAddr, envelope: &Envelope, tls: Option<&GossipTls>) -> Result<Vec<Known>, String> {
    let stream = TcpStream::connect_timeout(&target, WITHIN).map_err(|error| {
        format!(
            "TCP {target} can't be reached: {error}; does the agent run, and does a firewall let TCP through?"
        )
    })?;
    let broken = |error: std::io::Error| format!("TCP {target}: the connection broke: {error}");
    stream.set_read_timeout(Some(WITHIN)).map_err(broken)?;
    let mut stream: Box<dyn Duplex> = match tls {
        None => Box::new(stream),
        Some(tls) => Box::new(tls.over(target, stream).map_err(|why| format!("TLS with {target}: {why}"))?),
    };
    let mut user = Vec::new();
    let nothing = PushPullSource {
        ltime: LamportTime(0),
        event_ltime: LamportTime(0),
        query_ltime: LamportTime(0),
        members: (0, std::iter::empty()),
        left: (0, std::iter::empty()),
        events: std::iter::empty(),
        marker: std::marker::PhantomData,
    };
    encode_push_pull(nothing, &mut user);
    let mut raw = Vec::new();
    encode_push_pull_header(0, user.len(), false, &mut raw);
    raw.extend_from_slice(&user);
    let mut request = Vec::new();
    encode_stream(&raw, envelope, Role::Dialler, nonce()?, &mut request);
    stream.write_all(&request).map_err(broken)?;
    let mut decoder = StreamDecoder::new(Role::Dialler);
    let mut part = vec![0; 64 * 1024];
    let end = Instant::now() + WITHIN * 3;
    loop {
        match decoder.poll(envelope) {
            Ok(Some(StreamMessage::PushPull(frame))) => {
                let mut offset = 0;
                let mut known = Vec::new();
                while let Some(node) = frame.next_node(&mut offset) {
                    let Some(ip) = ip_from_bytes(&node.addr) else { continue };
                    let gone = matches!(node.state, WireState::Dead | WireState::Left);
                    known.push(Known {
                        name: node.name.to_owned(),
                        addr: SocketAddr::new(ip, node.port),
                        gone,
                    });
                }
                return Ok(known);
            }
            Ok(Some(StreamMessage::Err(text))) => return Err(format!("TCP {target} refuses: {text}")),
            Ok(Some(_)) => return Err(format!("TCP {target} answers with something else than its state")),
            Ok(None) => {}
            Err(reason) => return Err(refused(target, reason)),
        }
        let read = stream.read(&mut part).unwrap_or(0);
        if read == 0 || Instant::now() > end {
            return Err(format!(
                "TCP {target} takes the connection and does not answer: compare 'encrypt_key' and 'label' with the member's, and its log"
            ));
        }
        decoder.feed(&part[..read]).map_err(|reason| refused(target, reason))?;
    }
}

fn refused(target: SocketAddr, reason: DecodeError) -> String {
    let why = match reason {
        DecodeError::Encrypted => "it is encrypted and this node has no key: set 'encrypt_key'".to_owned(),
        DecodeError::LabelMissing | DecodeError::LabelMismatch => {
            "it has another label: compare 'label'".to_owned()
        }
        other => format!("{}: compare 'encrypt_key' and 'label'", other.as_str()),
    };
    format!("TCP {target} answers, and the answer can't be read: {why}")
}

/// Random bytes that are used once.
fn nonce() -> Result<[u8; 12], String> {
    let mut nonce = [0; 12];
    getrandom::fill(&mut nonce).map_err(|error| format!("the system gives no random bytes: {error}"))?;
    Ok(nonce)
}

fn name_clash(config: &Config, known: &[Known], agent: Option<&Running>, report: &mut Report) {
    let own = match config.node_name.as_str() {
        "" => gethostname::gethostname().to_string_lossy().into_owned(),
        name => name.to_owned(),
    };
    match known.iter().find(|member| member.name == own) {
        Some(member) if agent.is_some_and(|agent| agent.name == own) => {
            report.add(Severity::Good, "name", format!("the cluster lists '{own}' at {}", member.addr));
        }
        Some(member) if member.gone => {
            report.add(Severity::Good, "name", format!("'{own}' was a member, and is not alive"));
        }
        Some(member) => {
            let text = format!("'{own}' is taken by a member at {}: choose another with -node", member.addr);
            report.add(Severity::Bad, "name", text);
        }
        None => report.add(Severity::Good, "name", format!("'{own}' is free")),
    }
}

/// Pings with a short and a long datagram.
fn ping(target: SocketAddr, name: &str, envelope: &Envelope, free: Option<SocketAddr>, report: &mut Report) {
    let any: IpAddr = if target.is_ipv4() { [0, 0, 0, 0].into() } else { [0; 16].into() };
    let from = free.filter(|free| free.is_ipv4() == target.is_ipv4()).unwrap_or(SocketAddr::new(any, 0));
    let asked = UdpSocket::bind(from).and_then(|socket| {
        socket.set_read_timeout(Some(PING_WITHIN))?;
        Ok(socket)
    });
    let socket = match asked {
        Ok(socket) => socket,
        Err(error) => {
            return report.add(Severity::Bad, "member", format!("UDP can't be tried from {from}: {error}"));
        }
    };
    let back = if free.is_some() {
        "this node's gossip port"
    } else {
        "a free port, because the gossip port is in use"
    };
    for (bytes, what) in [(0, "a short datagram"), (LONG_BYTES, "the longest datagram")] {
        match answered(&socket, target, name, envelope, bytes) {
            Ok(true) => {
                report.add(Severity::Good, "member", format!("UDP {target} answers {what} to {back}"));
            }
            Ok(false) => {
                let text = format!(
                    "UDP {target} does not answer {what}: does a firewall let UDP through in both directions, in this size?"
                );
                return report.add(Severity::Bad, "member", text);
            }
            Err(why) => return report.add(Severity::Bad, "member", format!("UDP {target}: {why}")),
        }
    }
}

/// Whether an ack comes for one of a few pings in datagrams of that size at least.
fn answered(
    socket: &UdpSocket,
    target: SocketAddr,
    name: &str,
    envelope: &Envelope,
    bytes: usize,
) -> Result<bool, String> {
    let random = nonce()?;
    // One number for all: an ack that comes late counts.
    let seq = SeqNo(u32::from_le_bytes([random[0], random[1], random[2], random[3]]));
    for _ in 0..PINGS {
        let mut assembler = Assembler::default();
        assembler.begin(LONG_BYTES - envelope.overhead());
        assembler.push(|out| Ping { seq, node: name, ..Ping::default() }.encode(out));
        // Nacks that nobody waits for fill it up.
        let mut length = 64;
        while length < bytes.saturating_sub(envelope.overhead()) && assembler.remaining() > 24 {
            let before = assembler.remaining();
            assembler.push(|out| Nack { seq }.encode(out));
            length += before - assembler.remaining();
        }
        let mut packet = Vec::new();
        assembler.finish(&mut packet, envelope, false, nonce()?);
        socket.send_to(&packet, target).map_err(|error| error.to_string())?;
        let mut received = [0; 65_536];
        // A timeout, or a refusal of the port by the other side's system.
        let Ok((len, from)) = socket.recv_from(&mut received) else { continue };
        let Ok(plain) = envelope.open(&mut received[..len]) else { continue };
        let mut acked = false;
        for_each_message(plain, &mut Scratch::default(), &mut |message| {
            acked |= matches!(message, Ok(Message::Ack(ack)) if ack.seq == seq);
        });
        if acked && from.port() == target.port() {
            return Ok(true);
        }
    }
    Ok(false)
}
