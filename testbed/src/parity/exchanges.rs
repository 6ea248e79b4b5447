//! RPC exchanges: the same bytes to an agent of each kind.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use regex::Regex;
use thane_engine::ipc::{Frames, Request, StopRequest};
use thane_engine::wire::msgpack::Reader;

use super::normal::{named, steady};
use super::notation::{Exchange, Step, shown};
use super::programs::{Kind, Programs};
use super::scene::{Scene, World, start_all};
use super::verdict::Verdicts;
use crate::failure::Failure;
use crate::stop;

/// The number of the request whose reply ends an exchange.
const LAST: u64 = 9999;
/// How long an answer may take. An exchange whose connection the agent leaves open without an answer takes as long.
const PATIENCE: Duration = Duration::from_secs(8);
const READ_TIMEOUT: Duration = Duration::from_millis(50);
/// How often an exchange is repeated whose answers differ.
const RETRIES: u32 = 3;

const PAIRS: [(Kind, Kind); 2] = [(Kind::Serf, Kind::Serf), (Kind::Thane, Kind::Thane)];

/// Runs a scene's exchanges.
///
/// # Errors
/// The scene can't be played, or the user asked for the end.
pub(super) fn play(programs: &Programs, scene: &Scene, verdicts: &Verdicts) -> Result<(), Failure> {
    let worlds = start_all(programs, scene, &PAIRS)?;
    for text in scene.cases() {
        stop::check()?;
        let mut tries = RETRIES;
        loop {
            let texts: Result<Vec<String>, Failure> = thread::scope(|scope| {
                let running: Vec<_> =
                    worlds.iter().map(|world| scope.spawn(move || answers(world, text))).collect();
                running
                    .into_iter()
                    .map(|run| {
                        run.join().unwrap_or_else(|_| Err(Failure::new("a thread of the harness panicked")))
                    })
                    .collect()
            });
            let texts = texts?;
            let name = format!("rpc/{}: {text}", scene.name);
            if tries > 0 && !verdicts.agree(&name, &texts[0], &texts[1]) {
                tries -= 1;
                continue;
            }
            verdicts.judge(&name, &texts[0], &texts[1]);
            break;
        }
    }
    worlds.into_iter().for_each(World::stop);
    Ok(())
}

/// The answers to an exchange: replies and records by number, whose orders among each other are open.
fn answers(world: &World, text: &str) -> Result<String, Failure> {
    let exchange = Exchange::parse(&world.filled(text))?;
    let fail = |error: std::io::Error| Failure::new(format!("{} at {}: {error}", exchange.name, world.rpc()));
    let stream = TcpStream::connect(world.rpc()).map_err(fail)?;
    stream.set_read_timeout(Some(READ_TIMEOUT)).map_err(fail)?;
    let mut connection = Connection::new(stream);
    for step in &exchange.steps {
        match step {
            Step::Send(bytes) => connection.send(bytes),
            Step::Wait { seq, count } => {
                let enough = |got: &Connection| got.answers.get(seq).is_some_and(|got| got.len() >= *count);
                connection.read_until(enough)?;
            }
        }
    }
    let mut last = Vec::new();
    Request::Stop(StopRequest { stop: 0 }).encode(LAST, &mut last);
    connection.send(&last);
    connection.read_until(|got| got.answers.contains_key(&LAST))?;
    Ok(connection.text(world))
}

struct Connection {
    stream: TcpStream,
    frames: Frames,
    answers: BTreeMap<u64, Vec<String>>,
    /// The number of the header whose body may follow.
    open: Option<u64>,
    end: &'static str,
}

impl Connection {
    fn new(stream: TcpStream) -> Connection {
        Connection {
            stream,
            frames: Frames::new(64 << 20),
            answers: BTreeMap::new(),
            open: None,
            end: "open",
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        // That the other side has closed shows when reading.
        let _ = self.stream.write_all(bytes);
    }

    fn read_until(&mut self, done: impl Fn(&Connection) -> bool) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut chunk = vec![0; 64 << 10];
        while !done(self) && self.end == "open" {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.end = "closed",
                Ok(read) => self.frames.feed(&chunk[..read]),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    if Instant::now() > deadline {
                        self.end = "open without a further answer";
                    }
                }
                // A reset: the agent closed while bytes were still unread.
                Err(_) => self.end = "closed",
            }
            self.take()?;
        }
        Ok(())
    }

    fn take(&mut self) -> Result<(), Failure> {
        loop {
            let value = self.frames.poll().map_err(|error| Failure::new(format!("an answer: {error:?}")))?;
            let Some(value) = value else { return Ok(()) };
            match header(value) {
                Some((seq, error)) => {
                    self.answers.entry(seq).or_default().push(format!("error \"{error}\""));
                    self.open = Some(seq);
                }
                None => {
                    let text = shown(value)?;
                    let seq = self.open.take().unwrap_or(u64::MAX);
                    match self.answers.entry(seq).or_default().last_mut() {
                        Some(answer) => *answer += &format!(" {text}"),
                        None => return Err(Failure::new(format!("a body without a header: {text}"))),
                    }
                }
            }
        }
    }

    /// All answers but the last, without what must differ.
    fn text(&self, world: &World) -> String {
        static LOG: LazyLock<Option<Regex>> =
            LazyLock::new(|| Regex::new(r#"\{"Log": "(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d )"#).ok());
        let mut text = String::new();
        for (seq, answers) in self.answers.iter().filter(|(seq, _)| **seq != LAST) {
            for answer in answers {
                let answer = match &*LOG {
                    Some(log) => log.replace_all(answer, "{\"Log\": \"").into_owned(),
                    None => answer.clone(),
                };
                text += &format!("{seq} {}\n", steady(&named(&answer, &world.byte_names())));
            }
        }
        text + &format!("connection: {}\n", self.end)
    }
}

/// Number and error, if the value is a header.
fn header(value: &[u8]) -> Option<(u64, String)> {
    let mut reader = Reader::new(value);
    let (mut seq, mut error) = (None, None);
    if !matches!(reader.peek().ok()?, 0x80..=0x8f) || reader.map().ok()? != 2 {
        return None;
    }
    for _ in 0..2 {
        match reader.str().ok()? {
            "Seq" => seq = Some(reader.u64().ok()?),
            "Error" => error = Some(reader.str().ok()?.to_owned()),
            _ => return None,
        }
    }
    Some((seq?, error?))
}
