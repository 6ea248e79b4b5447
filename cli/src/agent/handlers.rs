//! Event handlers: scripts that are run for events, one after the other (FEATURES 5).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::process::Stdio;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use thane_engine::event::{Event, MemberRef};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::filter::EventFilter;
use super::log::{Level, Log};

/// Output of a script that is kept: the last bytes.
const OUTPUT_BYTES_MAX: usize = 8 * 1024;
/// Scripts that run longer are told of once.
const SLOW_AFTER: Duration = Duration::from_secs(1);
/// Events that wait for a slow handler; further ones are dropped with a warning, because the engine must not
/// wait for a script.
const EVENTS_WAITING_MAX: usize = 1024;

/// A script and the events it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventHandler {
    /// Which events.
    pub(crate) filter: EventFilter,
    /// What `/bin/sh -c` gets.
    pub(crate) script: String,
}

impl EventHandler {
    /// Reads `[FILTER=]SCRIPT`; a list of filters makes one handler for each.
    ///
    /// # Errors
    /// Serf's line about the entry that names no event.
    pub(crate) fn parse(spec: &str) -> Result<Vec<EventHandler>, String> {
        let (list, script) = spec.split_once('=').unwrap_or(("*", spec));
        let filters = EventFilter::parse_list(list)
            .map_err(|entry| format!("Invalid event script: Event '{entry}' invoking '{script}'"))?;
        Ok(filters.into_iter().map(|filter| EventHandler { filter, script: script.to_owned() }).collect())
    }
}

/// Who runs the scripts, as they see it: SERF_SELF_NAME, SERF_SELF_ROLE and SERF_TAG_*.
pub(crate) struct SelfIdentity {
    /// Node name.
    pub(crate) name: String,
    /// The tags now.
    pub(crate) tags: RefCell<BTreeMap<String, String>>,
}

/// Sends the answer of a script to a query; the error is logged.
pub(crate) trait Responder {
    /// Answers the query of an [`Event::Query`].
    fn respond(
        &self,
        query: thane_engine::command::QueryToken,
        payload: bytes::Bytes,
    ) -> impl Future<Output = Result<(), String>>;
}

/// The handlers' entry: takes events without waiting.
#[derive(Clone)]
pub(crate) struct Handlers(Rc<Shared>);

struct Shared {
    list: RefCell<Rc<Vec<EventHandler>>>,
    queue: mpsc::Sender<Arc<Event>>,
    lagging: Cell<bool>,
    log: Log,
}

/// Runs the scripts; made together with [`Handlers`].
pub(crate) struct HandlerLoop<R> {
    handlers: Handlers,
    events: mpsc::Receiver<Arc<Event>>,
    identity: Rc<SelfIdentity>,
    responder: R,
}

impl Handlers {
    /// The entry and the loop that runs the scripts. Spawn [`HandlerLoop::run`].
    pub(crate) fn new<R: Responder>(
        list: Vec<EventHandler>,
        identity: Rc<SelfIdentity>,
        responder: R,
        log: Log,
    ) -> (Handlers, HandlerLoop<R>) {
        let (queue, events) = mpsc::channel(EVENTS_WAITING_MAX);
        let shared = Shared { list: RefCell::new(Rc::new(list)), queue, lagging: Cell::new(false), log };
        let handlers = Handlers(Rc::new(shared));
        let handler_loop = HandlerLoop { handlers: handlers.clone(), events, identity, responder };
        (handlers, handler_loop)
    }

    /// Replaces the list; the next event sees the new one.
    pub(crate) fn replace(&self, list: Vec<EventHandler>) {
        *self.0.list.borrow_mut() = Rc::new(list);
    }

    /// Hands on an event. Never waits: an event that finds the queue full is dropped, with one warning.
    pub(crate) fn offer(&self, event: &Arc<Event>) {
        if self.0.list.borrow().is_empty() {
            return;
        }
        let full = self.0.queue.try_send(event.clone()).is_err();
        if full && !self.0.lagging.replace(true) {
            let text =
                format!("Event handlers are slow: {EVENTS_WAITING_MAX} events wait, dropping further ones");
            self.0.log.add(Level::Warn, "agent", text);
        } else if !full {
            self.0.lagging.set(false);
        }
    }
}

impl<R: Responder> HandlerLoop<R> {
    /// Runs the scripts of each event in configured order, each to its end, until the agent ends.
    pub(crate) async fn run(mut self) {
        while let Some(event) = self.events.recv().await {
            let list = self.handlers.0.list.borrow().clone();
            for handler in list.iter().filter(|handler| handler.filter.matches(&event)) {
                if let Err(error) = self.invoke(&handler.script, &event).await {
                    let text = format!("Error invoking script '{}': {error}", handler.script);
                    self.handlers.0.log.add(Level::Err, "agent", text);
                }
            }
        }
    }

