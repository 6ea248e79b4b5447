//! The sending side of one connection: a bounded buffer of replies and records in order, which one task writes to the
//! socket.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use thane_engine::ipc::{ResponseHeader, Value};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;

/// Buffered bytes from which on senders wait. A single message may be longer; it is buffered whole.
const WAITING_BYTES_MAX: usize = 256 * 1024;
/// The connection is closed if the socket takes no byte for this time.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// The messages to one client. Share it in an `Rc` between the session, its streams and [`Outbox::run`].
#[derive(Default)]
pub(super) struct Outbox {
    state: RefCell<State>,
    /// Wakes the writing task: there are bytes, or it should finish.
    filled: Notify,
    /// Wakes senders: there is room, or the connection is gone.
    emptied: Notify,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    phase: Phase,
    /// A long reply is being added; other messages wait.
    long: bool,
}

#[derive(Copy, Clone, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// Nothing is added any more; the buffer is still written.
    Finishing,
    /// The connection is gone.
    Ended,
}

/// The connection is gone; nothing can be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Outbox {
    /// Sends a reply or record without body. Waits for room.
    pub(super) async fn send(&self, seq: u64, error: String) -> Result<(), Gone> {
        self.room().await?;
        self.push(|bytes| ResponseHeader { error, seq }.encode(bytes));
        Ok(())
    }

    /// Sends a reply or record with its body. Waits for room.
    pub(super) async fn send_with(&self, seq: u64, error: String, body: &impl Value) -> Result<(), Gone> {
        self.room().await?;
        self.push(|bytes| {
            ResponseHeader { error, seq }.encode(bytes);
            body.encode(bytes);
        });
        Ok(())
    }

    /// Begins a reply whose body is added in parts. Waits for room.
    pub(super) async fn long(&self, seq: u64) -> Result<LongReply<'_>, Gone> {
        self.room().await?;
        self.push(|bytes| ResponseHeader { error: String::new(), seq }.encode(bytes));
        self.state.borrow_mut().long = true;
        Ok(LongReply(self))
    }

    /// Waits until a message may be added.
    pub(super) async fn room(&self) -> Result<(), Gone> {
        self.room_when(|state| !state.long && state.bytes.len() < WAITING_BYTES_MAX).await
    }

    async fn room_when(&self, is_room: impl Fn(&State) -> bool) -> Result<(), Gone> {
        loop {
            let emptied = {
                let state = self.state.borrow();
                if state.phase != Phase::Open {
                    return Err(Gone);
                }
                if is_room(&state) {
                    return Ok(());
                }
                self.emptied.notified()
            };
            emptied.await;
        }
    }

    /// Adds one whole message, or nothing if the connection is gone. Call it right after [`room`](Self::room).
    pub(super) fn push(&self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state.borrow_mut();
        if state.phase == Phase::Open {
            encode(&mut state.bytes);
            self.filled.notify_one();
        }
    }

    /// Accepts no further messages; [`run`](Self::run) ends when the buffer is written.
    pub(super) fn finish(&self) {
        let mut state = self.state.borrow_mut();
        if state.phase == Phase::Open {
            state.phase = Phase::Finishing;
        }
        self.filled.notify_one();
        self.emptied.notify_waiters();
    }

    /// Waits until the connection is gone.
    pub(super) async fn gone(&self) {
        loop {
            let emptied = {
                if self.state.borrow().phase != Phase::Open {
                    return;
                }
                self.emptied.notified()
            };
            emptied.await;
        }
    }

    /// Writes to the socket until [`finish`](Self::finish) or an error, then closes it.
    ///
    /// # Errors
    /// The socket failed, or took no byte for [`STUCK_AFTER`]. The rest of the buffer is lost.
    pub(super) async fn run(&self, mut socket: impl AsyncWrite + Unpin) -> io::Result<()> {
        let outcome = self.write_to(&mut socket).await;
        *self.state.borrow_mut() = State { phase: Phase::Ended, ..State::default() };
        self.emptied.notify_waiters();
        outcome
    }

    async fn write_to(&self, socket: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        loop {
            let (bytes, phase) = {
                let mut state = self.state.borrow_mut();
                (std::mem::take(&mut state.bytes), state.phase)
            };
            if !bytes.is_empty() {
                self.emptied.notify_waiters();
                write_all(socket, &bytes).await?;
            } else if phase == Phase::Open {
                self.filled.notified().await;
            } else {
                // The client may have closed it already.
                let _ = timeout(STUCK_AFTER, socket.shutdown()).await;
                return Ok(());
            }
        }
    }
}

