//! SIGHUP reads the configuration again; SIGUSR1 writes the numbers to stderr (FEATURES AGT-10..13).

use std::io::Write;

use time::OffsetDateTime;
use tokio::task::spawn_local;

use super::banner::heading;
use super::config;
use super::level::Level;
use super::running::Agent;
use crate::command::Failure;

/// Settings that a reload applies; the others take effect at the next start.
const RELOADABLE: [&str; 6] =
    ["log_level", "event_handlers", "tags", "role", "leave_on_terminate", "skip_leave_on_interrupt"];

impl Agent {
    /// Reads flags and files again and applies what can be applied. A configuration with a mistake in it
    /// changes nothing.
    pub(super) fn reload(&mut self) {
        heading("Reloading configuration...");
        let config = match config::read_config(&self.arguments) {
            Ok(config) => config,
            Err(failure) => {
                if let Failure::Message(text) = failure {
                    heading(text);
                }
                return heading("Failed to reload configs");
            }
        };
        config.warnings.iter().for_each(heading);
        let log = &self.backend.log;
        log.set_level(config.log_level);
        self.handlers.replace(config.handlers.clone());

        // A tags file holds the current tags, and the configuration has none.
        let tags_from_file = self.backend.tags_file.is_some() || config.tags_file.is_some();
        let mut waiting = self.started_with.differences(&config.settings);
        waiting.retain(|name| {
            !RELOADABLE.contains(&name.as_str())
                || (tags_from_file && matches!(name.as_str(), "tags" | "role"))
        });
        if !waiting.is_empty() {
            let text = format!("Changed, but applied at the next start only: {}", waiting.join(", "));
            log.add(Level::Warn, "agent", text);
        }
        if !tags_from_file && *self.backend.identity.tags.borrow() != config.tags {
            let (backend, tags) = (self.backend.clone(), config.tags.clone());
            // The broadcast may take seconds, and signals must be handled meanwhile.
            spawn_local(async move {
                if let Err(error) = backend.replace_tags(tags).await {
                    heading(format_args!("Failed to update tags: {error}"));
                }
            });
        }
        self.config = config;
    }

    /// Writes the numbers of `info` to stderr, in the form of Serf's metrics.
    pub(super) async fn dump(&self) {
        let Ok(numbers) = self.backend.numbers().await else { return };
        let now = OffsetDateTime::now_utc();
        let stamp =
            format!("{} {:02}:{:02}:{:02} +0000 UTC", now.date(), now.hour(), now.minute(), now.second());
        let mut stderr = std::io::stderr().lock();
        for (section, name, count) in numbers.counts() {
            // A closed stderr must not end the agent.
            let _ = writeln!(stderr, "[{stamp}][G] 'serf-agent.{section}.{name}': {:.3}", count as f64);
        }
    }
}
