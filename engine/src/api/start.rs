//! The short way to one node: an engine of its own.

use super::{Engine, Handle, NodeOptions, Outlet, StartError};
use crate::io::DriverChoice;

impl NodeOptions {
    /// Starts the node on an engine of its own, which ends with the last [`Handle`].
    ///
    /// # Errors
    /// As those of [`Engine::add`]; or the engine's thread can't be made.
    pub async fn start(self) -> Result<(Handle, Outlet), StartError> {
        Engine::start(DriverChoice::Auto).map_err(StartError::Engine)?.add(self).await
    }
}