/// A reply that is added in parts. Other messages wait until it is dropped.
pub(super) struct LongReply<'a>(&'a Outbox);

impl LongReply<'_> {
    /// Adds a part. Waits for room.
    pub(super) async fn part(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> Result<(), Gone> {
        self.0.room_when(|state| state.bytes.len() < WAITING_BYTES_MAX).await?;
        self.0.push(encode);
        Ok(())
    }
}

impl Drop for LongReply<'_> {
    fn drop(&mut self) {
        self.0.state.borrow_mut().long = false;
        self.0.emptied.notify_waiters();
    }
}

/// The time limit is per write, not for the whole: a list of all members can be many megabytes.
async fn write_all(socket: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) -> io::Result<()> {
    let stuck = |_| {
        let text = format!("the client read nothing for {}s", STUCK_AFTER.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, text)
    };
    while !bytes.is_empty() {
        let written = timeout(STUCK_AFTER, socket.write(bytes)).await.map_err(stuck)??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
    }
    // TLS may hold back a part.
    timeout(STUCK_AFTER, socket.flush()).await.map_err(stuck)?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::rc::Rc;

    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.16.255.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    fn local<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test)
    }

    #[test]
    fn the_buffer_is_written_before_the_end() {
        local(async {
            let (near, mut far) = pair().await;
            let outbox = Rc::new(Outbox::default());
            outbox.send(7, String::new()).await.unwrap();
            outbox.send(8, "no".to_owned()).await.unwrap();
            outbox.finish();
            assert_eq!(outbox.send(9, String::new()).await, Err(Gone));
            outbox.run(near.into_split().1).await.unwrap();
            let mut received = Vec::new();
            far.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, b"\x82\xa5Error\xa0\xa3Seq\x07\x82\xa5Error\xa2no\xa3Seq\x08");
        });
    }

    #[test]
    fn nothing_comes_between_the_parts_of_a_long_reply() {
        local(async {
            let (near, mut far) = pair().await;
            let outbox = Rc::new(Outbox::default());
            let mut reply = outbox.long(7).await.unwrap();
            let record = {
                let outbox = outbox.clone();
                tokio::task::spawn_local(async move { outbox.send(8, String::new()).await })
            };
            for part in [b"ab", b"cd"] {
                tokio::task::yield_now().await;
                reply.part(|bytes| bytes.extend_from_slice(part)).await.unwrap();
            }
            drop(reply);
            record.await.unwrap().unwrap();
            outbox.finish();
            outbox.run(near.into_split().1).await.unwrap();
            let mut received = Vec::new();
            far.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, b"\x82\xa5Error\xa0\xa3Seq\x07abcd\x82\xa5Error\xa0\xa3Seq\x08");
        });
    }

    #[test]
    fn senders_wait_while_the_client_does_not_read_and_go_on_when_it_does() {
        local(async {
            let (near, mut far) = pair().await;
            let outbox = Rc::new(Outbox::default());
            let writing = {
                let outbox = outbox.clone();
                tokio::task::spawn_local(async move { outbox.run(near.into_split().1).await })
            };
            let sending = {
                let outbox = outbox.clone();
                tokio::task::spawn_local(async move {
                    for _ in 0..200 {
                        outbox.room().await.unwrap();
                        outbox.push(|bytes| bytes.extend_from_slice(&[b'x'; 100_000]));
                    }
                    outbox.finish();
                })
            };
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            assert!(!sending.is_finished(), "20 MB fit nowhere");
            assert!(outbox.state.borrow().bytes.len() < WAITING_BYTES_MAX + 100_000);
            let mut received = Vec::new();
            far.read_to_end(&mut received).await.unwrap();
            assert_eq!(received.len(), 20_000_000);
            sending.await.unwrap();
            writing.await.unwrap().unwrap();
        });
    }

    #[test]
    fn a_stuck_socket_is_closed_and_senders_get_an_error() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let (near, _far) = pair().await;
            let outbox = Rc::new(Outbox::default());
            outbox.push(|bytes| bytes.resize(64 << 20, 0));
            let sender = {
                let outbox = outbox.clone();
                tokio::task::spawn_local(async move {
                    outbox.gone().await;
                    outbox.room().await
                })
            };
            let error = outbox.run(near.into_split().1).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(sender.await.unwrap(), Err(Gone));
        });
    }
}
