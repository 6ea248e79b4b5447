//! What the agent's doors (RPC, signals, start-up) work with: the node, its events, the log, tags, numbers.
//!
//! Each command here logs what Serf's agent logs for it, whoever asked.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use thane_engine::api::{Answers, ApiError, Handle, JoinError};
use thane_engine::command::{CommandError, QueryParams};
use thane_engine::event::Event;
use thane_engine::wire::keyring::BACKEND;
use thiserror::Error;
use tokio::sync::{Mutex, Notify, broadcast};

use super::handlers::SelfIdentity;
use super::log::{Level, Log};
use super::telemetry::Counters;

/// Events that wait for the slowest reader of [`Backend::events`]; it loses the oldest beyond that.
pub(crate) const EVENTS_WAITING_MAX: usize = 512;

/// The running agent, as its doors see it. Lives on the agent's one thread; share it in an `Rc`.
pub(crate) struct Backend {
    /// The node.
    pub(crate) handle: Handle,
    /// The node's events as they come; made with [`EVENTS_WAITING_MAX`].
    pub(crate) events: broadcast::Sender<Arc<Event>>,
    /// The log.
    pub(crate) log: Log,
    /// What is counted for statsd and statsite.
    pub(crate) counters: Counters,
    /// The own name and tags.
    pub(crate) identity: Rc<SelfIdentity>,
    /// The token that RPC clients must show; empty: none.
    pub(crate) auth: String,
    /// Scripts by [`info_key`](super::filter::EventFilter::info_key), as they were at start; for `info`.
    pub(crate) handlers: BTreeMap<String, String>,
    /// The engine's driver and why that one; for `info`.
    pub(crate) driver: (String, String),
    /// Where the tags are kept; `None`: nowhere.
    pub(crate) tags_file: Option<PathBuf>,
    /// Told once when a client asked the agent to leave and it has left: end the process with code 0.
    pub(crate) stop: Notify,
    /// One change of tags at a time.
    pub(crate) tags_turn: Mutex<()>,
}

/// Why tags could not be changed. The texts are Serf's.
#[derive(Debug, Error)]
pub(crate) enum TagsError {
    /// The node refused them, or could not tell others in time.
    #[error(transparent)]
    Node(#[from] ApiError),
    /// The node has them but the file does not.
    #[error("Failed to write tags file: {}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
}

impl Backend {
    /// Joins through each entry; see [`Handle::join`]. No entries are no error.
    ///
    /// # Errors
    /// If no address answered.
    pub(crate) async fn join(&self, entries: &[String], replay: bool) -> Result<usize, JoinError> {
        self.log.add(Level::Info, "agent", format_args!("joining: [{}] replay: {replay}", entries.join(" ")));
        let joined = if entries.is_empty() { Ok(0) } else { self.handle.join(entries, replay).await };
        match &joined {
            Ok(0) => {}
            Ok(count) => self.log.add(Level::Info, "agent", format_args!("joined: {count} nodes")),
            Err(error) => self.log.add(Level::Warn, "agent", format_args!("error joining: {error}")),
        }
        joined
    }

    /// Leaves gracefully. The caller ends the process afterwards.
    ///
    /// # Errors
    /// If it leaves already, or has left.
    pub(crate) async fn leave(&self) -> Result<(), ApiError> {
        self.log.add(Level::Info, "agent", "requesting graceful leave from Serf");
        self.handle.leave().await
    }

    /// Declares a failed member left, or erases it; see [`Handle::force_leave`].
    ///
    /// # Errors
    /// If the broadcast did not go out in time.
    pub(crate) async fn force_leave(&self, node_name: &str, prune: bool) -> Result<(), ApiError> {
        let what = if prune { "Force leaving node (prune)" } else { "Force leaving node" };
        self.log.add(Level::Info, "agent", format_args!("{what}: {node_name}"));
        self.handle.force_leave(node_name, prune).await.inspect_err(|error| {
            self.log.add(Level::Warn, "agent", format_args!("failed to remove node: {error}"));
        })
    }

