//! The two programs that are compared.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

#[path = "../../../cli/tests/common/oracle.rs"]
mod oracle;

/// Whose program runs an agent or a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Serf,
    Thane,
}

impl Kind {
    pub(super) const BOTH: [Kind; 2] = [Kind::Serf, Kind::Thane];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Serf => "serf",
            Kind::Thane => "thane",
        }
    }
}

/// Where both are.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    serf: PathBuf,
    thane: PathBuf,
}

impl Programs {
    /// Serf is the one in PATH, else Debian's package; Thane is the given one, else the one beside this program.
    ///
    /// # Errors
    /// One of them is not to be had.
    pub(super) fn find(thane: Option<&Path>) -> Result<Programs, Failure> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let serf = oracle::find_serf(&path).map_err(|why| Failure::new(format!("no real Serf: {why}")))?;
        Ok(Programs { serf, thane: built_thane(thane)? })
    }

    pub(super) fn of(&self, kind: Kind) -> &Path {
        match kind {
            Kind::Serf => &self.serf,
            Kind::Thane => &self.thane,
        }
    }
}

/// The given binary, else the one that the same build made.
///
/// # Errors
/// There is none.
pub(crate) fn built_thane(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let thane = match given {
        Some(thane) => thane.to_owned(),
        None => {
            let own = std::env::current_exe()
                .map_err(|error| Failure::new(format!("where this program is: {error}")))?;
            own.with_file_name("thane")
        }
    };
    if !thane.is_file() {
        let hint = "build it (`cargo build -p thane`, in the same profile) or give --thane FILE";
        return Err(Failure::new(format!("{} does not exist: {hint}", thane.display())));
    }
    std::path::absolute(&thane).map_err(|error| Failure::file(&thane, &error))
}
