//! The snapshot file: the members that a node knew and its Lamport clocks, so that it rejoins after a restart
//! (PROTOCOL 10.1). Reads and writes Serf's format.
//!
//! Lines are appended to a buffer that goes to the writer's thread half a second after the first of them, so a
//! `kill -9` loses at most that; a graceful leave and an orderly end are synced to disk. A file that has grown well
//! beyond its content is rewritten beside itself and renamed, which also repairs a file after a failed write.
//! While the disk is stuck, lines wait up to a bound; beyond it they are dropped and the file is rewritten later.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot::{self, error::TryRecvError};

use super::writer::{Change, LogFile, Writer};
use crate::config::Restored;
use crate::event::SnapshotRecord;
use crate::wire::LamportTime;

/// Longest time that lines wait in the buffer.
pub(crate) const FLUSH_AFTER: Duration = Duration::from_millis(500);
/// A file larger than this, and than twice [`MEMBER_BYTES`] per member, is rewritten (Serf's numbers), bytes.
const COMPACT_BYTES_MIN: u64 = 128 * 1024;
const MEMBER_BYTES: u64 = 128;
/// Bytes of lines that wait while an earlier write is under way. Beyond it the lines are dropped, and the file is
/// rewritten from the state, which holds what they say.
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// Begins a line about a failed member, which Serf does not have: to Serf it is a comment.
const FAILED: &str = "#failed: ";
/// A larger file is refused, bytes. A million members with long names fit.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// One node's snapshot file.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Arc<LogFile>,
    writer: Writer,
    /// The file's size once everything that was sent to the writer is written.
    file_bytes: u64,
    buffer: Vec<u8>,
    /// The content of the file and the buffer.
    state: State,
    /// This node has left gracefully: only clocks are recorded from then on.
    left: bool,
    /// A write failed or lines were dropped: the file must be rewritten.
    broken: bool,
    /// The outcome of the last write, until it is known.
    under_way: Option<oneshot::Receiver<io::Result<()>>>,
}

#[derive(Debug, Default)]
struct State {
    alive: BTreeMap<String, SocketAddr>,
    failed: BTreeMap<String, SocketAddr>,
    clock: u64,
    event_clock: u64,
    query_clock: u64,
}

impl State {
    fn came(&mut self, name: String, addr: SocketAddr) {
        self.failed.remove(&name);
        self.alive.insert(name, addr);
    }

    fn left(&mut self, name: &str) {
        self.failed.remove(name);
        self.alive.remove(name);
    }
}

/// A snapshot file that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) journal: Journal,
    /// The content of the file.
    pub(crate) restored: Restored,
    /// Remarks for the log: lines that can't be read and were skipped, a graceful leave that was ignored.
    pub(crate) remarks: Vec<String>,
}

