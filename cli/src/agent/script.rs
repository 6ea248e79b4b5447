//! One run of a script for one event: its environment, its input, its output.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thane_engine::event::{Event, MemberRef};
use tokio::io::AsyncWriteExt;
use tokio::process::Child;
use tokio::time::timeout;

use super::identity::SelfIdentity;

/// What a script may take.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// How long it may run before it is killed, with the processes that it started; `None`: for ever, as in Serf. With
    /// a limit, a script is a process group of its own.
    pub(crate) time: Option<Duration>,
    /// Output that is kept: the last bytes.
    pub(crate) output_bytes: usize,
}

impl Default for Limits {
    /// Serf's.
    fn default() -> Limits {
        Limits { time: None, output_bytes: 8 * 1024 }
    }
}

/// How long a script that is told to end may take before it is killed.
#[cfg(unix)]
const END_WITHIN: Duration = Duration::from_secs(1);
/// How long output is read after the script has ended. A process that it left behind may hold it open for ever.
pub(super) const OUTPUT_AFTER_END: Duration = Duration::from_secs(1);

/// The result of a script.
pub(super) struct Outcome {
    /// The last bytes of stdout and stderr, in the order of arrival.
    pub(super) output: Vec<u8>,
    /// The exit status or signal, unless the script succeeded.
    pub(super) failure: Option<String>,
    /// It took too long and was killed.
    pub(super) timed_out: bool,
    /// A process that the script left behind held its output or input open: that was closed.
    pub(super) held_open: bool,
}

/// Runs a script for an event to its end, and reads its output to the end or for [`OUTPUT_AFTER_END`] more. While it
/// runs, its process id is in `running`; the limits are those of [`Limits`].
///
/// # Errors
/// The shell can't be started, or its output can't be read.
pub(super) async fn run(
    script: &str,
    event: &Event,
    identity: &SelfIdentity,
    limits: &Limits,
    running: &RefCell<BTreeSet<u32>>,
) -> io::Result<Outcome> {
    let input = standard_input(event);
    // One pipe for both streams keeps their bytes in the order of arrival.
    let (reader, writer) = io::pipe()?;
    let mut command = shell(script);
    command
        .envs(environment(event, identity))
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(writer.try_clone()?)
        .stderr(writer);
    #[cfg(unix)]
    if limits.time.is_some() {
        command.process_group(0);
    }
    let mut child = command.spawn()?;
    let _running = child.id().map(|id| Running::new(id, running));
    // The command holds the writing end of the pipe, which would keep the output from ending.
    drop(command);

    let stdin = child.stdin.take();
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A script may end without reading its input.
            let _ = stdin.write_all(&input).await;
        }
    };
    let last = LastBytes::of(limits.output_bytes);
    let talk = async { tokio::join!(read(reader, last.clone()), feed).0 };
    tokio::pin!(talk);
    let wait = end_of(&mut child, limits.time);
    tokio::pin!(wait);
    let ((status, timed_out), talked): ((ExitStatus, bool), _) = tokio::select! {
        status = &mut wait => (status?, timeout(OUTPUT_AFTER_END, talk).await),
        talked = &mut talk => (wait.await?, Ok(talked)),
    };
    let held_open = talked.is_err();
    if let Ok(read) = talked {
        read?;
    }
    let killed = timed_out.then(|| format!("killed after {:?}", limits.time.unwrap_or_default()));
    Ok(Outcome { output: last.take(), failure: killed.or_else(|| failure(status)), timed_out, held_open })
}

/// A process in the list of those that run.
struct Running<'a>(u32, &'a RefCell<BTreeSet<u32>>);

impl Running<'_> {
    fn new(id: u32, running: &RefCell<BTreeSet<u32>>) -> Running<'_> {
        running.borrow_mut().insert(id);
        Running(id, running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.1.borrow_mut().remove(&self.0);
    }
}

/// Waits for the end, and brings it about when the time is over. Returns whether it was.
async fn end_of(child: &mut Child, limit: Option<Duration>) -> io::Result<(ExitStatus, bool)> {
    let Some(limit) = limit else { return Ok((child.wait().await?, false)) };
    match timeout(limit, child.wait()).await {
        Ok(status) => Ok((status?, false)),
        Err(_) => Ok((kill(child).await?, true)),
    }
}

