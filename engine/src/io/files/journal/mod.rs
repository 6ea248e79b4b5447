//! The snapshot file: the members that a node knew and its Lamport clocks, so that it rejoins after a restart
//! (PROTOCOL 10.1). Reads and writes Serf's format.
//!
//! Lines are handed to the kernel by the shard's thread, which waits for no disk: those about events and queries before
//! these reach the application, so that none is handled twice however the process ends; others half a second after the
//! first of them. A graceful leave and an orderly end are synced, by the writer's thread. What a power cut takes was
//! written in the last seconds (the kernel's time, 30 s by default).
//!
//! Each write ends with a comment that names Thane ([`END_LINE`]), so that a file which Serf has appended to since is told
//! apart: Serf's clocks lag, and the node that starts from them must know (`serf/earlier.rs`). Until it has made up for
//! that, the file does not end so either.
//!
//! A file that has grown well beyond its content is rewritten. The writer's thread writes the content beside it; lines
//! that are written meanwhile go to the old file and are added to the new one, then to both until the new one is
//! renamed over the old one. Where the folder does not allow that, the file is rewritten in place: the content is
//! appended behind a line that says so ([`content_line`]), copied to the file's beginning, and the rest is cut off.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::oneshot::error::TryRecvError;

use crate::config::Restored;
use crate::event::{Notice, SnapshotRecord};
use crate::io::files::beside::Beside;
use crate::io::files::content::{Content, END_LINE, content_line, write_line};
use crate::io::files::writer::{Outcome, Writer};

/// Longest time that lines about members wait in the buffer.
pub(crate) const FLUSH_AFTER: Duration = Duration::from_millis(500);
/// A file larger than this, and than twice [`MEMBER_BYTES`] per member, is rewritten (Serf's numbers), bytes.
const COMPACT_BYTES_MIN: u64 = 128 * 1024;
const MEMBER_BYTES: u64 = 128;
/// Bytes of lines that wait while the file can't be written. Beyond it the lines are dropped, and the whole content is
/// written later, which says the same.
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// A larger file is refused, bytes. A million members with long names fit.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How often the lock of a file is tried, and how long apart: a process that was killed holds it while it ends.
const LOCK_TRIES: u32 = 20;
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// One node's snapshot file.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    /// Open for appending: somebody else may shorten the file.
    file: File,
    writer: Writer,
    /// Bytes in the file, as far as this process wrote them.
    file_bytes: u64,
    /// The file is rewritten when it is larger.
    compact_at: u64,
    buffer: Vec<u8>,
    /// The content of the file and the buffer.
    content: Content,
    /// This node has left gracefully: only clocks are recorded from then on.
    left: bool,
    /// Lines were dropped: the whole content must be written.
    broken: bool,
    /// A failed write was reported, and none has succeeded since.
    reported: bool,
    /// No file can be renamed over this one.
    in_place: bool,
    rewrite: Rewrite,
}

/// What becomes of a file that has grown.
#[derive(Debug)]
enum Rewrite {
    None,
    /// The content is being written beside the file. `since`: lines that are not in it.
    Filling {
        outcome: Outcome<Beside>,
        since: Vec<u8>,
    },
    /// The new file is being renamed over the old one. Lines go to both.
    Putting {
        outcome: Outcome<()>,
        new: File,
        new_bytes: u64,
    },
    /// The content, which was also appended from `copy_at` on, is being written over the file's beginning.
    Overwriting {
        outcome: Outcome<File>,
        content_bytes: u64,
        copy_at: u64,
        since: Vec<u8>,
    },
}

/// A snapshot file that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) journal: Journal,
    /// The content of the file.
    pub(crate) restored: Restored,
    /// For the log: lines that can't be read and were skipped, a graceful leave that was ignored.
    pub(crate) notices: Vec<Notice>,
}