    async fn invoke(&self, script: &str, event: &Event) -> Result<(), String> {
        let log = &self.handlers.0.log;
        let environment = environment(event, &self.identity);
        let slow = async {
            tokio::time::sleep(SLOW_AFTER).await;
            let text = format!("Script '{script}' slow, execution exceeding {}s", SLOW_AFTER.as_secs());
            log.add(Level::Warn, "agent", text);
            std::future::pending::<()>().await;
        };
        let outcome = tokio::select! {
            outcome = run_script(script, environment, standard_input(event)) => outcome,
            () = slow => unreachable!("the slow warning never ends"),
        };
        let outcome = outcome.map_err(|error| error.to_string())?;
        let text = format!(
            "Event '{}' script output: {}",
            event_word(event),
            String::from_utf8_lossy(&outcome.output)
        );
        log.add(Level::Debug, "agent", text);
        if let Some(failure) = outcome.failure {
            return Err(failure);
        }
        if let Event::Query { token, name, .. } = event
            && !outcome.output.is_empty()
            && let Err(error) = self.responder.respond(*token, outcome.output.into()).await
        {
            let text = format!("Failed to respond to query '{name}': {error}");
            log.add(Level::Warn, "agent", text);
        }
        Ok(())
    }
}

/// How a script ended.
struct Outcome {
    output: Vec<u8>,
    failure: Option<String>,
}

/// Runs a script to its end and to the end of its output, which a child that it left behind may hold open.
async fn run_script(
    script: &str,
    environment: Vec<(String, String)>,
    input: Vec<u8>,
) -> std::io::Result<Outcome> {
    // One pipe for both streams keeps their bytes in the order of arrival.
    let (reader, writer) = std::io::pipe()?;
    let mut command = shell(script);
    command
        .envs(environment)
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command.spawn()?;
    // The command holds the writing end of the pipe; without this the end of the output never comes.
    drop(command);

    let stdin = child.stdin.take();
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A script that doesn't read its input is no error.
            let _ = stdin.write_all(&input).await;
        }
    };
    let (output, status, ()) = tokio::join!(read_last(reader), child.wait(), feed);
    Ok(Outcome { output: output?, failure: failure(status?) })
}

#[cfg(unix)]
fn shell(script: &str) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("/bin/sh");
    command.arg("-c").arg(script);
    command
}

#[cfg(windows)]
fn shell(script: &str) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("cmd");
    command.arg("/C").arg(script);
    command
}

/// Reads to the end and keeps the last [`OUTPUT_BYTES_MAX`].
#[cfg(unix)]
async fn read_last(reader: std::io::PipeReader) -> std::io::Result<Vec<u8>> {
    let mut reader = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into())?;
    let mut last = LastBytes::default();
    let mut chunk = [0; 4096];
    loop {
        match reader.read(&mut chunk).await? {
            0 => return Ok(last.0.into()),
            read => last.extend(&chunk[..read]),
        }
    }
}

/// Reads to the end and keeps the last [`OUTPUT_BYTES_MAX`].
#[cfg(windows)]
async fn read_last(mut reader: std::io::PipeReader) -> std::io::Result<Vec<u8>> {
    let read_all = move || {
        let mut last = LastBytes::default();
        let mut chunk = [0; 4096];
        loop {
            match std::io::Read::read(&mut reader, &mut chunk)? {
                0 => return Ok(last.0.into()),
                read => last.extend(&chunk[..read]),
            }
        }
    };
    tokio::task::spawn_blocking(read_all).await.map_err(std::io::Error::other)?
}

#[derive(Default)]
struct LastBytes(VecDeque<u8>);

impl LastBytes {
    fn extend(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let surplus = self.0.len().saturating_sub(OUTPUT_BYTES_MAX);
        self.0.drain(..surplus);
    }
}

#[cfg(unix)]
fn failure(status: std::process::ExitStatus) -> Option<String> {
    use std::os::unix::process::ExitStatusExt;
    match (status.success(), status.code(), status.signal()) {
        (true, ..) => None,
        (_, Some(code), _) => Some(format!("exit status {code}")),
        (_, _, signal) => Some(format!("ended by signal {}", signal.unwrap_or_default())),
    }
}

#[cfg(windows)]
fn failure(status: std::process::ExitStatus) -> Option<String> {
    (!status.success()).then(|| format!("exit status {}", status.code().unwrap_or_default()))
}

