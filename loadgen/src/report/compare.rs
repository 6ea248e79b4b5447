//! Several reports laid over each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files::write_whole;
use super::page::page;
use super::schema::Report;
use super::table::table;

/// Reads reports, writes one page with their curves laid over each other to `out`, if that is given, and returns
/// their table. Subjects of the same name get the name of their file behind it.
///
/// # Errors
/// A file is no report, or the page can't be written; one line.
pub fn compare(paths: &[PathBuf], out: Option<&Path>) -> Result<String, String> {
    let mut reports = paths.iter().map(|path| Report::read(path)).collect::<Result<Vec<_>, _>>()?;
    name_apart(&mut reports, paths);
    if let Some(out) = out {
        let titles: Vec<&str> = reports.iter().map(|report| report.title.as_str()).collect();
        write_whole(out, &page(&titles.join(" beside "), &reports))?;
    }
    Ok(table(&reports))
}

/// Makes the names of all subjects differ.
fn name_apart(reports: &mut [Report], paths: &[PathBuf]) {
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for subject in reports.iter().flat_map(|report| &report.subjects) {
        *uses.entry(subject.name.clone()).or_default() += 1;
    }
    for (report, path) in reports.iter_mut().zip(paths) {
        let file = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        for subject in report.subjects.iter_mut().filter(|subject| uses[&subject.name] > 1) {
            subject.name = format!("{} ({file})", subject.name);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::report::example;

    #[test]
    fn reports_are_laid_over_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let mut other = example();
        other.subjects.truncate(1);
        let [last_week, _] = example().write(folder.path(), "last-week").unwrap();
        let [this_week, _] = other.write(folder.path(), "this-week").unwrap();
        let out = folder.path().join("page.html");
        let table = compare(&[last_week, this_week], Some(&out)).unwrap();
        let heading = table.lines().next().unwrap();
        for name in ["classic in \"sim\" (last-week)", "eager in \"sim\"", "classic in \"sim\" (this-week)"] {
            assert!(heading.contains(name), "{heading}");
        }
        assert!(table.contains("×0.0100") && table.contains("×1\n"), "{table}");
        assert!(std::fs::read_to_string(out).unwrap().contains("this-week"));
        let error = compare(&[folder.path().join("none.json")], None).unwrap_err();
        assert!(error.contains("none.json: No such file"), "{error}");
    }
}