    /// Sends a user event to everybody.
    ///
    /// # Errors
    /// If it is too long.
    pub(crate) async fn user_event(
        &self,
        name: &str,
        payload: Bytes,
        coalesce: bool,
    ) -> Result<(), ApiError> {
        let shown = String::from_utf8_lossy(&payload);
        self.log.add(
            Level::Debug,
            "agent",
            format_args!("Requesting user event send: {name}. Coalesced: {coalesce}. Payload: {shown:?}"),
        );
        self.handle.user_event(name, payload, coalesce).await.inspect_err(|error| {
            self.log.add(Level::Warn, "agent", format_args!("failed to send user event: {error}"));
        })
    }

    /// Asks everybody.
    ///
    /// # Errors
    /// If it is too long or its name is reserved: Serf's own queries begin with `_serf_`, and only
    /// `_serf_ping` without payload is anybody's.
    pub(crate) async fn query(&self, params: QueryParams) -> Result<Answers, ApiError> {
        if params.name.starts_with("_serf_") && !(params.name == "_serf_ping" && params.payload.is_empty()) {
            return Err(CommandError::ReservedName.into());
        }
        let shown = String::from_utf8_lossy(&params.payload);
        self.log.add(
            Level::Debug,
            "agent",
            format_args!("Requesting query send: {}. Payload: {shown:?}", params.name),
        );
        self.handle.query(params).await.inspect_err(|error| {
            self.log.add(Level::Warn, "agent", format_args!("failed to start user query: {error}"));
        })
    }

    /// Changes the own tags: first `delete`, then `set`. A name in both is set.
    ///
    /// # Errors
    /// If the node refuses them: nothing has changed then. Any other error comes after the change.
    pub(crate) async fn set_tags(
        &self,
        set: BTreeMap<String, String>,
        delete: &[String],
    ) -> Result<(), TagsError> {
        let _turn = self.tags_turn.lock().await;
        let mut tags = self.identity.tags.borrow().clone();
        tags.retain(|name, _| !delete.contains(name));
        tags.extend(set);
        self.apply_tags(tags).await
    }

    /// Replaces the own tags.
    ///
    /// # Errors
    /// As [`set_tags`](Self::set_tags).
    pub(crate) async fn replace_tags(&self, tags: BTreeMap<String, String>) -> Result<(), TagsError> {
        let _turn = self.tags_turn.lock().await;
        self.apply_tags(tags).await
    }

    /// The caller holds the turn.
    async fn apply_tags(&self, tags: BTreeMap<String, String>) -> Result<(), TagsError> {
        // The node's member-update comes before its answer does, and its handlers must see the new tags.
        let before = self.identity.tags.replace(tags.clone());
        let told = self.handle.set_tags(tags.clone()).await;
        if let Err(error) = &told
            && *error != ApiError::TagsTimeout
        {
            self.identity.tags.replace(before);
            return Err(error.clone().into());
        }
        if let Some(path) = self.tags_file.clone() {
            let written = write_tags(path.clone(), tags).await;
            written.map_err(|error| TagsError::File { path, error }).inspect_err(|error| {
                self.log.add(Level::Err, "agent", error);
            })?;
        }
        Ok(told?)
    }

