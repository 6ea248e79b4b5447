//! A shard's thread: its start, and the end of its mailbox, however the thread ends.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::runtime::LocalOptions;

use super::Shard;
use super::mailbox::Mailbox;
use crate::io::Driver;

/// The options of one shard.
#[derive(Debug)]
pub(crate) struct ShardOptions {
    pub(crate) driver: Driver,
    /// The processor that the thread is pinned to. `None`: the system decides.
    pub(crate) processor: Option<usize>,
    /// The listener and the socket that nodes share, if they do.
    pub(crate) shared: Option<(TcpListener, UdpSocket)>,
}

/// Starts a shard's thread and returns once its data plane is open.
///
/// # Errors
/// The system refuses the thread, the runtime or the data plane. The thread has ended or ends at once.
pub(crate) fn spawn(options: ShardOptions, mailbox: Arc<Mailbox>) -> io::Result<()> {
    let (ready_in, ready) = sync_channel(1);
    std::thread::Builder::new().name("thane-shard".to_owned()).spawn(move || {
        // However the thread ends, by a panic of a delegate for example, no caller waits for an answer for ever.
        let _closing = Closing(Arc::clone(&mailbox));
        if let Err(error) = block_on(begin(options, mailbox, ready_in.clone())) {
            let _ = ready_in.try_send(Err(error));
        }
    })?;
    ready.recv().map_err(|_| io::Error::other("the shard's thread ended at once"))?
}

/// Closes the mailbox when the thread ends.
struct Closing(Arc<Mailbox>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Makes the shard, reports that to the starter, and serves.
async fn begin(options: ShardOptions, mailbox: Arc<Mailbox>, ready: SyncSender<io::Result<()>>) {
    #[cfg(target_os = "linux")]
    if let Some(processor) = options.processor {
        // A thread that is not pinned works as well, only slower.
        crate::io::shared::pin(processor);
    }
    match Shard::new(options, mailbox) {
        Ok(shard) => {
            // The starter waits for this, so the channel is open.
            let _ = ready.send(Ok(()));
            shard.run().await;
        }
        Err(error) => drop(ready.send(Err(error))),
    }
}

/// Runs a future on this thread in a runtime of its own. It runs as a task: a task that its own timer or
/// socket wakes costs no system call, which waking the runtime's outermost future does.
fn block_on(future: impl Future<Output = ()> + 'static) -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let ended = runtime.block_on(async { tokio::task::spawn_local(future).await });
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
    Ok(())
}
