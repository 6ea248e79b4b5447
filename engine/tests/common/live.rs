//! What the tests of nodes on real sockets share.

use std::time::Duration;

/// Longest wait for something that must happen. Far above the time it takes; nothing is measured.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test to its end, on this thread.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("it goes on") });
}

/// Waits until that holds.
pub(crate) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    while !holds().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