impl Journal {
    /// Opens or creates a snapshot file, locks it and reads it. Without `rejoin_after_leave`, what precedes a graceful
    /// leave is ignored. An incomplete last line is cut off.
    ///
    /// # Errors
    /// The file can't be opened, read or cut, is larger than 256 MiB, or another process that locks it has it open.
    /// Its lines are unchanged.
    pub(crate) fn open(path: &Path, rejoin_after_leave: bool) -> io::Result<Opened> {
        // A link to the file stays a link.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut file = open_locked(&path)?;
        if file.metadata()?.len() > FILE_BYTES_MAX {
            let text = format!("larger than {} MiB, so it is no snapshot", FILE_BYTES_MAX >> 20);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        // A crash left an incomplete last line; what is appended must not become part of it.
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        if whole < bytes.len() {
            file.set_len(whole as u64)?;
        }
        let (content, notices) = Content::read(&bytes, rejoin_after_leave);
        let restored = content.restored();
        let journal = Journal {
            path,
            file,
            writer: Writer::get()?,
            file_bytes: whole as u64,
            compact_at: COMPACT_BYTES_MIN,
            buffer: Vec::new(),
            content,
            left: false,
            broken: false,
            reported: false,
            in_place: false,
            rewrite: Rewrite::None,
        };
        Ok(Opened { journal, restored, notices })
    }

    /// Adds a line to the buffer. Returns how soon it must leave the buffer.
    pub(crate) fn append(&mut self, record: SnapshotRecord) -> Urgency {
        if self.left && !matches!(record, SnapshotRecord::Clock(_)) {
            return Urgency::Later;
        }
        if let SnapshotRecord::Alive { name, .. }
        | SnapshotRecord::NotAlive { name }
        | SnapshotRecord::Failed { name, .. } = &record
            && name.contains('\n')
        {
            // The format has no escape for it, and a peer must not write lines of its own.
            return Urgency::Later;
        }
        let urgency = match record {
            SnapshotRecord::Leave => Urgency::Sync,
            SnapshotRecord::EventClock(_) | SnapshotRecord::QueryClock(_) | SnapshotRecord::Settled => {
                Urgency::Write
            }
            _ => Urgency::Later,
        };
        self.left |= urgency == Urgency::Sync;
        write_line(&mut self.buffer, &record);
        self.content.apply(record);
        urgency
    }

    /// Hands the buffered lines to the kernel.
    ///
    /// # Errors
    /// The file can't be written; reported once until it can be. The lines wait for the next call.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        let written = self.put();
        match &written {
            Ok(()) => self.reported = false,
            Err(_) if std::mem::replace(&mut self.reported, true) => return Ok(()),
            Err(_) => {}
        }
        written
    }

