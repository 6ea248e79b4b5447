//! A blocking client for the RPC port of an agent, Thane's or Serf's, as the command line needs it.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::time::Duration;

use super::dial::{ClientTls, DialError, Socket, TIMEOUT, dial};
use crate::ipc::{
    AuthRequest, Command, Container, FrameError, Frames, HandshakeRequest, IPC_VERSION, KeyResponse,
    LogRecord, MembersRequest, QueryRecord, RESPONSE_BYTES_MAX, ReceivedMember, Request, ResponseHeader,
    StreamRecord, Value, members,
};
use crate::tls;
use crate::wire::DecodeError;
use crate::wire::msgpack::Reader;

/// Bytes per read.
const READ_BYTES: usize = 64 * 1024;
/// Records kept while waiting for a reply. Later ones are dropped, as in Serf's client.
const RECORDS_WAITING_MAX: usize = 4096;

/// What a port with TLS answers to the first request of a client without: an alert of level fatal.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// A connection to an agent, after handshake and authentication.
#[derive(Debug)]
pub struct Client {
    stream: Socket,
    frames: Frames,
    /// The buffer of reads.
    part: Vec<u8>,
    seq: u64,
    /// Streams, monitors and queries that were started, by the `Seq` of their request.
    begun: BTreeMap<u64, Command>,
    waiting: VecDeque<(u64, Record)>,
    /// The longest silence of the agent; zero: any.
    silence: Duration,
}

/// A record of a stream, monitor or query.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A record of a stream.
    Event(StreamRecord),
    /// A record of a monitor.
    Log(LogRecord),
    /// A record of a query.
    Query(QueryRecord),
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection: the address and the reason, in the words of Serf's client. Nothing was sent.
    #[error("dial {0}")]
    Dial(String),
    /// The two can't agree on TLS: the address and the reason, in one line. Nothing was sent.
    #[error("{0}")]
    Tls(String),
    /// The agent sent nothing for that long: it hangs, or is suspended. It may carry the request out later.
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    /// The connection ended, or the received bytes can't be decoded. The agent may have carried the request out.
    #[error("client closed")]
    Closed,
    /// The agent refused the request, with its reason.
    #[error("{0}")]
    Refused(String),
}

impl Client {
    /// Connects to `addr`, `host:port` or `unix:PATH`, and authenticates with `token` unless it is empty. Later requests wait without
    /// a limit, because the duration of a leave or a query depends on the agent's settings;
    /// [`wait_at_most`](Self::wait_at_most) sets one.
    ///
    /// # Errors
    /// There is no connection within 10 s and no answer in 10 s more, or the agent refuses handshake or token. The
    /// connection is closed.
    pub fn connect(addr: &str, token: &str) -> Result<Client, ClientError> {
        Client::connect_within(addr, token, TIMEOUT)
    }

    /// [`connect`](Self::connect) with another limit. Zero: none.
    ///
    /// # Errors
    /// As those of [`connect`](Self::connect).
    pub fn connect_within(addr: &str, token: &str, within: Duration) -> Result<Client, ClientError> {
        Client::connect_with(addr, token, within, None)
    }

    /// [`connect_within`](Self::connect_within) by TLS, unless `addr` is a socket of the file system.
    ///
    /// # Errors
    /// As those of [`connect`](Self::connect), and [`ClientError::Tls`].
    pub fn connect_with(
        addr: &str,
        token: &str,
        within: Duration,
        tls: Option<&ClientTls>,
    ) -> Result<Client, ClientError> {
        let stream = dial(addr, if within.is_zero() { TIMEOUT } else { within }, tls);
        let stream = stream.map_err(|error| match error {
            DialError::Dial(why) => ClientError::Dial(why),
            DialError::Tls(why) => ClientError::Tls(why),
        })?;
        let mut client = Client {
            stream,
            frames: Frames::new(RESPONSE_BYTES_MAX),
            part: vec![0; READ_BYTES],
            seq: 0,
            begun: BTreeMap::new(),
            waiting: VecDeque::new(),
            silence: Duration::ZERO,
        };
        client.wait_at_most(within);
        client.call(&Request::Handshake(HandshakeRequest { version: IPC_VERSION }))?;
        if !token.is_empty() {
            client.call(&Request::Auth(AuthRequest { auth_key: token.to_owned() }))?;
        }
        client.wait_at_most(Duration::ZERO);
        Ok(client)
    }

