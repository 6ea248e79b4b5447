//! What a snapshot file says (PROTOCOL 10.1): the members that a node knew and its Lamport clocks, and the lines that
//! say it.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;

use crate::config::Restored;
use crate::event::{Notice, SnapshotRecord};
use crate::wire::LamportTime;

/// Begins a line about a failed member, which Serf does not have: to Serf it is a comment.
const FAILED: &str = "#failed: ";
/// Begins a line that says how many bytes follow, and their checksum: they are the whole content, and what precedes them
/// does not count. To Serf it is a comment.
const CONTENT: &str = "#content: ";

/// Ends what Thane writes. To Serf it is a comment, and what Serf appends comes after it: a file that does not end with
/// it was last written by Serf, whose clocks lag.
pub(super) const END_LINE: &[u8] = b"#thane\n";

/// The content of a file.
#[derive(Debug, Default)]
pub(super) struct Content {
    alive: BTreeMap<String, SocketAddr>,
    failed: BTreeMap<String, SocketAddr>,
    clock: u64,
    event_clock: u64,
    query_clock: u64,
    /// Events and queries may have been handled that the clocks don't tell of.
    lags: bool,
}

impl Content {
    /// Applies a line that is written. Clocks never fall.
    pub(super) fn apply(&mut self, record: SnapshotRecord) {
        match record {
            SnapshotRecord::Alive { name, addr } => self.came(name, addr),
            SnapshotRecord::NotAlive { name } => self.left(&name),
            SnapshotRecord::Failed { name, addr } => {
                self.left(&name);
                self.failed.insert(name, addr);
            }
            SnapshotRecord::Clock(time) => self.clock = self.clock.max(time.0),
            SnapshotRecord::EventClock(time) => self.event_clock = self.event_clock.max(time.0),
            SnapshotRecord::QueryClock(time) => self.query_clock = self.query_clock.max(time.0),
            SnapshotRecord::Settled => self.lags = false,
            SnapshotRecord::Leave => {}
        }
    }

    /// Whether the clocks lag, so that the file must not end as Thane's.
    pub(super) fn lags(&self) -> bool {
        self.lags
    }

    /// Applies the lines of a file in order, without what follows the last line feed. Returns notices about lines that
    /// can't be read and about an ignored leave.
    pub(super) fn read(bytes: &[u8], rejoin_after_leave: bool) -> (Content, Vec<Notice>) {
        let mut content = Content::default();
        let mut notices = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line = String::from_utf8_lossy(&rest[..end]);
            // Versions before wrote behind a hole when somebody else had emptied the file.
            let line = line.trim_start_matches('\0');
            rest = &rest[end + 1..];
            if line.is_empty() {
                continue;
            }
            if line == "leave" {
                if rejoin_after_leave {
                    notices.push(Notice::LeaveIgnored);
                } else {
                    content = Content::default();
                }
            } else if is_content(line, rest) {
                (content, notices) = (Content::default(), Vec::new());
            } else if content.read_line(line).is_none() {
                let remark = format!("Unrecognized snapshot line: {}", line.escape_debug());
                notices.push(Notice::Snapshot { remark });
            }
        }
        // A file that tells of nothing is nobody's.
        let tells = content.members() > 0 || content.event_clock > 0 || content.query_clock > 0;
        content.lags = tells && !bytes.ends_with(END_LINE);
        (content, notices)
    }

    /// What a node starts from.
    pub(super) fn restored(&self) -> Restored {
        let listed = |members: &BTreeMap<_, _>| {
            members.iter().map(|(name, addr)| (String::clone(name), *addr)).collect()
        };
        Restored {
            clock: self.clock,
            event_clock: self.event_clock,
            query_clock: self.query_clock,
            lags: self.lags,
            alive: listed(&self.alive),
            failed: listed(&self.failed),
        }
    }

    /// How many members it lists.
    pub(super) fn members(&self) -> usize {
        self.alive.len() + self.failed.len()
    }

    /// Lines that say all of it. `left`: this node left.
    pub(super) fn lines(&self, left: bool) -> Vec<u8> {
        let mut lines = Vec::new();
        for (name, &addr) in &self.alive {
            write_line(&mut lines, &SnapshotRecord::Alive { name: name.clone(), addr });
        }
        for (name, &addr) in &self.failed {
            write_line(&mut lines, &SnapshotRecord::Failed { name: name.clone(), addr });
        }
        for record in [
            SnapshotRecord::Clock(LamportTime(self.clock)),
            SnapshotRecord::EventClock(LamportTime(self.event_clock)),
            SnapshotRecord::QueryClock(LamportTime(self.query_clock)),
        ] {
            write_line(&mut lines, &record);
        }
        if left {
            write_line(&mut lines, &SnapshotRecord::Leave);
        }
        if !self.lags {
            lines.extend_from_slice(END_LINE);
        }
        lines
    }

    fn came(&mut self, name: String, addr: SocketAddr) {
        self.failed.remove(&name);
        self.alive.insert(name, addr);
    }

    fn left(&mut self, name: &str) {
        self.failed.remove(name);
        self.alive.remove(name);
    }

    /// Applies one line. `None` if it can't be read. Files in which clocks fall exist: the highest time counts, or events
    /// that were handled would be handled again.
    fn read_line(&mut self, line: &str) -> Option<()> {
        if let Some(failed) = line.strip_prefix(FAILED) {
            // A comment to Serf, so there is no remark if it can't be read.
            if let Some((name, addr)) = failed.rsplit_once(' ')
                && let Ok(addr) = addr.parse()
            {
                self.left(name);
                self.failed.insert(name.to_owned(), addr);
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
                self.came(name.to_owned(), addr.parse().ok()?);
            }
            "not-alive" => self.left(rest),
            "clock" => self.clock = self.clock.max(time(rest)?),
            "event-clock" => self.event_clock = self.event_clock.max(time(rest)?),
            "query-clock" => self.query_clock = self.query_clock.max(time(rest)?),
            // Older versions of Serf wrote it; no version reads it.
            "coordinate" => {}
            _ => return None,
        }
        Some(())
    }
}

