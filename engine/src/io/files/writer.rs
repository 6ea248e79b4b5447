//! The thread that writes snapshot files, one per process, so that no ack waits for a disk. On Linux it uses a ring
//! of its own (tokio-uring's runtime); on other systems, and where the kernel refuses the ring, ordinary calls.
//! tokio-uring 0.5 does not compile for musl, so binaries for musl use ordinary calls too.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

/// Capacity of the queue, changes. Each journal has one under way, and at most two more when it ends.
const DEPTH: usize = 1024;
/// Entries of the ring. Changes are made one after the other.
#[cfg(all(target_os = "linux", not(target_env = "musl")))]
const RING_ENTRIES: u32 = 4;

/// Sends changes to the thread.
#[derive(Clone, Debug)]
pub(super) struct Writer(mpsc::Sender<Work>);

/// A file that is written by appending and by replacing it as a whole.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    file: File,
    bytes: u64,
    /// A write failed: the file's content is unknown, so nothing is appended until it is replaced.
    broken: bool,
}

/// A change of a file.
#[derive(Debug)]
pub(super) enum Change {
    /// Add these bytes.
    Append(Vec<u8>),
    /// Replace the whole content by these, atomically and synced.
    Replace(Vec<u8>),
}

#[derive(Debug)]
struct Work {
    file: Arc<LogFile>,
    change: Change,
    /// Sync the file before the outcome is reported.
    sync: bool,
    done: oneshot::Sender<io::Result<()>>,
}

impl Writer {
    /// The process's writer, started on first use.
    ///
    /// # Errors
    /// The system refuses the thread.
    pub(super) fn get() -> io::Result<Writer> {
        static WRITER: Mutex<Option<Writer>> = Mutex::new(None);
        let mut writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = &*writer {
            return Ok(writer.clone());
        }
        let (works_in, works) = mpsc::channel(DEPTH);
        std::thread::Builder::new().name("thane-writer".to_owned()).spawn(move || run(works))?;
        Ok(writer.insert(Writer(works_in)).clone())
    }

    /// Queues a change of a file, after all changes queued before. The returned receiver resolves with the outcome.
    ///
    /// # Errors
    /// The queue is full because the disk is too slow. The file is unchanged.
    pub(super) fn change(
        &self,
        file: &Arc<LogFile>,
        change: Change,
        sync: bool,
    ) -> io::Result<oneshot::Receiver<io::Result<()>>> {
        let (done, outcome) = oneshot::channel();
        let work = Work { file: Arc::clone(file), change, sync, done };
        self.0.try_send(work).map_err(|_| io::Error::other("too many files wait for the disk"))?;
        Ok(outcome)
    }
}

impl LogFile {
    /// A file with `bytes` bytes of content; later ones are overwritten.
    pub(super) fn new(path: &Path, file: File, bytes: u64) -> LogFile {
        LogFile { path: path.to_owned(), written: Mutex::new(Written { file, bytes, broken: false }) }
    }

    fn beside(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".compact");
        PathBuf::from(name)
    }

    /// Creates a replacement beside the file.
    fn create(&self) -> io::Result<Written> {
        Ok(Written { file: File::create(self.beside())?, bytes: 0, broken: false })
    }

    /// Renames a replacement over the file.
    fn put(&self, replacement: Written) -> io::Result<()> {
        std::fs::rename(self.beside(), &self.path)?;
        self.with(|written| *written = replacement);
        Ok(())
    }

    fn with<T>(&self, look: impl FnOnce(&mut Written) -> T) -> T {
        look(&mut self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The file and the offset of its next byte.
    fn end(&self) -> io::Result<(File, u64)> {
        self.with(|written| match written.broken {
            true => Err(io::Error::other("an earlier write failed")),
            false => Ok((written.file.try_clone()?, written.bytes)),
        })
    }

    fn note(&self, outcome: &io::Result<u64>) {
        self.with(|written| match outcome {
            Ok(bytes) => written.bytes += bytes,
            Err(_) => written.broken = true,
        });
    }

    #[cfg(test)]
    pub(super) fn break_it(&self) {
        // A descriptor that can't be written stands for a disk that fails.
        let file = File::open(&self.path).expect("it is there");
        self.with(|written| written.file = file);
    }
}

/// Serves until the process ends.
fn run(mut works: mpsc::Receiver<Work>) {
    #[cfg(all(target_os = "linux", not(target_env = "musl")))]
    if let Ok(runtime) = tokio_uring::Runtime::new(tokio_uring::builder().entries(RING_ENTRIES)) {
        return runtime.block_on(async {
            while let Some(Work { file, change, sync, done }) = works.recv().await {
                // The receiver may have been dropped.
                let _ = done.send(ring::change(&file, change, sync).await);
            }
        });
    }
    while let Some(Work { file, change, sync, done }) = works.blocking_recv() {
        let _ = done.send(plain_change(&file, change, sync));
    }
}

fn plain_change(log: &LogFile, change: Change, sync: bool) -> io::Result<()> {
    match change {
        Change::Append(bytes) => {
            let (file, at) = log.end()?;
            let outcome = plain_append(&file, at, &bytes, sync);
            log.note(&outcome);
            outcome.map(drop)
        }
        Change::Replace(bytes) => {
            let mut replacement = log.create()?;
            replacement.bytes = plain_append(&replacement.file, 0, &bytes, true)?;
            log.put(replacement)
        }
    }
}

fn plain_append(mut file: &File, at: u64, bytes: &[u8], sync: bool) -> io::Result<u64> {
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)?;
    if sync {
        file.sync_data()?;
    }
    Ok(bytes.len() as u64)
}