    /// Sets how long the agent may be silent while something is expected of it: an answer, the rest of one, or a
    /// record. Zero: any time.
    pub fn wait_at_most(&mut self, silence: Duration) {
        // The system refuses no timeout but zero.
        let _ = self.stream.set_read_timeout((!silence.is_zero()).then_some(silence));
        self.silence = silence;
    }

    /// Sends a request whose reply has no body, and waits for the reply.
    ///
    /// # Errors
    /// The agent refuses the request, or the connection ended.
    pub fn call(&mut self, request: &Request) -> Result<(), ClientError> {
        let seq = self.send(request)?;
        self.reply(seq)
    }

    /// Sends a request whose reply has a body, and waits for the body. After an error the connection can't be used
    /// any more, because a body may follow or not.
    ///
    /// # Errors
    /// The agent refuses the request, or the connection ended.
    pub fn fetch<B: Value>(&mut self, request: &Request) -> Result<B, ClientError> {
        self.call(request)?;
        self.body()
    }

    /// Lists members and calls `each` with every one as it arrives, in no order. After an error the connection can't
    /// be used any more.
    ///
    /// # Errors
    /// The agent refuses the request, or the connection ended; `each` may have been called for some members.
    pub fn members(
        &mut self,
        filter: MembersRequest,
        mut each: impl FnMut(&ReceivedMember<'_>),
    ) -> Result<(), ClientError> {
        self.call(&Request::MembersFiltered(filter))?;
        let mut bytes_left = RESPONSE_BYTES_MAX;
        for _ in 0..self.next(|frames| frames.enter(Container::Map))? {
            if self.body::<String>()? != members::MEMBERS {
                self.value(|_| Ok(()))?;
                continue;
            }
            for _ in 0..self.next(|frames| frames.enter(Container::Array))? {
                // Most members have arrived whole and in the usual form. Finding a value's end first would double
                // the time.
                let mut reader = Reader::new(self.frames.rest());
                let bytes = match ReceivedMember::read_usual(&mut reader) {
                    Some(member) => {
                        each(&member);
                        let bytes = reader.position();
                        self.frames.take(bytes);
                        bytes
                    }
                    None => self.value(|bytes| {
                        ReceivedMember::decode(bytes).map(|member| each(&member)).map(|()| bytes.len())
                    })?,
                };
                bytes_left = bytes_left.checked_sub(bytes).ok_or(ClientError::Closed)?;
            }
        }
        Ok(())
    }

    /// Sends a key command. The body of its reply has each node's error, so it is read after an error too, unless
    /// the agent refused the command itself.
    ///
    /// # Errors
    /// The agent refuses the request, a node reports an error, or the connection ended. The second value has the
    /// nodes' errors; other nodes may have changed their keyrings.
    pub fn keys(&mut self, request: &Request) -> Result<KeyResponse, (ClientError, KeyResponse)> {
        match self.call(request) {
            Ok(()) => self.body().map_err(|error| (error, KeyResponse::default())),
            Err(ClientError::Refused(why)) if !refuses_command(&why) => {
                let response = self.body().unwrap_or_default();
                Err((ClientError::Refused(why), response))
            }
            Err(error) => Err((error, KeyResponse::default())),
        }
    }

    /// Starts a stream, monitor or query. [`Client::record`] returns its records with the `Seq` that this returns.
    ///
    /// # Errors
    /// The agent refuses the request, or the connection ended.
    pub fn begin(&mut self, request: &Request) -> Result<u64, ClientError> {
        let seq = self.send(request)?;
        self.reply(seq)?;
        self.begun.insert(seq, request.command());
        Ok(seq)
    }

    /// Waits for the next record of any stream, monitor or query.
    ///
    /// # Errors
    /// The connection ended.
    pub fn record(&mut self) -> Result<(u64, Record), ClientError> {
        if let Some(record) = self.waiting.pop_front() {
            return Ok(record);
        }
        loop {
            let header: ResponseHeader = self.body()?;
            if let Some(record) = self.record_of(header.seq)? {
                return Ok((header.seq, record));
            }
        }
    }

    fn send(&mut self, request: &Request) -> Result<u64, ClientError> {
        self.seq += 1;
        let mut bytes = Vec::new();
        request.encode(self.seq, &mut bytes);
        self.stream.write_all(&bytes).map_err(|_| ClientError::Closed)?;
        Ok(self.seq)
    }

    /// Waits for the header with this `seq`, and keeps the records that arrive before it.
    fn reply(&mut self, seq: u64) -> Result<(), ClientError> {
        loop {
            let header: ResponseHeader = self.body()?;
            if header.seq == seq {
                return if header.error.is_empty() {
                    Ok(())
                } else {
                    Err(ClientError::Refused(header.error))
                };
            }
            if let Some(record) = self.record_of(header.seq)?
                && self.waiting.len() < RECORDS_WAITING_MAX
            {
                self.waiting.push_back((header.seq, record));
            }
        }
    }

    /// The record after a header with this `seq`. Nothing follows the header of any other request.
    fn record_of(&mut self, seq: u64) -> Result<Option<Record>, ClientError> {
        Ok(match self.begun.get(&seq) {
            Some(Command::Stream) => Some(Record::Event(self.body()?)),
            Some(Command::Monitor) => Some(Record::Log(self.body()?)),
            Some(Command::Query) => Some(Record::Query(self.body()?)),
            _ => None,
        })
    }

    fn body<B: Value>(&mut self) -> Result<B, ClientError> {
        self.value(B::decode)
    }

    /// Waits for a whole value and decodes it.
    fn value<T>(&mut self, read: impl FnOnce(&[u8]) -> Result<T, DecodeError>) -> Result<T, ClientError> {
        let value = self.next(|frames| frames.poll_range())?;
        read(self.frames.value(value)).map_err(|_| ClientError::Closed)
    }

    /// Reads until `awaited` returns a value.
    fn next<T>(
        &mut self,
        mut awaited: impl FnMut(&mut Frames) -> Result<Option<T>, FrameError>,
    ) -> Result<T, ClientError> {
        loop {
            if let Some(value) = awaited(&mut self.frames).map_err(|_| ClientError::Closed)? {
                return Ok(value);
            }
            match self.stream.read(&mut self.part) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(len) => {
                    if self.seq == 1 && self.part[..len].starts_with(&TLS_ALERT) {
                        let why = "the agent's port speaks TLS: use -tls with -tls-ca-file";
                        return Err(ClientError::Tls(why.to_owned()));
                    }
                    self.frames.feed(&self.part[..len]);
                }
                Err(error) => match error.kind() {
                    // An agent judges a client's certificate after the client's side of the handshake.
                    io::ErrorKind::InvalidData => return Err(ClientError::Tls(tls::reason(&error))),
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        return Err(ClientError::NoAnswer(self.silence));
                    }
                    _ => return Err(ClientError::Closed),
                },
            }
        }
    }
}