fn event_word(event: &Event) -> &'static str {
    match event {
        Event::Member { kind, .. } => kind.as_str(),
        Event::User { .. } => "user",
        Event::Query { .. } => "query",
    }
}

/// The SERF_ variables of a script (EVH-6..8).
fn environment(event: &Event, identity: &SelfIdentity) -> Vec<(String, String)> {
    let tags = identity.tags.borrow();
    let mut variables = vec![
        ("SERF_EVENT".to_owned(), event_word(event).to_owned()),
        ("SERF_SELF_NAME".to_owned(), identity.name.clone()),
        ("SERF_SELF_ROLE".to_owned(), tags.get("role").cloned().unwrap_or_default()),
    ];
    variables.extend(tags.iter().map(|(name, value)| (tag_variable(name), value.clone())));
    match event {
        Event::User { ltime, name, .. } => {
            variables.push(("SERF_USER_EVENT".to_owned(), name.clone()));
            variables.push(("SERF_USER_LTIME".to_owned(), ltime.0.to_string()));
        }
        Event::Query { ltime, name, .. } => {
            variables.push(("SERF_QUERY_NAME".to_owned(), name.clone()));
            variables.push(("SERF_QUERY_LTIME".to_owned(), ltime.0.to_string()));
        }
        Event::Member { .. } => {}
    }
    // A NUL can't be in the environment; with one the script would not start at all.
    variables.retain(|(_, value)| !value.contains('\0'));
    variables
}

fn tag_variable(tag: &str) -> String {
    let name = tag.to_uppercase();
    let safe = name.chars().map(|c| if matches!(c, 'A'..='Z' | '0'..='9' | '_') { c } else { '_' });
    "SERF_TAG_".chars().chain(safe).collect()
}

/// What a script reads (EVH-9, EVH-10).
fn standard_input(event: &Event) -> Vec<u8> {
    match event {
        Event::Member { members, .. } => {
            members.iter().map(|member| member_line(&member)).collect::<String>().into_bytes()
        }
        Event::User { payload, .. } | Event::Query { payload, .. } => {
            let mut input = payload.to_vec();
            if input.last().is_some_and(|last| *last != b'\n') {
                input.push(b'\n');
            }
            input
        }
    }
}

fn member_line(member: &MemberRef<'_>) -> String {
    let tags = member.tags();
    let role = tags.get("role").map_or("", String::as_str);
    let tags: Vec<String> = tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{}\t{}\t{}\t{}\n", one_line(member.name), member.addr, one_line(role), one_line(&tags.join(",")))
}