/// The same changes through the ring.
#[cfg(all(target_os = "linux", not(target_env = "musl")))]
mod ring {
    use super::{Change, LogFile, io};
    use tokio_uring::fs::File;

    pub(super) async fn change(log: &LogFile, change: Change, sync: bool) -> io::Result<()> {
        match change {
            Change::Append(bytes) => {
                let (file, at) = log.end()?;
                let outcome = append(file, at, bytes, sync).await;
                log.note(&outcome);
                outcome.map(drop)
            }
            Change::Replace(bytes) => {
                let mut replacement = log.create()?;
                replacement.bytes = append(replacement.file.try_clone()?, 0, bytes, true).await?;
                log.put(replacement)
            }
        }
    }

    async fn append(file: std::fs::File, at: u64, bytes: Vec<u8>, sync: bool) -> io::Result<u64> {
        let (file, len) = (File::from_std(file), bytes.len() as u64);
        let (mut outcome, _) = file.write_all_at(bytes, at).await;
        if sync && outcome.is_ok() {
            outcome = file.sync_data().await;
        }
        file.close().await?;
        outcome.map(|()| len)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn work(file: &Arc<LogFile>, change: Change) -> (Work, oneshot::Receiver<io::Result<()>>) {
        let (done, outcome) = oneshot::channel();
        (Work { file: Arc::clone(file), change, sync: true, done }, outcome)
    }

    fn log(dir: &Path) -> Arc<LogFile> {
        let path = dir.join("log");
        Arc::new(LogFile::new(&path, File::create(&path).unwrap(), 0))
    }

    /// What becomes of a file that is appended to, breaks, is replaced and appended to again.
    fn tried(file: &Arc<LogFile>, mut change: impl FnMut(Change) -> io::Result<()>) {
        let append = |text: &str| Change::Append(text.into());
        change(append("one ")).unwrap();
        change(append("two ")).unwrap();
        assert_eq!(std::fs::read(&file.path).unwrap(), b"one two ");
        file.break_it();
        change(append("lost")).unwrap_err();
        assert_eq!(change(append("lost too")).unwrap_err().to_string(), "an earlier write failed");
        change(Change::Replace("new ".into())).unwrap();
        change(append("three")).unwrap();
        assert_eq!(std::fs::read(&file.path).unwrap(), b"new three");
        assert!(!file.beside().exists());
    }

    #[test]
    fn ordinary_calls_and_the_thread_do_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let file = log(dir.path());
        tried(&file, |change| plain_change(&file, change, true));
        let (dir, writer) = (tempfile::tempdir().unwrap(), Writer::get().unwrap());
        let file = log(dir.path());
        tried(&file, |change| writer.change(&file, change, false).unwrap().blocking_recv().unwrap());
    }

    #[test]
    fn changes_are_made_in_order_by_whichever_way() {
        let dir = tempfile::tempdir().unwrap();
        let file = log(dir.path());
        let (works_in, works) = mpsc::channel(DEPTH);
        let outcomes: Vec<_> = (0..100)
            .map(|n| {
                let (work, outcome) = work(&file, Change::Append(format!("{n} ").into()));
                works_in.try_send(work).unwrap();
                outcome
            })
            .collect();
        drop(works_in);
        run(works);
        outcomes.into_iter().for_each(|outcome| outcome.blocking_recv().unwrap().unwrap());
        let expected: String = (0..100).map(|n| format!("{n} ")).collect();
        assert_eq!(std::fs::read_to_string(&file.path).unwrap(), expected);
    }
}
