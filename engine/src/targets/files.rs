//! Files that a node reads at its start.

use crate::io::files::{keyring as ring, snapshot_content};

/// A snapshot: what was read and written again reads the same.
pub(super) fn journal(data: &[u8]) {
    for rejoin in [false, true] {
        let (restored, lines) = snapshot_content(data, rejoin);
        let (again, _) = snapshot_content(&lines, rejoin);
        assert_eq!(format!("{again:?}"), format!("{restored:?}"));
    }
}

/// A keyring: keys of valid sizes, at least one, or a reason.
pub(super) fn keyring(data: &[u8]) {
    match ring::decode(data, "ring") {
        Ok(keys) => {
            assert!(!keys.is_empty() && keys.iter().all(|key| matches!(key.len(), 16 | 24 | 32)));
        }
        Err(why) => assert!(why.contains("ring"), "{why}"),
    }
}
