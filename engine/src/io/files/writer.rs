//! The thread that rewrites and syncs snapshot files, one per process, so that no ack waits for a disk. On Linux it uses
//! a ring of its own (tokio-uring's runtime); on other systems, and where the kernel refuses the ring, ordinary calls.
//! tokio-uring 0.5 does not compile for musl, so binaries for musl use ordinary calls too.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::beside::Beside;

/// Capacity of the queue, works. Each journal has one under way, and at most two more when it ends.
const DEPTH: usize = 1024;
/// Entries of the ring. Files are written one after the other.
#[cfg(all(target_os = "linux", not(target_env = "musl")))]
const RING_ENTRIES: u32 = 4;
/// Mode of a new snapshot: Serf's.
const MODE: u32 = 0o644;

/// Sends works to the thread.
#[derive(Clone, Debug)]
pub(super) struct Writer(mpsc::Sender<Work>);

/// The outcome of a work.
pub(super) type Outcome<T> = oneshot::Receiver<io::Result<T>>;

#[derive(Debug)]
enum Work {
    /// Write a file beside another one.
    Fill { target: PathBuf, bytes: Vec<u8>, done: oneshot::Sender<io::Result<Beside>> },
    /// Rename such a file over the other one.
    Put { beside: Beside, done: oneshot::Sender<io::Result<()>> },
    /// Write these bytes over the beginning of a file.
    Overwrite { file: File, bytes: Vec<u8>, done: oneshot::Sender<io::Result<File>> },
    /// Sync files.
    Sync { files: Vec<File>, done: oneshot::Sender<io::Result<()>> },
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

    /// Writes a file that is to replace `target`, and syncs it. It is locked if the system can do that.
    ///
    /// # Errors
    /// The queue is full because the disk is too slow. Nothing is written. The same holds for the other works.
    pub(super) fn fill(&self, target: PathBuf, bytes: Vec<u8>) -> io::Result<Outcome<Beside>> {
        self.send(|done| Work::Fill { target, bytes, done })
    }

    /// Renames a file over the one that it replaces.
    pub(super) fn put(&self, beside: Beside) -> io::Result<Outcome<()>> {
        self.send(|done| Work::Put { beside, done })
    }

    /// Overwrites the beginning of a file, which is not open for appending, and syncs it. Gives it back.
    pub(super) fn overwrite(&self, file: File, bytes: Vec<u8>) -> io::Result<Outcome<File>> {
        self.send(|done| Work::Overwrite { file, bytes, done })
    }

    /// Syncs files, after all works sent before.
    pub(super) fn sync(&self, files: Vec<File>) -> io::Result<Outcome<()>> {
        self.send(|done| Work::Sync { files, done })
    }

    fn send<T>(&self, work: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Work) -> io::Result<Outcome<T>> {
        let (done, outcome) = oneshot::channel();
        self.0.try_send(work(done)).map_err(|_| io::Error::other("too many files wait for the disk"))?;
        Ok(outcome)
    }
}

/// Serves until the process ends. Whoever waits for an outcome may have gone; a file that was filled is removed then.
fn run(mut works: mpsc::Receiver<Work>) {
    #[cfg(all(target_os = "linux", not(target_env = "musl")))]
    if let Ok(runtime) = tokio_uring::Runtime::new(tokio_uring::builder().entries(RING_ENTRIES)) {
        return runtime.block_on(async {
            while let Some(work) = works.recv().await {
                match work {
                    Work::Fill { target, bytes, done } => {
                        drop(done.send(ring::fill(target, bytes).await));
                    }
                    Work::Overwrite { file, bytes, done } => {
                        drop(done.send(ring::write(&file, bytes).await.map(|()| file)));
                    }
                    other => serve(other),
                }
            }
        });
    }
    while let Some(work) = works.blocking_recv() {
        serve(work);
    }
}

/// Does a work with ordinary calls.
fn serve(work: Work) {
    match work {
        Work::Fill { target, bytes, done } => drop(done.send(fill(target, &bytes))),
        Work::Put { beside, done } => drop(done.send(beside.put())),
        Work::Overwrite { mut file, bytes, done } => {
            let written = file
                .seek(SeekFrom::Start(0))
                .and_then(|_| file.write_all(&bytes))
                .and_then(|()| file.sync_data());
            drop(done.send(written.map(|()| file)));
        }
        Work::Sync { files, done } => {
            drop(done.send(files.iter().try_for_each(File::sync_data)));
        }
    }
}

fn create(target: PathBuf) -> io::Result<Beside> {
    let beside = Beside::create(&target, MODE)?;
    // Nobody else has this file, so what fails here is a system without locks.
    let _ = beside.file.try_lock();
    Ok(beside)
}

fn fill(target: PathBuf, bytes: &[u8]) -> io::Result<Beside> {
    let mut beside = create(target)?;
    beside.file.write_all(bytes)?;
    beside.file.sync_data()?;
    Ok(beside)
}

/// The same through the ring.
#[cfg(all(target_os = "linux", not(target_env = "musl")))]
mod ring {
    use std::path::PathBuf;

    use super::{Beside, create, io};
    use tokio_uring::fs::File;

    pub(super) async fn fill(target: PathBuf, bytes: Vec<u8>) -> io::Result<Beside> {
        let beside = create(target)?;
        write(&beside.file, bytes).await?;
        Ok(beside)
    }

    /// Writes from the file's beginning on, and syncs it.
    pub(super) async fn write(file: &std::fs::File, bytes: Vec<u8>) -> io::Result<()> {
        let file = File::from_std(file.try_clone()?);
        let (mut outcome, _) = file.write_all_at(bytes, 0).await;
        if outcome.is_ok() {
            outcome = file.sync_data().await;
        }
        file.close().await?;
        outcome
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A file is filled beside another one, replaces it, is overwritten and synced, by whichever way.
    fn tried(send: impl Fn(Work)) {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("log");
        std::fs::write(&target, "old").unwrap();
        let text = || std::fs::read_to_string(&target).unwrap();

        let (done, outcome) = oneshot::channel();
        send(Work::Fill { target: target.clone(), bytes: b"new content".to_vec(), done });
        let beside = outcome.blocking_recv().unwrap().unwrap();
        assert_eq!(text(), "old");
        let (done, outcome) = oneshot::channel();
        send(Work::Put { beside, done });
        outcome.blocking_recv().unwrap().unwrap();
        assert_eq!(text(), "new content");

        let file = std::fs::OpenOptions::new().write(true).open(&target).unwrap();
        let (done, outcome) = oneshot::channel();
        send(Work::Overwrite { file, bytes: b"NEW".to_vec(), done });
        let file = outcome.blocking_recv().unwrap().unwrap();
        assert_eq!(text(), "NEW content");
        let (done, outcome) = oneshot::channel();
        send(Work::Sync { files: vec![file], done });
        outcome.blocking_recv().unwrap().unwrap();

        // A file that nobody takes is removed.
        let (done, outcome) = oneshot::channel();
        send(Work::Fill { target: target.clone(), bytes: b"lost".to_vec(), done });
        drop(outcome.blocking_recv().unwrap().unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let (done, outcome) = oneshot::channel();
        send(Work::Fill { target: dir.path().join("no/log"), bytes: Vec::new(), done });
        assert_eq!(outcome.blocking_recv().unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn ordinary_calls_and_the_thread_do_the_same() {
        tried(serve);
        let writer = Writer::get().unwrap();
        tried(|work| writer.0.try_send(work).unwrap());
    }
}