/// Whether no body follows this error, whatever the command.
fn refuses_command(error: &str) -> bool {
    ["Authentication required", "Handshake required", "Unsupported command"].contains(&error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::ipc::{
        JoinRequest, JoinResponse, KeyRequest, MonitorRequest, QueryRequest, RequestHeader, StreamRequest,
    };

    /// An agent on a free port that answers each request with the bytes that `answer` returns.
    fn agent(answer: impl Fn(u64, Command) -> Vec<u8> + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut frames, mut part) = (Frames::new(1024), [0; 256]);
            let mut body_of = None;
            while let Ok(len @ 1..) = stream.read(&mut part) {
                frames.feed(&part[..len]);
                while let Some(value) = frames.poll().unwrap() {
                    let (seq, command) = match body_of.take() {
                        Some(request) => request,
                        None => {
                            let header = RequestHeader::decode(value).unwrap();
                            let command = Command::parse(&header.command).unwrap();
                            if command.has_body() {
                                body_of = Some((header.seq, command));
                                continue;
                            }
                            (header.seq, command)
                        }
                    };
                    stream.write_all(&answer(seq, command)).unwrap();
                }
            }
        });
        addr
    }

    fn header(seq: u64, error: &str) -> Vec<u8> {
        let mut out = Vec::new();
        ResponseHeader { error: error.to_owned(), seq }.encode(&mut out);
        out
    }

    fn with<B: Value>(mut header: Vec<u8>, body: B) -> Vec<u8> {
        body.encode(&mut header);
        header
    }

    #[test]
    fn an_agent_that_stays_silent_is_no_longer_waited_for() {
        let within = Duration::from_millis(50);
        let addr = agent(|_, _| Vec::new());
        let refused = Client::connect_within(&addr, "", within).unwrap_err();
        assert_eq!(refused.to_string(), "no answer within 50ms");
        let addr = agent(|seq, command| if command == Command::Handshake { header(seq, "") } else { vec![] });
        let mut client = Client::connect(&addr, "").unwrap();
        client.wait_at_most(within);
        assert!(matches!(client.call(&Request::Leave), Err(ClientError::NoAnswer(after)) if after == within));
    }

    #[test]
    fn replies_and_records_are_told_apart_by_seq() {
        let log = |line: &str| LogRecord { log: line.to_owned() };
        let done = || QueryRecord { kind: QueryRecord::DONE.to_owned(), ..QueryRecord::default() };
        let addr = agent(move |seq, command| match command {
            // A log line of the monitor (seq 2) comes before the reply, and one after it.
            Command::Query => [
                with(header(2, ""), log("one")),
                header(seq, ""),
                with(header(2, ""), log("two")),
                with(header(seq, ""), done()),
            ]
            .concat(),
            _ => header(seq, ""),
        });
        let mut client = Client::connect(&addr, "").unwrap();
        let monitor = client.begin(&Request::Monitor(MonitorRequest::default())).unwrap();
        let query = client.begin(&Request::Query(QueryRequest::default())).unwrap();
        assert_eq!((monitor, query), (2, 3));
        assert_eq!(client.record().unwrap(), (monitor, Record::Log(log("one"))));
        assert_eq!(client.record().unwrap(), (monitor, Record::Log(log("two"))));
        assert_eq!(client.record().unwrap(), (query, Record::Query(done())));
    }

    #[test]
    fn refusals_come_through_and_key_failures_keep_what_nodes_say() {
        let says = || KeyResponse { num_err: 1, ..KeyResponse::default() };
        let addr = agent(move |seq, command| match command {
            Command::Join => with(header(seq, "nobody there"), JoinResponse { num: 0 }),
            Command::InstallKey => with(header(seq, "1/1 nodes reported failure"), says()),
            Command::ListKeys | Command::Stream => header(seq, "Authentication required"),
            _ => header(seq, ""),
        });
        let mut client = Client::connect(&addr, "token").unwrap();
        let (error, response) = client.keys(&Request::InstallKey(KeyRequest::default())).unwrap_err();
        assert_eq!((error.to_string().as_str(), response), ("1/1 nodes reported failure", says()));
        let (error, response) = client.keys(&Request::ListKeys).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), response),
            ("Authentication required", KeyResponse::default())
        );
        let error = client.begin(&Request::Stream(StreamRequest::default())).unwrap_err();
        assert_eq!(error.to_string(), "Authentication required");
        let error = client.fetch::<JoinResponse>(&Request::Join(JoinRequest::default())).unwrap_err();
        assert_eq!(error.to_string(), "nobody there");
    }

    #[test]
    fn an_agent_that_hangs_up_or_talks_nonsense_is_closed() {
        for answer in [&b""[..], b"\xc1", b"\x05", b"\xdb\xff\xff\xff\xff"] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap().to_string();
            thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 256]);
                stream.write_all(answer).unwrap();
            });
            assert_eq!(Client::connect(&addr, "").unwrap_err().to_string(), "client closed", "{answer:x?}");
        }
    }
}
