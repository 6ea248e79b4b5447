//! The agent's own joins: once at start, and repeatedly in the background.

use std::rc::Rc;
use std::time::Duration;

use thane_engine::api::{ApiError, JoinError};
use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::backend::Backend;
use super::banner::{detail, heading};
use super::config::Retry;
use super::level::Level;
use super::running::Agent;
use super::signals::Signal;

impl Agent {
    /// Joins through `start_join` before the agent serves.
    ///
    /// # Errors
    /// No address answered, or a signal ended the wait: the line for the user.
    pub(super) async fn join_at_start(&mut self) -> Result<(), String> {
        let settings = &self.config.settings;
        if settings.start_join.is_empty() {
            return Ok(());
        }
        heading(format_args!("Joining cluster...(replay: {})", settings.replay_on_join));
        let signals = &mut self.signals;
        let ended = async {
            loop {
                let signal = signals.next().await;
                if matches!(signal, Signal::Interrupt | Signal::Terminate) {
                    return signal;
                }
            }
        };
        let joined = tokio::select! {
            joined = self.backend.join(&settings.start_join, settings.replay_on_join) => joined,
            signal = ended => return Err(format!("Caught signal: {signal}")),
        };
        let count = match joined {
            Ok(count) => count,
            Err(error) if error.errors.contains(&ApiError::Stopped.to_string()) => {
                let errors = match (&mut self.forwarding).await {
                    Ok(Some(name_taken)) => vec![name_taken],
                    _ => error.errors,
                };
                return Err(JoinError { errors }.to_string());
            }
            Err(error) => return Err(error.to_string()),
        };
        if self.config.retry.addresses.is_empty() {
            self.backend.joined.set(true);
        }
        detail(format_args!("Join completed. Synced with {count} initial agents"));
        Ok(())
    }

    /// Joins through `retry_join` in the background until another member is alive or the retries are used up.
    pub(super) fn join_in_background(&self) {
        let retry = self.config.retry.clone();
        if !retry.addresses.is_empty() {
            let replay = self.config.settings.replay_on_join;
            spawn_local(retry_join(self.backend.clone(), retry, replay, self.gave_up.clone()));
        }
    }
}

async fn retry_join(backend: Rc<Backend>, retry: Retry, replay: bool, gave_up: Rc<Notify>) {
    let log = &backend.log;
    let mut retries = 0;
    loop {
        log.add(Level::Info, "agent", format_args!("Joining cluster...(replay: {replay})"));
        let error = match backend.join(&retry.addresses, replay).await {
            // Serf stops once it has joined itself, and stays alone.
            Ok(_) if is_alone(&backend).await => "only this agent itself answered".to_owned(),
            Ok(count) => {
                backend.joined.set(true);
                let text = format!("Join completed. Synced with {count} initial agents");
                return log.add(Level::Info, "agent", text);
            }
            Err(error) => error.to_string(),
        };
        retries += 1;
        if retry.retries_max.is_some_and(|max| retries > max) {
            log.add(Level::Err, "agent", "maximum retry join attempts made, exiting");
            return gave_up.notify_one();
        }
        let text = format!("Join failed: {}, retrying in {:?}", error.trim_end(), retry.interval);
        log.add(Level::Warn, "agent", text);
        tokio::time::sleep(spread(retry.interval)).await;
    }
}

/// Whether no other member is alive.
async fn is_alone(backend: &Backend) -> bool {
    let stats = backend.handle.stats().await;
    stats.is_ok_and(|stats| stats.members.saturating_sub(stats.failed + stats.left) <= 1)
}

/// `interval` changed by up to a tenth, so that agents that were started together don't join in step.
fn spread(interval: Duration) -> Duration {
    let mut random = [0; 4];
    // Without random bytes the interval is not changed.
    let share = getrandom::fill(&mut random)
        .map_or(0.5, |()| f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX));
    interval.mul_f64(0.9 + 0.2 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_vary_by_a_tenth_in_both_directions() {
        let waits: Vec<Duration> = (0..1000).map(|_| spread(Duration::from_secs(30))).collect();
        let (least, most) = (waits.iter().min(), waits.iter().max());
        assert!(least >= Some(&Duration::from_secs(27)) && most <= Some(&Duration::from_millis(33_001)));
        assert!(most > least);
    }
}
