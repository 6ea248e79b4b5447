//! Why a node could not be started and why a request failed.

use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::command::CommandError;
use crate::config::ConfigError;
use crate::io::bind::BindError;

/// Why a node could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// A setting is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address can't be bound.
    #[error("Failed to bind {addr} ({what}): {error}")]
    Bind {
        /// `TCP` or `UDP`.
        what: &'static str,
        /// Which address.
        addr: SocketAddr,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The snapshot can't be used.
    #[error("Failed to open snapshot {}: {error}", path.display())]
    Snapshot {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The engine's thread can't be made.
    #[error("Failed to start the engine: {0}")]
    Engine(std::io::Error),
    /// None of the nodes to join through answered. The node has ended.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The engine is gone or its mailbox is full.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApiError {
    /// The node refused it.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The mailbox is full; try again later.
    #[error("the engine is busy, try again later")]
    Busy,
    /// The node or its engine has stopped.
    #[error("the node has stopped")]
    Stopped,
    /// The broadcast of new tags did not go out within the broadcast timeout.
    #[error("timeout waiting for update broadcast")]
    TagsTimeout,
    /// The broadcast of a force-leave did not go out within the broadcast timeout.
    #[error("timed out broadcasting node removal")]
    RemovalTimeout,
}

/// A join through no address at all: one line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinError {
    /// Why each address did not work.
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
