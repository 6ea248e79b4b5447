//! What cases showed: equal, different as documented, or different.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::expected::{Expected, HELP, ORDER};
use super::normal::{HELP_MARK, difference, sorted};
use crate::failure::Failure;

/// Lines of a difference that are printed; `--out` has all.
const LINES_SHOWN: usize = 12;

/// The verdicts of a run.
pub(super) struct Verdicts {
    expected: Expected,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    equal: usize,
    documented: usize,
    different: usize,
    /// For `--out`: part, and the text of its cases.
    transcripts: BTreeMap<String, String>,
}

impl Verdicts {
    pub(super) fn new(expected: Expected) -> Verdicts {
        Verdicts { expected, book: Mutex::default() }
    }

    /// Whether a case shows nothing undocumented; nothing is noted.
    pub(super) fn agree(&self, case: &str, serf: &str, thane: &str) -> bool {
        let (serf, thane) = self.settled(case, serf, thane);
        serf == thane
    }

    /// Notes what a case showed.
    pub(super) fn judge(&self, case: &str, serf: &str, thane: &str) {
        if serf.contains(HELP_MARK) {
            self.expected.rely(HELP);
        }
        let (theirs, ours) = self.settled(case, serf, thane);
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = if serf == thane {
            book.equal += 1;
            "equal"
        } else if theirs == ours {
            book.documented += 1;
            "documented"
        } else {
            let lines = difference(&theirs, &ours);
            let shown: Vec<&str> = lines.lines().take(LINES_SHOWN).collect();
            println!("DIFFERENT {case}\n{}", shown.join("\n"));
            book.different += 1;
            "DIFFERENT"
        };
        let part = case.split(['/', ':']).next().unwrap_or(case);
        let text = book.transcripts.entry(part.to_owned()).or_default();
        // Writing to a string can't fail.
        let _ = writeln!(text, "=== {verdict} {case}\n--- serf\n{serf}");
        if serf != thane {
            let _ = writeln!(text, "--- thane\n{thane}");
        }
    }

    /// Both texts with what is expected to differ replaced.
    fn settled(&self, case: &str, serf: &str, thane: &str) -> (String, String) {
        let (mut theirs, mut ours) = (serf.to_owned(), thane.to_owned());
        if theirs != ours && sorted(&theirs) == sorted(&ours) {
            self.expected.rely(ORDER);
            return (sorted(&theirs), sorted(&ours));
        }
        self.expected.settle(case, &mut theirs, &mut ours);
        if theirs != ours && sorted(&theirs) == sorted(&ours) {
            (theirs, ours) = (sorted(&theirs), sorted(&ours));
        }
        (theirs, ours)
    }

    /// Writes every case with its outputs: a file for each part.
    pub(super) fn write(&self, folder: &Path) -> Result<(), Failure> {
        std::fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error))?;
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        for (part, text) in &book.transcripts {
            let path = folder.join(format!("{part}.txt"));
            std::fs::write(&path, text).map_err(|error| Failure::file(&path, &error))?;
        }
        Ok(())
    }

    /// Prints the sum; an error if a difference has no row, or, after a whole run, a row no difference.
    pub(super) fn close(&self, is_whole: bool) -> Result<(), Failure> {
        let unseen = if is_whole { self.expected.unseen() } else { Vec::new() };
        for row in &unseen {
            println!("NOT SHOWN {row}: mend or remove its row in docs/differences.md and its entry");
        }
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let (equal, documented, different) = (book.equal, book.documented, book.different);
        println!(
            "{} comparisons: {equal} equal, {documented} different as documented, {different} different",
            equal + documented + different
        );
        if different == 0 && unseen.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{different} comparisons differ without a row in docs/differences.md, {} entries were not shown",
            unseen.len()
        )))
    }
}