impl Journal {
    /// Opens or creates a snapshot file and reads it. Without `rejoin_after_leave`, what precedes a graceful leave
    /// is ignored. An incomplete last line is cut off.
    ///
    /// # Errors
    /// The file can't be opened, read or cut, or is larger than 256 MiB. Its lines are unchanged.
    pub(crate) fn open(path: &Path, rejoin_after_leave: bool) -> io::Result<Opened> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path)?;
        if file.metadata()?.len() > FILE_BYTES_MAX {
            let text = format!("larger than {} MiB, so it is no snapshot", FILE_BYTES_MAX >> 20);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        // A crash left an incomplete last line; what is appended must not become part of it.
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64)?;
        let (state, remarks) = replay(&bytes[..whole], rejoin_after_leave);
        let listed = |members: &BTreeMap<_, _>| {
            members.iter().map(|(name, addr)| (String::clone(name), *addr)).collect()
        };
        let restored = Restored {
            clock: state.clock,
            event_clock: state.event_clock,
            query_clock: state.query_clock,
            alive: listed(&state.alive),
            failed: listed(&state.failed),
        };
        let journal = Journal {
            file: Arc::new(LogFile::new(path, file, whole as u64)),
            writer: Writer::get()?,
            file_bytes: whole as u64,
            buffer: Vec::new(),
            state,
            left: false,
            broken: false,
            under_way: None,
        };
        Ok(Opened { journal, restored, remarks })
    }

    /// Adds a line to the buffer. Returns true if it must reach the disk at once.
    pub(crate) fn append(&mut self, record: SnapshotRecord) -> bool {
        if self.left && !matches!(record, SnapshotRecord::Clock(_)) {
            return false;
        }
        if let SnapshotRecord::Alive { name, .. }
        | SnapshotRecord::NotAlive { name }
        | SnapshotRecord::Failed { name, .. } = &record
            && name.contains('\n')
        {
            // The format has no escape for it, and a peer must not write lines of its own.
            return false;
        }
        let leave = record == SnapshotRecord::Leave;
        self.left |= leave;
        write_line(&mut self.buffer, &record);
        match record {
            SnapshotRecord::Alive { name, addr } => self.state.came(name, addr),
            SnapshotRecord::NotAlive { name } => self.state.left(&name),
            SnapshotRecord::Failed { name, addr } => {
                self.state.left(&name);
                self.state.failed.insert(name, addr);
            }
            SnapshotRecord::Clock(time) => raise(&mut self.state.clock, time),
            SnapshotRecord::EventClock(time) => raise(&mut self.state.event_clock, time),
            SnapshotRecord::QueryClock(time) => raise(&mut self.state.query_clock, time),
            SnapshotRecord::Leave => {}
        }
        leave
    }

    /// Starts to write the buffered lines, unless an earlier write is under way. Returns true while the outcome of a
    /// write is not known: the caller calls again.
    ///
    /// # Errors
    /// The last write failed; reported once. The file's content is then unknown, and the next flush rewrites it.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        match self.under_way.as_mut().map(oneshot::Receiver::try_recv) {
            Some(Err(TryRecvError::Empty)) => {
                if self.buffer.len() > WAITING_BYTES_MAX {
                    (self.buffer, self.broken) = (Vec::new(), true);
                }
                return Ok(true);
            }
            Some(Ok(Err(error))) => {
                (self.under_way, self.broken) = (None, true);
                return Err(error);
            }
            Some(_) | None => self.under_way = None,
        }
        if self.buffer.is_empty() {
            return Ok(false);
        }
        let members = (self.state.alive.len() + self.state.failed.len()) as u64;
        let grown = self.file_bytes + self.buffer.len() as u64;
        let compact = grown > COMPACT_BYTES_MIN.max(2 * MEMBER_BYTES * members) && !self.left;
        let change = if self.broken || compact { self.replacement() } else { self.addition() };
        self.under_way = Some(self.send(change, false)?);
        Ok(true)
    }

    /// Starts to write the buffered lines and to sync the file. The returned receiver resolves when they are on
    /// disk, or with the reason why they are not.
    ///
    /// # Errors
    /// The writer's queue is full. Nothing is written, and the next flush rewrites the file.
    pub(crate) fn sync(&mut self) -> io::Result<oneshot::Receiver<io::Result<()>>> {
        // A write that is under way may fail, and then only the whole content is right.
        let change =
            if self.broken || self.under_way.take().is_some() { self.replacement() } else { self.addition() };
        self.send(change, true)
    }

    fn send(&mut self, change: Change, sync: bool) -> io::Result<oneshot::Receiver<io::Result<()>>> {
        let sent = self.writer.change(&self.file, change, sync);
        self.broken = sent.is_err();
        sent
    }

    /// Takes the buffered lines, to be appended.
    fn addition(&mut self) -> Change {
        self.file_bytes += self.buffer.len() as u64;
        Change::Append(std::mem::take(&mut self.buffer))
    }

    /// The whole content, to replace the file.
    fn replacement(&mut self) -> Change {
        // The state contains what the buffer says.
        self.buffer = Vec::new();
        let mut lines = Vec::new();
        for (name, &addr) in &self.state.alive {
            write_line(&mut lines, &SnapshotRecord::Alive { name: name.clone(), addr });
        }
        for (name, &addr) in &self.state.failed {
            write_line(&mut lines, &SnapshotRecord::Failed { name: name.clone(), addr });
        }
        for record in [
            SnapshotRecord::Clock(LamportTime(self.state.clock)),
            SnapshotRecord::EventClock(LamportTime(self.state.event_clock)),
            SnapshotRecord::QueryClock(LamportTime(self.state.query_clock)),
        ] {
            write_line(&mut lines, &record);
        }
        if self.left {
            write_line(&mut lines, &SnapshotRecord::Leave);
        }
        self.file_bytes = lines.len() as u64;
        Change::Replace(lines)
    }
}

fn write_line(out: &mut Vec<u8>, record: &SnapshotRecord) {
    match record {
        SnapshotRecord::Alive { name, addr } => writeln!(out, "alive: {name} {addr}"),
        SnapshotRecord::NotAlive { name } => writeln!(out, "not-alive: {name}"),
        SnapshotRecord::Failed { name, addr } => {
            writeln!(out, "not-alive: {name}\n{FAILED}{name} {addr}")
        }
        SnapshotRecord::Clock(time) => writeln!(out, "clock: {}", time.0),
        SnapshotRecord::EventClock(time) => writeln!(out, "event-clock: {}", time.0),
        SnapshotRecord::QueryClock(time) => writeln!(out, "query-clock: {}", time.0),
        SnapshotRecord::Leave => writeln!(out, "leave"),
    }
    .expect("a Vec takes all bytes");
}

