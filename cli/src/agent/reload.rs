//! SIGHUP reads the configuration again; SIGUSR1 writes the numbers to stderr (FEATURES AGT-10..13).

use std::io::Write;

use time::OffsetDateTime;
use tokio::task::spawn_local;

use super::banner::heading;
use super::config::{self, Settings};
use super::level::Level;
use super::running::Agent;
use crate::command::Failure;

/// Settings that a reload applies; the others take effect at the next start.
const RELOADABLE: [&str; 6] =
    ["log_level", "event_handlers", "tags", "role", "leave_on_terminate", "skip_leave_on_interrupt"];

impl Agent {
    /// Reads flags and files again and applies what can be applied. A file that can't be decoded or a wrong event
    /// handler changes nothing; a wrong value of another setting leaves that setting as it is.
    pub(super) fn reload(&mut self) {
        heading("Reloading configuration...");
        let reload = match config::read_reload(&self.arguments) {
            Ok(reload) => reload,
            Err(failure) => {
                if let Failure::Message(text) = failure {
                    heading(text);
                }
                return heading("Failed to reload configs");
            }
        };
        reload.warnings.iter().for_each(heading);
        let log = &self.backend.log;
        match &reload.log_level {
            Ok(level) => log.set_level(*level),
            Err(text) => heading(text),
        }
        self.handlers.replace(reload.handlers);
        self.report_waiting(&reload.settings, reload.refusal);

        if !self.keeps_tags_in_file(&reload.settings) && *self.backend.identity.tags.borrow() != reload.tags {
            let (backend, tags) = (self.backend.clone(), reload.tags);
            // The broadcast may take seconds, and signals must be handled meanwhile.
            spawn_local(async move {
                if let Err(error) = backend.replace_tags(tags).await {
                    heading(format_args!("Failed to update tags: {error}"));
                }
            });
        }
        log.add(Level::Info, "agent", "Configuration reloaded");
        self.settings = reload.settings;
    }

    /// Logs the settings that wait for the next start, and why that would fail if it would.
    fn report_waiting(&self, settings: &Settings, refusal: Option<String>) {
        let log = &self.backend.log;
        let mut waiting = self.started_with.differences(settings);
        waiting.retain(|name| {
            let is_tags = matches!(name.as_str(), "tags" | "role");
            !RELOADABLE.contains(&name.as_str()) || (is_tags && self.keeps_tags_in_file(settings))
        });
        if !waiting.is_empty() {
            let text = format!("Changed, but applied at the next start only: {}", waiting.join(", "));
            log.add(Level::Warn, "agent", text);
        }
        if let Some(refusal) = refusal {
            let text = format!("The next start will fail with this configuration: {refusal}");
            log.add(Level::Warn, "agent", text);
        }
    }

    /// Whether a tags file holds the tags; the configuration has none then.
    fn keeps_tags_in_file(&self, settings: &Settings) -> bool {
        self.backend.tags_file.is_some() || !settings.tags_file.is_empty()
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