fn one_line(text: &str) -> String {
    text.replace('\t', "\\t").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Instant;

    use bytes::Bytes;
    use thane_engine::command::QueryToken;
    use thane_engine::event::{MemberEventKind, Members};
    use thane_engine::view::MemberStatus;
    use thane_engine::wire::{LamportTime, Versions, encode_tags};

    use super::*;

    #[derive(Clone, Default)]
    struct Answers(Rc<RefCell<Vec<(QueryToken, Bytes)>>>);

    impl Responder for Answers {
        async fn respond(&self, query: QueryToken, payload: Bytes) -> Result<(), String> {
            self.0.borrow_mut().push((query, payload));
            Ok(())
        }
    }

    fn identity() -> Rc<SelfIdentity> {
        let tags = [("role", "web"), ("my-tag.x", "2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        Rc::new(SelfIdentity { name: "s1".to_owned(), tags: RefCell::new(tags.into()) })
    }

    fn user(payload: &'static str) -> Event {
        Event::User {
            ltime: LamportTime(7),
            name: "deploy".to_owned(),
            payload: Bytes::from_static(payload.as_bytes()),
            coalesce: false,
        }
    }

    fn query(token: u64) -> Event {
        Event::Query {
            token: QueryToken(token),
            ltime: LamportTime(9),
            name: "load".to_owned(),
            payload: Bytes::new(),
            source_node: "n".to_owned(),
            timeout: Duration::from_secs(9),
        }
    }

    /// Runs the handlers over the events; returns the answers and the log.
    fn run(specs: &[&str], events: Vec<Event>) -> (Vec<(QueryToken, Bytes)>, Vec<String>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let log = Log::new(Level::Err);
        let answers = Answers::default();
        // The last event's handler fails, which the log shows once everything before it has run.
        let specs = specs.iter().copied().chain(["user:last=exit 77"]);
        let list = specs.flat_map(|spec| EventHandler::parse(spec).unwrap()).collect();
        let (handlers, handler_loop) = Handlers::new(list, identity(), answers.clone(), log.clone());
        let last = Event::User {
            ltime: LamportTime(1),
            name: "last".to_owned(),
            payload: Bytes::new(),
            coalesce: false,
        };
        for event in events.into_iter().chain([last]) {
            handlers.offer(&Arc::new(event));
        }
        let ended = || {
            log.subscribe("t", Level::Err).backlog.iter().any(|line| line.text.ends_with("exit status 77"))
        };
        tokio::task::LocalSet::new().block_on(&runtime, async {
            // The loop holds an entry of its own, so it never ends by itself.
            let task = tokio::task::spawn_local(handler_loop.run());
            let started = Instant::now();
            while !ended() {
                assert!(started.elapsed() < Duration::from_secs(60), "handlers did not end");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            task.abort();
        });
        let lines = log.subscribe("t", Level::Trace).backlog.iter().map(|line| line.text.clone()).collect();
        (answers.0.borrow().clone(), lines)
    }

    #[test]
    fn specs_are_split_at_the_first_equals_sign() {
        let handlers = EventHandler::parse("member-join,user:a=x.sh --k=v").unwrap();
        assert_eq!(handlers.len(), 2);
        assert_eq!(handlers[0].script, "x.sh --k=v");
        assert_eq!(EventHandler::parse("x.sh").unwrap()[0].filter.info_key(), "*:");
        assert_eq!(
            EventHandler::parse("bogus=x.sh"),
            Err("Invalid event script: Event 'bogus' invoking 'x.sh'".to_owned())
        );
    }

    #[test]
    fn environment_is_serfs() {
        let variables: BTreeMap<_, _> = environment(&user("abc"), &identity()).into_iter().collect();
        let expected = [
            ("SERF_EVENT", "user"),
            ("SERF_SELF_NAME", "s1"),
            ("SERF_SELF_ROLE", "web"),
            ("SERF_TAG_MY_TAG_X", "2"),
            ("SERF_TAG_ROLE", "web"),
            ("SERF_USER_EVENT", "deploy"),
            ("SERF_USER_LTIME", "7"),
        ];
        assert_eq!(variables, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn standard_input_is_serfs() {
        let mut members = Members::default();
        let mut add = |name: &str, tags: &[(&str, &str)]| {
            let mut meta = Vec::new();
            encode_tags(&tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(), &mut meta);
            members.push(&MemberRef {
                name,
                addr: "127.0.0.12".parse().unwrap(),
                port: 7946,
                meta: &meta,
                status: MemberStatus::Alive,
                versions: Versions::default(),
            });
        };
        add("b", &[]);
        add("a\tb", &[("role", "w\n"), ("x", "1")]);
        let event = Event::Member { kind: MemberEventKind::Join, members };
        assert_eq!(
            String::from_utf8(standard_input(&event)).unwrap(),
            "b\t127.0.0.12\t\t\na\\tb\t127.0.0.12\tw\\n\trole=w\\n,x=1\n"
        );
        assert_eq!(standard_input(&user("abc")), b"abc\n");
        assert_eq!(standard_input(&user("abc\n")), b"abc\n");
        assert_eq!(standard_input(&user("")), b"");
    }

    #[test]
    fn answers_with_merged_output_on_success_only() {
        let (answers, log) =
            run(&["query=echo out; echo err >&2", "query=echo no; exit 3", "query=cat"], vec![query(4)]);
        assert_eq!(answers, vec![(QueryToken(4), Bytes::from_static(b"out\nerr\n"))]);
        assert!(
            log.iter().any(|line| line.ends_with("Error invoking script 'echo no; exit 3': exit status 3"))
        );
    }

    #[test]
    fn keeps_the_last_8_kib_and_survives_a_script_that_reads_nothing() {
        let big = Event::User {
            ltime: LamportTime(1),
            name: "big".to_owned(),
            payload: Bytes::from(vec![b'x'; 1 << 20]),
            coalesce: false,
        };
        let (answers, _) = run(&["query=seq 1 5000", "user:big=true"], vec![big, query(1)]);
        let output = &answers[0].1;
        assert_eq!(output.len(), 8192);
        assert!(output.ends_with(b"4999\n5000\n"));
    }

    #[test]
    fn killed_script_is_logged_and_the_next_event_runs() {
        let (answers, log) = run(&["user=kill -9 $$", "query=echo here"], vec![user(""), query(2)]);
        assert_eq!(answers.len(), 1);
        assert!(log.iter().any(|line| line.contains("ended by signal 9")), "{log:?}");
    }

    #[test]
    fn slow_script_is_told_of() {
        let (_, log) = run(&["user:deploy=sleep 1.3"], vec![user("")]);
        let told = log.iter().filter(|line| line.contains("Script 'sleep 1.3' slow, execution exceeding 1s"));
        assert_eq!(told.count(), 1);
    }
}
