//! The files that a node keeps: its snapshot and its keyring.

pub mod beside;
mod content;
pub(crate) mod journal;
pub mod keyring;
mod writer;

/// What a node starts from after a snapshot file of these bytes, and the lines of its rewrite.
#[cfg(feature = "sim")]
pub(crate) fn snapshot_content(bytes: &[u8], rejoin_after_leave: bool) -> (crate::config::Restored, Vec<u8>) {
    let (content, _) = content::Content::read(bytes, rejoin_after_leave);
    (content.restored(), content.lines(false))
}
