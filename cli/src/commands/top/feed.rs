//! What the agent tells: two threads ask and listen, each with a connection of its own, and connect again when the agent
//! is gone.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use thane_engine::ipc::{
    Client, ClientError, MembersRequest, Record, Request, Stats, StreamRecord, StreamRequest,
};

use crate::command::Failure;
use crate::rpc::Rpc;

/// News that wait to be drawn; the threads wait then.
const NEWS_WAITING_MAX: usize = 64;
/// Pause before the next attempt to connect.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How long the agent may take for numbers and members.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// A member, as the list shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) addr: String,
    pub(super) status: String,
    pub(super) tags: String,
}

/// What has come.
#[derive(Debug)]
pub(super) enum News {
    /// Numbers and members, and when they were asked for.
    Numbers { at: Instant, stats: Stats, members: Vec<Listed> },
    /// An event, in one line.
    Event(String),
    /// There is no connection.
    Lost(String),
}

/// The threads' end of the news.
pub(super) struct Feed(Receiver<News>);

impl Feed {
    /// Starts the threads; they end with the process, or with the feed.
    pub(super) fn start(rpc: &Rpc, interval: Duration) -> Feed {
        let (to, from) = sync_channel(NEWS_WAITING_MAX);
        let (asking, listening) = (rpc.clone(), rpc.clone());
        let events_to = to.clone();
        thread::spawn(move || keep_on(&asking, &to, |client, to| ask(client, to, interval)));
        thread::spawn(move || keep_on(&listening, &events_to, listen));
        Feed(from)
    }

    /// What has come since the last call.
    pub(super) fn news(&self) -> impl Iterator<Item = News> {
        self.0.try_iter().take(NEWS_WAITING_MAX)
    }
}

/// Nobody takes the news any more.
struct Ended;

fn keep_on(
    rpc: &Rpc,
    to: &SyncSender<News>,
    run: impl Fn(&mut Client, &SyncSender<News>) -> Result<ClientError, Ended>,
) {
    loop {
        let why = match rpc.connect() {
            Ok(mut client) => match run(&mut client, to) {
                Ok(error) => error.to_string(),
                Err(Ended) => return,
            },
            Err(Failure::Message(why)) => why,
            Err(_) => "no connection".to_owned(),
        };
        if to.send(News::Lost(why)).is_err() {
            return;
        }
        thread::sleep(AGAIN_AFTER);
    }
}

/// Asks for numbers and members until the connection ends.
fn ask(client: &mut Client, to: &SyncSender<News>, interval: Duration) -> Result<ClientError, Ended> {
    client.wait_at_most(ANSWERED_WITHIN);
    loop {
        let at = Instant::now();
        let stats = match client.fetch::<Stats>(&Request::Stats) {
            Ok(stats) => stats,
            Err(error) => return Ok(error),
        };
        let mut members = Vec::new();
        let listed = client.members(MembersRequest::default(), |member| {
            let mut tags = Vec::new();
            member.tags.for_each(|name, value| tags.push(format!("{name}={value}")));
            let addr = member
                .addr
                .map_or(String::new(), |ip| std::net::SocketAddr::new(ip, member.port).to_string());
            let (name, status) = (member.name.to_string(), member.status.to_string());
            members.push(Listed { name, addr, status, tags: tags.join(",") });
        });
        if let Err(error) = listed {
            return Ok(error);
        }
        to.send(News::Numbers { at, stats, members }).map_err(|_| Ended)?;
        thread::sleep(interval.saturating_sub(at.elapsed()));
    }
}

/// Passes the events on until the connection ends.
fn listen(client: &mut Client, to: &SyncSender<News>) -> Result<ClientError, Ended> {
    client.wait_at_most(Duration::ZERO);
    let begun = client.begin(&Request::Stream(StreamRequest { filter: "*".to_owned() }));
    if let Err(error) = begun {
        return Ok(error);
    }
    loop {
        match client.record() {
            Ok((_, Record::Event(event))) => to.send(News::Event(line(&event))).map_err(|_| Ended)?,
            Ok(_) => {}
            Err(error) => return Ok(error),
        }
    }
}

fn line(event: &StreamRecord) -> String {
    match event {
        StreamRecord::Members(of) => {
            let names: Vec<&str> = of.members.iter().map(|member| member.name.as_str()).collect();
            format!("{}: {}", of.event, names.join(", "))
        }
        StreamRecord::User(of) => {
            format!("event: {} {}", of.name, String::from_utf8_lossy(&of.payload))
        }
        StreamRecord::Query(of) => {
            format!("query: {} {}", of.name, String::from_utf8_lossy(&of.payload))
        }
    }
}
