//! Configuration files and folders.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::settings::Settings;

/// Longest file that is read, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads files and folders in this order; later ones are merged over earlier ones. A folder means its `*.json` files
/// sorted by name, without those of inner folders.
///
/// Warnings name the file.
///
/// # Errors
/// One line with the file and the mistake in it.
pub(super) fn read_settings(paths: &[PathBuf], warnings: &mut Vec<String>) -> Result<Settings, String> {
    let mut settings = Settings::default();
    for path in paths {
        let files = files_of(path).map_err(|error| format!("Error reading '{}': {error}", path.display()))?;
        for file in files {
            let shown = file.display();
            let bytes = read(&file).map_err(|error| format!("Error reading '{shown}': {error}"))?;
            let mut remarks = Vec::new();
            let read = Settings::decode(&bytes, &mut remarks);
            warnings.extend(remarks.iter().map(|remark| format!("Warning: '{shown}': {remark}")));
            settings.merge(read.map_err(|error| format!("Error decoding '{shown}': {error}"))?);
        }
    }
    Ok(settings)
}

fn files_of(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !std::fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        let is_json = file.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".json"));
        if is_json && !file.is_dir() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn settings(paths: &[PathBuf]) -> Result<Settings, String> {
        let mut warnings = Vec::new();
        let settings = read_settings(paths, &mut warnings);
        assert!(warnings.is_empty(), "{warnings:?}");
        settings
    }

    #[test]
    fn folders_are_read_by_name_and_sources_in_order() {
        let folder = folder(&[
            ("b.json", r#"{"node_name": "b", "start_join": ["2"]}"#),
            ("a.json", r#"{"node_name": "a", "start_join": ["1"], "profile": "wan"}"#),
            ("c.txt", "not read"),
            ("last", r#"{"node_name": "last"}"#),
        ]);
        std::fs::create_dir(folder.path().join("d.json")).unwrap();
        let at = |name: &str| folder.path().join(name);
        let all = settings(&[at(""), at("last")]).unwrap();
        assert_eq!((all.node_name.as_str(), all.profile.as_str()), ("last", "wan"));
        assert_eq!(all.start_join, ["1", "2"]);
        let reversed = settings(&[at("last"), at("")]).unwrap();
        assert_eq!(reversed.node_name, "b");
        assert_eq!(settings(&[]), Ok(Settings::default()));
    }

    #[test]
    fn errors_name_the_file() {
        let folder = folder(&[("a.json", "{}"), ("b.json", r#"{"nope": 1}"#)]);
        let path = folder.path().join("b.json");
        let refused = |path: &Path| settings(&[path.to_owned()]).unwrap_err();
        assert_eq!(
            refused(folder.path()),
            format!("Error decoding '{}': unknown key 'nope'", path.display())
        );
        let missing = folder.path().join("missing");
        let expected =
            format!("Error reading '{}': No such file or directory (os error 2)", missing.display());
        assert_eq!(refused(&missing), expected);
        std::fs::write(&path, vec![b' '; FILE_BYTES_MAX as usize + 1]).unwrap();
        let expected = format!("Error reading '{}': longer than 1048576 bytes", path.display());
        assert_eq!(refused(&path), expected);
    }

    #[test]
    fn warnings_name_the_file() {
        let folder = folder(&[("a.json", "{} more")]);
        let path = folder.path().join("a.json");
        let mut warnings = Vec::new();
        read_settings(std::slice::from_ref(&path), &mut warnings).unwrap();
        let expected =
            format!("Warning: '{}': everything after the first JSON object is ignored", path.display());
        assert_eq!(warnings, [expected]);
    }
}