    /// The numbers that `info` shows, by section. Sections `io` and `drops` are ours, the others are Serf's.
    ///
    /// # Errors
    /// If the node has stopped.
    pub(crate) async fn stats(&self) -> Result<BTreeMap<String, BTreeMap<String, String>>, ApiError> {
        let node = self.handle.stats().await?;
        let udp = self.handle.udp_counters().await?;
        let mut serf = section([
            ("members", node.members.to_string()),
            ("failed", node.failed.to_string()),
            ("left", node.left.to_string()),
            ("health_score", node.health_score.to_string()),
            ("member_time", node.member_time.0.to_string()),
            ("event_time", node.event_time.0.to_string()),
            ("query_time", node.query_time.0.to_string()),
            ("intent_queue", node.intent_queue.to_string()),
            ("event_queue", node.event_queue.to_string()),
            ("query_queue", node.query_queue.to_string()),
            ("encrypted", node.encrypted.to_string()),
        ]);
        if let Some(resets) = node.coordinate_resets {
            serf.insert("coordinate_resets".to_owned(), resets.to_string());
        }
        let (received, sent) = node.datagrams;
        let (bytes_received, bytes_sent) = node.datagram_bytes;
        let io = section([
            ("driver", self.driver.0.clone()),
            ("reason", self.driver.1.clone()),
            ("cipher", BACKEND.to_owned()),
            ("datagrams_received", received.to_string()),
            ("datagrams_sent", sent.to_string()),
            ("datagram_bytes_received", bytes_received.to_string()),
            ("datagram_bytes_sent", bytes_sent.to_string()),
            ("datagrams_sent_as_segments", udp.sent_as_segments.to_string()),
            ("datagrams_truncated", udp.truncated.to_string()),
            ("kernel_drops", udp.kernel_drops.to_string()),
            ("receive_errors", udp.receive_errors.to_string()),
            ("send_errors", udp.send_errors.to_string()),
            ("send_buffer_full", udp.send_would_block.to_string()),
        ]);
        let mut drops = section(node.drops.iter().map(|&(reason, count)| (reason, count.to_string())));
        if node.outlet_dropped > 0 {
            drops.insert("outlet".to_owned(), node.outlet_dropped.to_string());
        }
        let sections = [
            ("agent", section([("name", self.identity.name.clone())])),
            ("runtime", runtime()),
            ("serf", serf),
            ("tags", self.identity.tags.borrow().clone()),
            ("event_handlers", self.handlers.clone()),
            ("io", io),
            ("drops", drops),
        ];
        Ok(sections.into_iter().map(|(name, section)| (name.to_owned(), section)).collect())
    }
}

fn section<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Serf's keys with our values. Systems and processors have Go's names, because scripts compare them.
fn runtime() -> BTreeMap<String, String> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        os => os,
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        arch => arch,
    };
    section([
        ("os", os.to_owned()),
        ("arch", arch.to_owned()),
        ("version", format!("thane {}", env!("CARGO_PKG_VERSION"))),
        ("max_procs", cpus.clone()),
        ("goroutines", threads().to_string()),
        ("cpu_count", cpus),
    ])
}

/// Threads of this process.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// Threads of this process can't be counted without a system's own interface; tasks are near to what Serf
/// shows here.
#[cfg(not(target_os = "linux"))]
fn threads() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Writes the tags file (PROTOCOL 10.3) so that it is the old or the new one whatever happens.
async fn write_tags(path: PathBuf, tags: BTreeMap<String, String>) -> std::io::Result<()> {
    let write = move || {
        let json = serde_json::to_string_pretty(&tags).expect("a map of strings is always JSON");
        // Go's encoder escapes these three everywhere; they occur inside strings only.
        let json = json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
        // A link to the file stays a link.
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        let mut temporary = path.clone().into_os_string();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let written = replace(&path, &temporary, json.as_bytes());
        if written.is_err() {
            // What is there is not needed; the first error is the one to tell.
            let _ = std::fs::remove_file(&temporary);
        }
        written
    };
    tokio::task::spawn_blocking(write).await.map_err(std::io::Error::other)?
}

/// Owner-only when new; an existing file keeps its mode.
fn replace(path: &Path, temporary: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Err(error) = std::fs::remove_file(temporary)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(temporary)?;
    file.write_all(bytes)?;
    if let Ok(existing) = std::fs::metadata(path) {
        file.set_permissions(existing.permissions())?;
    }
    file.sync_all()?;
    std::fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write(path: &Path, tags: &[(&str, &str)]) -> std::io::Result<()> {
        let tags = tags.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(write_tags(path.to_owned(), tags))
    }

    #[test]
    fn tags_file_has_serfs_layout() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tags.json");
        write(&path, &[("z", "a<b>&c"), ("foo", "bar")]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\n  \"foo\": \"bar\",\n  \"z\": \"a\\u003cb\\u003e\\u0026c\"\n}");
        write(&path, &[]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}");
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[cfg(unix)]
    #[test]
    fn tags_file_is_private_when_new_and_keeps_its_mode_and_links() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("tags.json"), folder.path().join("link"));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        write(&path, &[("a", "b")]).unwrap();
        assert_eq!(mode(&path), 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write(&link, &[("a", "c")]).unwrap();
        assert_eq!(mode(&path), 0o644);
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"c\""));
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn tags_file_in_a_missing_folder_is_an_error_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write(&folder.path().join("no/tags.json"), &[]).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn runtime_has_serfs_keys() {
        let keys: Vec<String> = runtime().into_keys().collect();
        assert_eq!(keys, ["arch", "cpu_count", "goroutines", "max_procs", "os", "version"]);
        assert!(threads() > 0);
    }
}
