//! Configuration files and folders (FEATURES CFG-43).

use std::io::Read;
use std::path::{Path, PathBuf};

use super::settings::Settings;

/// Longest file that is read, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads files and folders in this order; later ones are merged over earlier ones. A folder means its `*.json` files
/// sorted by name, without those of inner folders.
///
/// # Errors
/// One line with the file and the mistake in it.
pub(crate) fn read_settings(paths: &[String]) -> Result<Settings, String> {
    let mut settings = Settings::default();
    for path in paths {
        for file in files_of(Path::new(path)).map_err(|error| format!("Error reading '{path}': {error}"))? {
            let shown = file.display();
            let text = read(&file).map_err(|error| format!("Error reading '{shown}': {error}"))?;
            let read =
                Settings::decode(&text).map_err(|error| format!("Error decoding '{shown}': {error}"))?;
            settings.merge(read);
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

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
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

    fn shown(folder: &tempfile::TempDir, name: &str) -> String {
        folder.path().join(name).display().to_string()
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
        let all = read_settings(&[shown(&folder, ""), shown(&folder, "last")]).unwrap();
        assert_eq!((all.node_name.as_str(), all.profile.as_str()), ("last", "wan"));
        assert_eq!(all.start_join, ["1", "2"]);
        let reversed = read_settings(&[shown(&folder, "last"), shown(&folder, "")]).unwrap();
        assert_eq!(reversed.node_name, "b");
        assert_eq!(read_settings(&[]), Ok(Settings::default()));
    }

    #[test]
    fn errors_name_the_file() {
        let folder = folder(&[("a.json", "{}"), ("b.json", r#"{"nope": 1}"#)]);
        let path = shown(&folder, "b.json");
        assert_eq!(
            read_settings(&[folder.path().display().to_string()]),
            Err(format!("Error decoding '{path}': unknown key 'nope'"))
        );
        let missing = shown(&folder, "missing");
        assert_eq!(
            read_settings(std::slice::from_ref(&missing)),
            Err(format!("Error reading '{missing}': No such file or directory (os error 2)"))
        );
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert_eq!(
            read_settings(std::slice::from_ref(&path)),
            Err(format!("Error reading '{path}': stream did not contain valid UTF-8"))
        );
        std::fs::write(&path, vec![b' '; FILE_BYTES_MAX as usize + 1]).unwrap();
        assert_eq!(
            read_settings(std::slice::from_ref(&path)),
            Err(format!("Error reading '{path}': longer than 1048576 bytes"))
        );
    }
}
