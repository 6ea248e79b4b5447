//! Starting one node on an engine of its own.

use super::{Engine, Handle, NodeOptions, Outlet, StartError};
use crate::io::DriverChoice;

impl NodeOptions {
    /// Starts the node on an engine of its own, which ends with the last [`Handle`].
    ///
    /// # Errors
    /// As for [`Engine::add`], or the system refuses the engine's thread ([`StartError::Engine`]). Nothing keeps
    /// running.
    pub async fn start(self) -> Result<(Handle, Outlet), StartError> {
        Engine::start(DriverChoice::Auto).map_err(StartError::Engine)?.add(self).await
    }
}