/// Earlier versions of Thane wrote the time of a late message after a newer one: a clock never falls all the same.
fn raise(clock: &mut u64, time: LamportTime) {
    *clock = time.0.max(*clock);
}

/// Applies the lines in order.
fn replay(bytes: &[u8], rejoin_after_leave: bool) -> (State, Vec<String>) {
    let mut state = State::default();
    let mut remarks = Vec::new();
    for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let line = String::from_utf8_lossy(line);
        if line == "leave" {
            if rejoin_after_leave {
                remarks.push("Ignoring previous leave in snapshot".to_owned());
            } else {
                state = State::default();
            }
        } else if replay_line(&mut state, &line).is_none() {
            remarks.push(format!("Unrecognized snapshot line: {}", line.escape_debug()));
        }
    }
    (state, remarks)
}

/// Applies one line. `None` if it can't be read.
fn replay_line(state: &mut State, line: &str) -> Option<()> {
    if let Some(failed) = line.strip_prefix(FAILED) {
        // A comment to Serf, so there is no remark if it can't be read.
        if let Some((name, addr)) = failed.rsplit_once(' ')
            && let Ok(addr) = addr.parse()
        {
            state.failed.insert(name.to_owned(), addr);
        }
        return Some(());
    }
    if line.starts_with('#') {
        return Some(());
    }
    let (kind, rest) = line.split_once(": ")?;
    match kind {
        "alive" => {
            // The name may hold spaces, the address does not.
            let (name, addr) = rest.rsplit_once(' ')?;
            state.came(name.to_owned(), addr.parse().ok()?);
        }
        "not-alive" => state.left(rest),
        "clock" => raise(&mut state.clock, LamportTime(rest.parse().ok()?)),
        "event-clock" => raise(&mut state.event_clock, LamportTime(rest.parse().ok()?)),
        "query-clock" => raise(&mut state.query_clock, LamportTime(rest.parse().ok()?)),
        // Older versions of Serf wrote it; no version reads it.
        "coordinate" => {}
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn alive(name: &str) -> SnapshotRecord {
        SnapshotRecord::Alive { name: name.into(), addr: "127.0.0.1:7946".parse().unwrap() }
    }

    /// Flushes and waits.
    fn flush(journal: &mut Journal) -> io::Result<()> {
        while journal.flush()? {
            std::thread::yield_now();
        }
        Ok(())
    }

    fn sync(journal: &mut Journal) {
        journal.sync().unwrap().blocking_recv().unwrap().unwrap();
    }

    fn open(path: &Path) -> Opened {
        Journal::open(path, false).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snap");
        let mut opened = open(&path);
        for record in [
            alive("a b"),
            alive("c"),
            SnapshotRecord::NotAlive { name: "c".into() },
            SnapshotRecord::Clock(LamportTime(7)),
            SnapshotRecord::EventClock(LamportTime(8)),
            SnapshotRecord::QueryClock(LamportTime(9)),
        ] {
            assert!(!opened.journal.append(record));
        }
        flush(&mut opened.journal).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("alive: a b 127.0.0.1:7946\nalive: c"), "{text}");
        let restored = open(&path).restored;
        assert_eq!((restored.clock, restored.event_clock, restored.query_clock), (7, 8, 9));
        assert_eq!(restored.alive, [("a b".to_owned(), "127.0.0.1:7946".parse().unwrap())]);
    }

    #[test]
    fn a_leave_clears_all_unless_asked_to_rejoin_and_only_clocks_follow_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snap");
        let mut journal = open(&path).journal;
        journal.append(alive("a"));
        assert!(journal.append(SnapshotRecord::Leave), "a leave is synced");
        journal.append(SnapshotRecord::NotAlive { name: "a".into() });
        journal.append(SnapshotRecord::Clock(LamportTime(3)));
        sync(&mut journal);
        let kept = Journal::open(&path, true).unwrap();
        assert_eq!((kept.restored.alive.len(), kept.restored.clock), (1, 3));
        assert_eq!(kept.remarks, ["Ignoring previous leave in snapshot"]);
        let cleared = open(&path).restored;
        assert_eq!((cleared.alive.len(), cleared.clock), (0, 3));
    }

    #[test]
    fn a_file_cut_at_any_byte_opens_and_goes_on_with_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snap");
        let text = "# serf\nalive: a 127.0.0.1:7946\nclock: 12\ncoordinate: x\nwhat\nevent-clock: 5\n";
        for cut in 0..=text.len() {
            std::fs::write(&path, &text[..cut]).unwrap();
            let mut opened = open(&path);
            opened.journal.append(SnapshotRecord::QueryClock(LamportTime(4)));
            flush(&mut opened.journal).unwrap();
            let again = open(&path);
            assert_eq!(again.restored.query_clock, 4, "cut at {cut}");
            assert!(again.restored.clock == 12 || again.restored.clock == 0, "never half a number");
        }
        assert_eq!(open(&path).remarks, ["Unrecognized snapshot line: what"]);
    }

    #[test]
    fn clocks_that_fall_in_the_file_do_not_fall() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snap");
        let text = ["clock", "event-clock", "query-clock"].map(|name| format!("{name}: 9\n{name}: 5\n"));
        std::fs::write(&path, text.concat()).unwrap();
        let restored = open(&path).restored;
        assert_eq!((restored.clock, restored.event_clock, restored.query_clock), (9, 9, 9));
    }

    #[test]
    fn a_file_that_grew_is_rewritten_and_says_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snap");
        let mut journal = open(&path).journal;
        journal.append(alive("a"));
        journal.append(SnapshotRecord::EventClock(LamportTime(7)));
        journal.append(SnapshotRecord::QueryClock(LamportTime(8)));
        for time in 0..20_000 {
            journal.append(SnapshotRecord::Clock(LamportTime(time)));
            if time % 100 == 0 {
                flush(&mut journal).unwrap();
            }
        }
        sync(&mut journal);
        assert!(std::fs::metadata(&path).unwrap().len() < 2 * COMPACT_BYTES_MIN);
        let restored = open(&path).restored;
        assert_eq!((restored.clock, restored.alive.len()), (19_999, 1));
        assert_eq!((restored.event_clock, restored.query_clock), (7, 8), "SNP-4: no clock is lost");
    }

    #[test]
    fn a_failed_write_is_repaired_by_a_rewrite() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snap");
        let mut journal = open(&path).journal;
        journal.append(alive("a"));
        journal.file.break_it();
        flush(&mut journal).unwrap_err();
        journal.append(alive("b"));
        flush(&mut journal).unwrap();
        assert_eq!(open(&path).restored.alive.len(), 2);
    }

    #[test]
    fn while_the_disk_is_stuck_lines_wait_and_then_the_file_is_rewritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snap");
        let mut journal = open(&path).journal;
        let (disk, under_way) = oneshot::channel();
        journal.under_way = Some(under_way);
        for n in 0..40_000 {
            journal.append(alive(&format!("a-name-of-some-length-{n:06}")));
            if n % 1_000 == 0 {
                assert!(journal.flush().unwrap(), "it is under way");
                assert!(journal.buffer.len() < 2 * WAITING_BYTES_MAX);
            }
        }
        disk.send(Ok(())).unwrap();
        flush(&mut journal).unwrap();
        assert_eq!(open(&path).restored.alive.len(), 40_000);
    }

    #[test]
    fn what_is_synced_holds_whatever_becomes_of_the_write_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snap");
        let mut journal = open(&path).journal;
        journal.append(alive("a"));
        journal.file.break_it();
        assert!(journal.flush().unwrap());
        journal.append(alive("b"));
        sync(&mut journal);
        assert_eq!(open(&path).restored.alive.len(), 2);
    }

    #[test]
    fn names_can_not_write_lines_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snap");
        let mut journal = open(&path).journal;
        let addr = "127.0.0.1:7946".parse().unwrap();
        for name in ["x\nleave", "x\nclock: 99\ny"] {
            journal.append(alive(name));
            journal.append(SnapshotRecord::Failed { name: name.into(), addr });
            journal.append(SnapshotRecord::NotAlive { name: name.into() });
        }
        journal.append(alive("\u{1b}[2J #"));
        flush(&mut journal).unwrap();
        let Opened { restored, remarks, .. } = open(&path);
        assert_eq!((restored.alive.len(), restored.clock, remarks), (1, 0, Vec::new()));
    }

    #[test]
    fn failed_members_are_remembered_and_those_that_left_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snap");
        let addr = "127.0.0.1:7946".parse().unwrap();
        let mut journal = open(&path).journal;
        for name in ["a", "b", "c d"] {
            journal.append(alive(name));
            journal.append(SnapshotRecord::Failed { name: name.into(), addr });
        }
        journal.append(alive("a"));
        journal.append(SnapshotRecord::NotAlive { name: "b".into() });
        flush(&mut journal).unwrap();
        let read = |path: &Path| {
            let Restored { alive, failed, .. } = open(path).restored;
            [alive, failed].map(|list| list.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
        };
        assert_eq!(read(&path), [["a"], ["c d"]]);
        journal.broken = true;
        journal.append(SnapshotRecord::Clock(LamportTime(1)));
        flush(&mut journal).unwrap();
        assert_eq!(read(&path), [["a"], ["c d"]], "a rewritten file says the same");
    }
}