    /// Hands the buffered lines to the kernel, goes on with a rewrite, and starts one if the file has grown. Returns
    /// true while a rewrite is under way: the caller calls again.
    ///
    /// # Errors
    /// As [`write`](Self::write); or a rewrite failed, which is tried again when the file has doubled.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        self.write()?;
        self.go_on().inspect_err(|_| self.compact_at = 2 * self.file_bytes)?;
        let members = self.content.members() as u64;
        let limit = self.compact_at.max(2 * MEMBER_BYTES * members);
        if matches!(self.rewrite, Rewrite::None) && self.file_bytes > limit && !self.left && !self.reported {
            self.start_rewrite().inspect_err(|_| self.compact_at = 2 * self.file_bytes)?;
        }
        Ok(!matches!(self.rewrite, Rewrite::None))
    }

    /// Hands the buffered lines to the kernel and starts to sync the file. The returned receiver resolves when they are
    /// on disk, or with the reason why they are not.
    ///
    /// # Errors
    /// As [`write`](Self::write), or the writer's queue is full.
    pub(crate) fn sync(&mut self) -> io::Result<Outcome<()>> {
        self.put()?;
        let mut files = vec![self.file.try_clone()?];
        if let Rewrite::Putting { new, .. } = &self.rewrite {
            files.push(new.try_clone()?);
        }
        self.writer.sync(files)
    }

    /// Writes the buffer to the file, and to the new one.
    fn put(&mut self) -> io::Result<()> {
        if self.broken {
            let lines = self.content.lines(self.left);
            self.buffer = [content_line(&lines), lines].concat();
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        if !self.content.lags() && !self.buffer.ends_with(END_LINE) {
            self.buffer.extend_from_slice(END_LINE);
        }
        if let Err(error) = append(&mut self.file, &self.buffer) {
            if self.broken || self.buffer.len() > WAITING_BYTES_MAX {
                (self.buffer, self.broken) = (Vec::new(), true);
            }
            return Err(error);
        }
        self.broken = false;
        self.file_bytes += self.buffer.len() as u64;
        match &mut self.rewrite {
            Rewrite::None => {}
            Rewrite::Filling { since, .. } | Rewrite::Overwriting { since, .. } => {
                since.extend_from_slice(&self.buffer);
            }
            Rewrite::Putting { new, new_bytes, .. } => match append(new, &self.buffer) {
                Ok(()) => *new_bytes += self.buffer.len() as u64,
                Err(_) => self.broken = true,
            },
        }
        self.buffer.clear();
        Ok(())
    }

    fn start_rewrite(&mut self) -> io::Result<()> {
        let lines = self.content.lines(false);
        if !self.in_place {
            let outcome = self.writer.fill(self.path.clone(), lines)?;
            self.rewrite = Rewrite::Filling { outcome, since: Vec::new() };
            return Ok(());
        }
        let (content_bytes, copy_at) = (lines.len() as u64, self.file.metadata()?.len());
        if 2 * content_bytes > copy_at {
            // There would be no room before the copy.
            self.compact_at = 2 * copy_at;
            return Ok(());
        }
        let beginning = OpenOptions::new().write(true).open(&self.path)?;
        if !is_same(&beginning, &self.file) {
            return Err(io::Error::other("another file is in its place"));
        }
        let copy = [content_line(&lines), lines.clone()].concat();
        append(&mut self.file, &copy)?;
        self.file_bytes = copy_at + copy.len() as u64;
        // Nothing is overwritten before the copy is on disk: the writer does its works in order.
        drop(self.writer.sync(vec![self.file.try_clone()?])?);
        let outcome = self.writer.overwrite(beginning, lines)?;
        self.rewrite = Rewrite::Overwriting { outcome, content_bytes, copy_at, since: Vec::new() };
        Ok(())
    }

    /// Takes the next step of a rewrite whose last step is done.
    fn go_on(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.rewrite, Rewrite::None) {
            Rewrite::None => Ok(()),
            Rewrite::Filling { mut outcome, since } => match outcome.try_recv() {
                Err(TryRecvError::Empty) => {
                    self.rewrite = Rewrite::Filling { outcome, since };
                    Ok(())
                }
                Err(TryRecvError::Closed) => Err(io::ErrorKind::BrokenPipe.into()),
                Ok(Err(error)) => self.try_in_place(error),
                Ok(Ok(mut beside)) => {
                    append(&mut beside.file, &since)?;
                    let (new, new_bytes) = (beside.file.try_clone()?, beside.file.metadata()?.len());
                    self.rewrite = Rewrite::Putting { outcome: self.writer.put(beside)?, new, new_bytes };
                    Ok(())
                }
            },
            Rewrite::Putting { mut outcome, new, new_bytes } => match outcome.try_recv() {
                Err(TryRecvError::Empty) => {
                    self.rewrite = Rewrite::Putting { outcome, new, new_bytes };
                    Ok(())
                }
                Err(TryRecvError::Closed) => Err(io::ErrorKind::BrokenPipe.into()),
                Ok(Err(error)) => self.try_in_place(error),
                Ok(Ok(())) => {
                    (self.file, self.file_bytes) = (new, new_bytes);
                    self.compact_at = COMPACT_BYTES_MIN.max(2 * new_bytes);
                    Ok(())
                }
            },
            Rewrite::Overwriting { mut outcome, content_bytes, copy_at, since } => match outcome.try_recv() {
                Err(TryRecvError::Empty) => {
                    self.rewrite = Rewrite::Overwriting { outcome, content_bytes, copy_at, since };
                    Ok(())
                }
                Err(TryRecvError::Closed) => Err(io::ErrorKind::BrokenPipe.into()),
                Ok(Err(error)) => Err(error),
                Ok(Ok(mut beginning)) => {
                    let end = content_bytes + since.len() as u64;
                    if end > copy_at {
                        return Err(io::Error::other("it grew too much while it was rewritten"));
                    }
                    beginning.seek(SeekFrom::Start(content_bytes))?;
                    beginning.write_all(&since)?;
                    self.file.set_len(end)?;
                    self.file_bytes = end;
                    self.compact_at = COMPACT_BYTES_MIN.max(2 * end);
                    Ok(())
                }
            },
        }
    }

    /// No file can be renamed over this one: it is rewritten in place from now on, unless the disk is full.
    fn try_in_place(&mut self, error: io::Error) -> io::Result<()> {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Err(error);
        }
        self.in_place = true;
        self.start_rewrite()
    }
}

/// How soon a line must leave the buffer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// Within [`FLUSH_AFTER`].
    Later,
    /// Before events and queries reach the application.
    Write,
    /// At once, and to the disk.
    Sync,
}

/// Appends bytes, or none of them.
fn append(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let mut left = bytes;
    while !left.is_empty() {
        match file.write(left) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(written) if written > 0 => left = &left[written..],
            outcome => {
                let part = (bytes.len() - left.len()) as u64;
                if part > 0 {
                    // Half a line would swallow the next one.
                    let end = file.metadata()?.len();
                    file.set_len(end.saturating_sub(part))?;
                }
                return Err(outcome.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into()));
            }
        }
    }
    Ok(())
}

/// Opens a file and locks it against other processes of Thane; Serf takes no lock. On a system without locks it is only
/// opened.
fn open_locked(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    for _ in 0..LOCK_TRIES {
        let file = options.open(path)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {}
            Ok(()) if !is_same(&options.open(path)?, &file) => {}
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(file),
        }
        std::thread::sleep(LOCK_RETRY);
    }
    Err(io::Error::new(
        io::ErrorKind::WouldBlock,
        "another agent has it open; each needs a snapshot of its own",
    ))
}

/// Whether both are the same file. One that was rewritten is another one.
#[cfg(unix)]
fn is_same(one: &File, other: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
    id(one) == id(other)
}

#[cfg(not(unix))]
fn is_same(_: &File, _: &File) -> bool {
    true
}

#[cfg(test)]
mod tests;
