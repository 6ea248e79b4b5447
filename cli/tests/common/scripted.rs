//! An agent that says what a test tells it to, for what real agents seldom do.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use thane_engine::ipc::{Command, Frames, QueryRecord, Request, RequestHeader, ResponseHeader, Value};

use super::fresh_ip;

/// What the agent answers to one request.
#[derive(Default)]
pub struct Answer {
    /// The header's error.
    pub error: String,
    /// The body, encoded.
    pub body: Vec<u8>,
    /// Records that follow, encoded.
    pub records: Vec<Vec<u8>>,
    /// What comes a while later: Serf's client may drop what comes together with the end.
    pub end: End,
}

/// How an answer ends.
#[derive(Default)]
pub enum End {
    /// It is all there.
    #[default]
    Whole,
    /// With one more record.
    Late(Vec<u8>),
    /// The connection ends.
    HangUp,
}

impl Answer {
    pub fn body(body: &impl Value) -> Answer {
        Answer { body: encoded(body), ..Answer::default() }
    }

    pub fn error(error: &str) -> Answer {
        Answer { error: error.to_owned(), ..Answer::default() }
    }
}

pub fn encoded(value: &impl Value) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode(&mut out);
    out
}

/// A record of a query.
pub fn record(kind: &str, from: &str, payload: &[u8]) -> Vec<u8> {
    encoded(&QueryRecord { kind: kind.to_owned(), from: from.to_owned(), payload: payload.to_vec() })
}

/// Starts the agent; gives its RPC address. Handshakes are taken, everything else goes to `script`, which
/// hangs up without an answer where it has none.
pub fn start<A: Into<Option<Answer>>>(script: impl Fn(&Request) -> A + Send + 'static) -> String {
    let addr = format!("{}:7373", fresh_ip());
    let listener = TcpListener::bind(&addr).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            serve(&mut stream, &script);
        }
    });
    addr
}

fn serve<A: Into<Option<Answer>>>(stream: &mut (impl Read + Write), script: &impl Fn(&Request) -> A) {
    let (mut frames, mut part) = (Frames::new(1 << 20), [0; 4096]);
    let mut begun: Option<(u64, Command)> = None;
    while let Ok(len @ 1..) = stream.read(&mut part) {
        frames.feed(&part[..len]);
        while let Ok(Some(value)) = frames.poll() {
            let (seq, request) = match begun.take() {
                Some((seq, command)) => (seq, Request::decode(command, value).unwrap()),
                None => {
                    let header = RequestHeader::decode(value).unwrap();
                    let command = Command::parse(&header.command).unwrap();
                    if command.has_body() {
                        begun = Some((header.seq, command));
                        continue;
                    }
                    (header.seq, Request::decode(command, &[]).unwrap())
                }
            };
            let shaken = matches!(request, Request::Handshake(_)).then(Answer::default);
            let Some(answer) = shaken.or_else(|| script(&request).into()) else { return };
            if reply(stream, seq, &answer).is_err() || matches!(answer.end, End::HangUp) {
                return;
            }
        }
    }
}

fn reply(stream: &mut impl Write, seq: u64, answer: &Answer) -> std::io::Result<()> {
    let header = |error: &str| encoded(&ResponseHeader { error: error.to_owned(), seq });
    stream.write_all(&[header(&answer.error), answer.body.clone()].concat())?;
    for record in &answer.records {
        stream.write_all(&[header(""), record.clone()].concat())?;
    }
    if !matches!(answer.end, End::Whole) {
        thread::sleep(Duration::from_millis(300));
    }
    match &answer.end {
        End::Late(record) => stream.write_all(&[header(""), record.clone()].concat()),
        End::Whole | End::HangUp => Ok(()),
    }
}
