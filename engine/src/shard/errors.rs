//! Why a node could not be started and why a request failed.

use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::command::CommandError;
use crate::config::ConfigError;
use crate::io::bind::BindError;

/// Why a node could not be started. No node runs then and no socket stays bound.
#[derive(Debug, Error)]
pub enum StartError {
    /// A setting is out of range. The snapshot file may have been created.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address can't be bound. No file was touched, unless the system refuses the sockets after binding.
    #[error("Failed to bind {addr} ({what}): {error}")]
    Bind {
        /// `TCP`, `UDP`, or `shared`: another node of the engine has this address of the shared port.
        what: &'static str,
        /// Which address.
        addr: SocketAddr,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The snapshot file can't be opened or read, or is no snapshot. Its content is unchanged.
    #[error("Failed to open snapshot {}: {error}", path.display())]
    Snapshot {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The engine's thread or its runtime can't be started.
    #[error("Failed to start the engine: {0}")]
    Engine(std::io::Error),
    /// No address to join through answered. The node was started and has ended.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The engine has stopped, or its mailbox is full.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApiError {
    /// The node refused it. Nothing has changed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The shard's mailbox is full, 1,024 requests wait. Nothing has changed.
    #[error("the engine's mailbox is full, nothing was done, try again later")]
    Busy,
    /// The node or its engine has stopped. If it stopped during the call, the request may have been carried out.
    #[error("the node has stopped")]
    Stopped,
    /// The broadcast of new tags or a new meta was not sent within the broadcast timeout. The node has changed
    /// them, and the broadcast stays queued.
    #[error("timeout waiting for update broadcast")]
    TagsTimeout,
    /// The broadcast of a force-leave was not sent within the broadcast timeout. The node has changed the
    /// member's status, and the broadcast stays queued.
    #[error("timed out broadcasting node removal")]
    RemovalTimeout,
}

/// No address to join through answered. The member list is unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinError {
    /// One line for each address or entry: why it failed.
    pub errors: Vec<String>,
}

impl std::fmt::Display for JoinError {
    /// Serf's layout, which scripts match.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.errors.len() {
            1 => write!(f, "1 error occurred:")?,
            n => write!(f, "{n} errors occurred:")?,
        }
        self.errors.iter().try_for_each(|error| write!(f, "\n\t* {error}"))?;
        write!(f, "\n\n")
    }
}

impl std::error::Error for JoinError {}

impl From<BindError> for StartError {
    fn from(BindError { protocol, addr, error }: BindError) -> StartError {
        StartError::Bind { what: protocol, addr, error }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn join_errors_have_serfs_layout() {
        let one = JoinError { errors: vec!["a".to_owned()] };
        assert_eq!(one.to_string(), "1 error occurred:\n\t* a\n\n");
        let two = JoinError { errors: vec!["a".to_owned(), "b".to_owned()] };
        assert_eq!(two.to_string(), "2 errors occurred:\n\t* a\n\t* b\n\n");
    }
}