/// A Lamport time that a clock takes.
fn time(text: &str) -> Option<u64> {
    text.parse().ok().filter(|&time| time < u64::MAX / 2)
}

/// The line that precedes a whole content.
pub(super) fn content_line(lines: &[u8]) -> Vec<u8> {
    format!("{CONTENT}{} {:08x}\n", lines.len(), crc32fast::hash(lines)).into_bytes()
}

/// Whether a line precedes a whole content, and that is complete.
fn is_content(line: &str, rest: &[u8]) -> bool {
    let Some((len, crc)) = line.strip_prefix(CONTENT).and_then(|line| line.split_once(' ')) else {
        return false;
    };
    let lines = len.parse().ok().and_then(|len: usize| rest.get(..len));
    lines.is_some_and(|lines| Ok(crc32fast::hash(lines)) == u32::from_str_radix(crc, 16))
}

/// Appends the line or lines of a record.
pub(super) fn write_line(out: &mut Vec<u8>, record: &SnapshotRecord) {
    match record {
        SnapshotRecord::Alive { name, addr } => writeln!(out, "alive: {name} {addr}"),
        SnapshotRecord::NotAlive { name } => writeln!(out, "not-alive: {name}"),
        SnapshotRecord::Failed { name, addr } => {
            writeln!(out, "not-alive: {name}\n{FAILED}{name} {addr}")
        }
        SnapshotRecord::Clock(time) => writeln!(out, "clock: {}", time.0),
        SnapshotRecord::EventClock(time) => writeln!(out, "event-clock: {}", time.0),
        SnapshotRecord::QueryClock(time) => writeln!(out, "query-clock: {}", time.0),
        SnapshotRecord::Settled => Ok(()),
        SnapshotRecord::Leave => writeln!(out, "leave"),
    }
    .expect("a Vec takes all bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Content {
        Content::read(text.as_bytes(), false).0
    }

    #[test]
    fn a_file_in_which_clocks_fall_heals() {
        let max = u64::MAX;
        let text = format!(
            "clock: 9\nevent-clock: 7\nevent-clock: {max}\nevent-clock: 5\nquery-clock: 3\nquery-clock: 2\nclock: 8\n"
        );
        let content = read(&text);
        assert_eq!((content.clock, content.event_clock, content.query_clock), (9, 7, 3));
        let after_a_leave = read("event-clock: 7\nleave\nevent-clock: 5\n");
        assert_eq!(after_a_leave.event_clock, 5, "what stands before a leave does not count");
    }

    #[test]
    fn what_precedes_a_whole_content_does_not_count_unless_the_content_is_cut() {
        let lines = b"alive: b 127.0.0.1:1\nclock: 5\n";
        let whole = [b"alive: a 127.0.0.1:1\nwhat\n", &content_line(lines)[..], lines].concat();
        let (content, notices) = Content::read(&whole, false);
        assert_eq!(
            (content.alive.keys().map(|name| &**name).collect::<Vec<_>>(), notices.len()),
            (vec!["b"], 0)
        );
        // The lines of one that is cut are lines like others.
        let (content, _) = Content::read(&whole[..whole.len() - 9], false);
        assert_eq!(content.alive.keys().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn lines_behind_a_hole_of_zeros_are_read() {
        let (content, notices) = Content::read(b"\0\0\0\0alive: a 127.0.0.1:1\nclock: 5\n", false);
        assert_eq!((content.members(), content.clock, notices.len()), (1, 5, 0));
    }
}