/// Ends a script and all of its process group, at first gently.
#[cfg(unix)]
async fn kill(child: &mut Child) -> io::Result<ExitStatus> {
    use nix::sys::signal::{Signal, killpg};
    use nix::unistd::Pid;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    // An error means that the group has ended.
    let send = |signal| group.map(|group| killpg(group, signal));
    send(Signal::SIGTERM);
    let ended = timeout(END_WITHIN, child.wait()).await;
    // Children may have stayed; the script itself is not reaped yet if it did.
    send(Signal::SIGKILL);
    match ended {
        Ok(status) => status,
        Err(_) => child.wait().await,
    }
}

#[cfg(windows)]
async fn kill(child: &mut Child) -> io::Result<ExitStatus> {
    child.kill().await?;
    child.wait().await
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

/// Reads to the end.
#[cfg(unix)]
async fn read(reader: io::PipeReader, last: LastBytes) -> io::Result<()> {
    use tokio::io::AsyncReadExt;
    let mut reader = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into())?;
    let mut chunk = [0; 4096];
    loop {
        match reader.read(&mut chunk).await? {
            0 => return Ok(()),
            read => last.extend(&chunk[..read]),
        }
    }
}

/// Reads to the end.
#[cfg(windows)]
async fn read(mut reader: io::PipeReader, last: LastBytes) -> io::Result<()> {
    let read_all = move || {
        let mut chunk = [0; 4096];
        loop {
            match io::Read::read(&mut reader, &mut chunk)? {
                0 => return Ok(()),
                read => last.extend(&chunk[..read]),
            }
        }
    };
    tokio::task::spawn_blocking(read_all).await.map_err(io::Error::other)?
}

/// The last bytes of what was read, so many at most. Clones share them.
#[derive(Clone)]
struct LastBytes(Arc<Mutex<VecDeque<u8>>>, usize);

impl LastBytes {
    fn of(most: usize) -> LastBytes {
        LastBytes(Arc::default(), most)
    }

    fn extend(&self, bytes: &[u8]) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.extend(bytes);
        let surplus = last.len().saturating_sub(self.1);
        last.drain(..surplus);
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

#[cfg(unix)]
fn failure(status: ExitStatus) -> Option<String> {
    use std::os::unix::process::ExitStatusExt;
    match (status.success(), status.code(), status.signal()) {
        (true, ..) => None,
        (_, Some(code), _) => Some(format!("exit status {code}")),
        (_, _, signal) => Some(format!("ended by signal {}", signal.unwrap_or_default())),
    }
}

#[cfg(windows)]
fn failure(status: ExitStatus) -> Option<String> {
    (!status.success()).then(|| format!("exit status {}", status.code().unwrap_or_default()))
}

/// The value of SERF_EVENT.
pub(super) fn event_word(event: &Event) -> &'static str {
    match event {
        Event::Member { kind, .. } => kind.as_str(),
        Event::User { .. } => "user",
        Event::Query { .. } => "query",
    }
}

/// The SERF_ variables of a script.
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
    // The environment can't hold a NUL: the script would not start.
    variables.retain(|(_, value)| !value.contains('\0'));
    variables
}

fn tag_variable(tag: &str) -> String {
    let name = tag.to_uppercase();
    let safe = name.chars().map(|c| if matches!(c, 'A'..='Z' | '0'..='9' | '_') { c } else { '_' });
    "SERF_TAG_".chars().chain(safe).collect()
}

/// The standard input of a script.
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
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use thane_engine::event::{MemberEventKind, Members};
    use thane_engine::view::MemberStatus;
    use thane_engine::wire::{LamportTime, Versions, encode_tags};

    use super::*;

    fn identity() -> SelfIdentity {
        let tags = [("role", "web"), ("my-tag.x", "2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        SelfIdentity { name: "s1".to_owned(), tags: RefCell::new(tags.into()) }
    }

    fn user(payload: &'static str) -> Event {
        Event::User {
            ltime: LamportTime(7),
            name: "deploy".to_owned(),
            payload: Bytes::from_static(payload.as_bytes()),
            coalesce: false,
        }
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
}
