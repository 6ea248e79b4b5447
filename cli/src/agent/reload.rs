//! SIGHUP reads the configuration again; SIGUSR1 writes the numbers to stderr.

use time::OffsetDateTime;
use tokio::task::spawn_local;

use super::banner::heading;
use super::config;
use super::level::Level;
use super::printer::STDERR;
use super::running::Agent;
use crate::command::Failure;

/// Settings that a reload applies; the others take effect at the next start.
const RELOADABLE: [&str; 10] = [
    "log_level",
    "event_handlers",
    "tags",
    "role",
    "leave_on_terminate",
    "skip_leave_on_interrupt",
    "tls_cert_file",
    "tls_key_file",
    "tls_ca_file",
    "tls_verify_clients",
];

impl Agent {
    /// Reads flags and files again and applies what can be applied, as Serf does: a file that can't be decoded or a
    /// wrong event handler changes nothing; a wrong log level keeps the old one and the rest is applied.
    pub(super) fn reload(&mut self) {
        heading("Reloading configuration...");
        let reloaded = match config::read_again(&self.arguments) {
            Ok(reloaded) => reloaded,
            Err(failure) => {
                if let Failure::Message(text) = failure {
                    heading(text);
                }
                return heading("Failed to reload configs");
            }
        };
        reloaded.warnings.iter().for_each(heading);
        let log = &self.backend.log;
        match reloaded.log_level {
            Ok(level) => log.set_level(level),
            Err(error) => heading(error),
        }
        self.handlers.replace(reloaded.handlers);
        if let (Some(current), Ok(Some(tls))) = (&self.tls, &reloaded.tls) {
            let gossip = self.gossip_tls.as_deref();
            let loaded = tls.load().and_then(|loaded| {
                gossip.map_or(Ok(()), |gossip| tls.reload_gossip(gossip)).map(|()| loaded)
            });
            match loaded {
                Ok(loaded) => current.store(loaded),
                Err(error) => {
                    log.add(Level::Err, "agent", format_args!("{error}; the files read before stay in use"));
                }
            }
        }

        // A tags file holds the current tags, and the configuration has none.
        let tags_from_file = self.backend.tags_file.is_some() || !reloaded.settings.tags_file.is_empty();
        let mut waiting = self.started_with.differences(&reloaded.settings);
        waiting.retain(|name| {
            !RELOADABLE.contains(&name.as_str())
                || (tags_from_file && matches!(name.as_str(), "tags" | "role"))
        });
        if !waiting.is_empty() {
            let text = format!("Changed, but applied at the next start only: {}", waiting.join(", "));
            log.add(Level::Warn, "agent", text);
        }
        if let Err(error) = reloaded.next_start {
            log.add(Level::Warn, "agent", format!("The next start would fail: {error}"));
        }
        log.add(Level::Info, "agent", "Configuration reloaded");
        if !tags_from_file && *self.backend.identity.tags.borrow() != reloaded.tags {
            let (backend, tags) = (self.backend.clone(), reloaded.tags);
            // The broadcast of the tags may take seconds, in which the agent handles further signals.
            spawn_local(async move {
                if let Err(error) = backend.replace_tags(tags).await {
                    heading(format_args!("Failed to update tags: {error}"));
                }
            });
        }
        self.config.settings = reloaded.settings;
    }

    /// Writes the numbers of `info` to stderr, in the form of Serf's metrics.
    pub(super) async fn dump(&self) {
        let Ok(numbers) = self.backend.numbers().await else { return };
        let now = OffsetDateTime::now_utc();
        let stamp =
            format!("{} {:02}:{:02}:{:02} +0000 UTC", now.date(), now.hour(), now.minute(), now.second());
        let line = |(section, name, count): (_, _, u64)| {
            format!("[{stamp}][G] 'serf-agent.{section}.{name}': {:.3}\n", count as f64)
        };
        STDERR.print(&numbers.counts().map(line).collect::<String>());
    }
}
