//! The node's own name and tags, and the file that keeps the tags.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thane_engine::io::files::beside::{read_document, replace};

use crate::json;

/// Longest tags file that is read, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The node's own name and tags, which scripts see as SERF_SELF_NAME, SERF_SELF_ROLE and SERF_TAG_*.
pub(crate) struct SelfIdentity {
    /// Node name.
    pub(crate) name: String,
    /// The tags now.
    pub(crate) tags: RefCell<BTreeMap<String, String>>,
}

/// Reads the tags file; `None` if there is none.
///
/// # Errors
/// Serf's words, the path and the reason.
pub(crate) fn read_tags(path: &Path) -> Result<Option<BTreeMap<String, String>>, String> {
    let shown = path.display();
    match read(path) {
        Ok(text) => read_document(text.as_bytes()).map(Some).map_err(|error| {
            format!("Failed to decode tags file: {shown}: an object with strings is expected: {error}")
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("Failed to read tags file: {shown}: {error}")),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// Writes the tags file (PROTOCOL 10.3), as [`replace`] does: beside the old one, or in place where that is impossible.
pub(crate) async fn write_tags(path: PathBuf, tags: BTreeMap<String, String>) -> io::Result<()> {
    let write = move || replace(&path, json::to_string(&tags).as_bytes());
    tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
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
    fn tags_file_may_be_missing_but_not_bad() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("tags"), r#"{"a": "b"}"#).unwrap();
        std::fs::write(at("bad"), r#"{"a": 1}"#).unwrap();
        assert_eq!(read_tags(&at("tags")).unwrap().unwrap()["a"], "b");
        assert_eq!(read_tags(&at("missing")).unwrap(), None);
        let bad = read_tags(&at("bad")).unwrap_err();
        let expected = format!(
            "Failed to decode tags file: {}: an object with strings is expected: invalid type: integer `1`, expected a string at line 1 column 7",
            at("bad").display()
        );
        assert_eq!(bad, expected);
        let folder_read = read_tags(folder.path()).unwrap_err();
        let expected =
            format!("Failed to read tags file: {}: Is a directory (os error 21)", folder.path().display());
        assert_eq!(folder_read, expected);
    }
}
