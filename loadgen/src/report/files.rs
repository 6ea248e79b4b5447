//! Reports as files: JSON and HTML written, JSON read.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::page::page;
use super::schema::{FORMAT, Report, VERSION};

impl Report {
    /// Writes `STEM.json` and `STEM.html` into `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// A file can't be written, or the report is wrong; one line with the path. A file that was begun is removed.
    pub fn write(&self, dir: &Path, stem: &str) -> Result<[PathBuf; 2], String> {
        self.check()?;
        fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let json = serde_json::to_string(self).map_err(|error| error.to_string())? + "\n";
        let paths = ["json", "html"].map(|ending| dir.join(format!("{stem}.{ending}")));
        write_whole(&paths[0], &json)?;
        write_whole(&paths[1], &page(&self.title, std::slice::from_ref(self)))?;
        Ok(paths)
    }

    /// Reads a JSON file.
    ///
    /// # Errors
    /// The file can't be read, is no report, is of another version, or is wrong; one line with path and place.
    pub fn read(path: &Path) -> Result<Report, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Report::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Reads the text of a JSON file.
    ///
    /// # Errors
    /// It is no report, of another version, or wrong; one line with the place.
    pub fn parse(text: &str) -> Result<Report, String> {
        let head: Head = serde_json::from_str(text).map_err(|error| format!("no JSON object: {error}"))?;
        if head.format.as_deref() != Some(FORMAT) {
            return Err(format!("no report: the field `format` must be \"{FORMAT}\""));
        }
        if head.version != Some(VERSION) {
            let version = head.version.map_or("none".to_owned(), |version| version.to_string());
            return Err(format!(
                "the report's version is {version}, this program reads version {VERSION} only; make the report again"
            ));
        }
        let report: Report = serde_json::from_str(text).map_err(|error| error.to_string())?;
        report.check()?;
        Ok(report)
    }
}

/// What every version has.
#[derive(Deserialize)]
struct Head {
    format: Option<String>,
    version: Option<u32>,
}

/// Writes a whole file, or none.
pub(super) fn write_whole(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| {
        // Half a file would look like a report.
        if path.is_file() {
            let _ = fs::remove_file(path);
        }
        format!("{}: {error}", path.display())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::report::example;

    #[test]
    fn a_written_report_is_read_as_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let [json, html] = example().write(&folder.path().join("new"), "event").unwrap();
        let mut expected = example();
        let read = Report::read(&json).unwrap();
        expected.made.at.clone_from(&read.made.at);
        assert!(read == expected, "the file holds something else");
        let page = fs::read_to_string(html).unwrap();
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    }

    #[test]
    fn other_versions_and_wrong_files_are_refused_in_one_line() {
        let good = serde_json::to_string_pretty(&example()).unwrap();
        for (text, expected) in [
            (
                good.replace("\"version\": 1,", "\"version\": 0,"),
                "version is 0, this program reads version 1 only",
            ),
            (
                good.replace("\"version\": 1,", "\"version\": 2,"),
                "version is 2, this program reads version 1 only",
            ),
            (good.replace("thane-report", "other"), "the field `format` must be"),
            ("{}".to_owned(), "the field `format` must be"),
            (good[..good.len() / 2].to_owned(), "EOF while parsing"),
            (
                good.replace("\"nodes\": 100", "\"nodes\": \"many\""),
                "invalid type: string \"many\", expected u64 at line",
            ),
            (good.replace("\"seed\"", "\"sed\""), "unknown field `sed`, expected one of `seed`"),
            (good.replace("\"better\": \"lower\"", "\"better\": \"best\""), "unknown variant `best`"),
        ] {
            let error = Report::parse(&text).unwrap_err();
            assert!(error.contains(expected) && error.lines().count() == 1, "{error}");
        }
        let missing = Report::read(Path::new("/nowhere/a.json")).unwrap_err();
        assert!(missing.starts_with("/nowhere/a.json: No such file"), "{missing}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = example().write(&file, "event").unwrap_err();
        assert!(error.contains("file: "), "{error}");
    }
}
