//! The differences that docs/differences.md states, as the harness expects them: `testbed/parity/expected.toml`.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use regex::Regex;
use serde::Deserialize;

use crate::failure::Failure;

/// Random order in Serf, sorted in Thane.
pub(super) const ORDER: &str = "D-1";
/// Words of help texts.
pub(super) const HELP: &str = "D-2";

/// The page whose rows are named by their ids.
const PAGE: &str = include_str!("../../../docs/differences.md");
const TABLE: &str = include_str!("../../parity/expected.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    difference: Vec<Entry>,
}

/// One difference: where it shows, and what each side shows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    row: String,
    /// Expression for names of cases.
    cases: String,
    /// What Serf shows.
    serf: Option<String>,
    /// What Thane shows; without one of both, the other side shows nothing in its place.
    thane: Option<String>,
    /// Whether it shows by chance; else a run in which it does not show fails.
    #[serde(default)]
    sometimes: bool,
}

#[derive(Debug)]
struct Rule {
    row: String,
    sometimes: bool,
    cases: Regex,
    serf: Option<Regex>,
    thane: Option<Regex>,
}

/// The rules, and which of their rows were seen.
#[derive(Debug)]
pub(super) struct Expected {
    rules: Vec<Rule>,
    /// Indices of rules.
    seen: Mutex<BTreeSet<usize>>,
    /// Rows that the harness itself relies on.
    relied: Mutex<BTreeSet<&'static str>>,
}

impl Expected {
    /// # Errors
    /// The table is wrong, or names a row that the page lacks, or the page has an id that the table lacks.
    pub(super) fn load() -> Result<Expected, Failure> {
        Expected::parse(PAGE, TABLE)
    }

    fn parse(page: &str, table: &str) -> Result<Expected, Failure> {
        let wrong = |why: String| Failure::new(format!("testbed/parity/expected.toml: {why}"));
        let table: Table = toml::from_str(table).map_err(|error| wrong(error.to_string()))?;
        let documented = rows(page);
        let expression = |text: &str| {
            let multi_line = format!("(?m){text}");
            Regex::new(&multi_line).map_err(|error| wrong(error.to_string()))
        };
        let mut rules = Vec::new();
        for entry in table.difference {
            if !documented.contains(entry.row.as_str()) {
                return Err(wrong(format!("docs/differences.md has no row {}", entry.row)));
            }
            rules.push(Rule {
                cases: expression(&entry.cases)?,
                serf: entry.serf.as_deref().map(expression).transpose()?,
                thane: entry.thane.as_deref().map(expression).transpose()?,
                sometimes: entry.sometimes,
                row: entry.row,
            });
        }
        for row in documented {
            if ![ORDER, HELP].contains(&row) && rules.iter().all(|rule| rule.row != row) {
                return Err(wrong(format!("row {row} of docs/differences.md is named by no entry")));
            }
        }
        Ok(Expected { rules, seen: Mutex::default(), relied: Mutex::default() })
    }

    /// Takes note of a row that the harness itself allows for.
    pub(super) fn rely(&self, row: &'static str) {
        self.relied.lock().unwrap_or_else(PoisonError::into_inner).insert(row);
    }

    /// Replaces what is expected to differ on both sides by the row's id. What then still differs has no row.
    pub(super) fn settle(&self, case: &str, serf: &mut String, thane: &mut String) {
        for (index, rule) in self.rules.iter().enumerate().filter(|(_, rule)| rule.cases.is_match(case)) {
            if serf == thane {
                return;
            }
            let matches =
                |side: &Option<Regex>, text: &str| side.as_ref().is_none_or(|side| side.is_match(text));
            if !(matches(&rule.serf, serf) && matches(&rule.thane, thane)) {
                continue;
            }
            let is_pair = rule.serf.is_some() && rule.thane.is_some();
            let mark = if is_pair { format!("«{}»", rule.row) } else { String::new() };
            for (side, text) in [(&rule.serf, &mut *serf), (&rule.thane, &mut *thane)] {
                if let Some(side) = side {
                    *text = side.replace_all(text, regex::NoExpand(&mark)).into_owned();
                }
            }
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(index);
        }
    }

    /// Entries and rows that no case showed.
    pub(super) fn unseen(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let relied = self.relied.lock().unwrap_or_else(PoisonError::into_inner);
        let unseen =
            self.rules.iter().enumerate().filter(|(index, rule)| !seen.contains(index) && !rule.sometimes);
        let rules = unseen.map(|(_, rule)| format!("{} in {}", rule.row, rule.cases.as_str()));
        let own = [ORDER, HELP].into_iter().filter(|row| !relied.contains(row)).map(str::to_owned);
        rules.chain(own).collect()
    }
}

/// The ids of a page's rows: `(D-7)` at the end of a row's first cell.
fn rows(page: &str) -> BTreeSet<&str> {
    page.lines()
        .filter_map(|line| {
            let cell = line.strip_prefix("| ")?.split(" | ").next()?.trim_end();
            let id = cell.strip_suffix(')')?.rsplit_once('(')?.1;
            id.strip_prefix("D-")?.parse::<u32>().ok()?;
            Some(id)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PAGE: &str = "| What (D-7) | Serf | Thane | |\n| Other (D-8) | a | b | |\n| None | a | b | |\n";
    const TABLE: &str = r#"
        difference = [
            { row = "D-7", cases = "^x", serf = "old \\d", thane = "new" },
            { row = "D-8", cases = "", thane = "^more\n" },
        ]
    "#;

    #[test]
    fn a_difference_needs_a_rule_for_its_case_and_both_sides() {
        let settled = |case: &str, serf: &str, thane: &str| {
            let expected = Expected::parse(PAGE, TABLE).unwrap();
            let (mut serf, mut thane) = (serf.to_owned(), thane.to_owned());
            expected.settle(case, &mut serf, &mut thane);
            (serf == thane, expected.unseen().len())
        };
        assert_eq!(settled("x", "an old 5", "an new"), (true, 3));
        assert_eq!(settled("y", "an old 5", "an new"), (false, 4));
        assert_eq!(settled("x", "an old 5", "an other"), (false, 4));
        assert_eq!(settled("x", "an old 5\n", "more\nan new\n"), (true, 2));
        assert_eq!(settled("x", "same", "same"), (true, 4));
    }

    #[test]
    fn rows_and_entries_must_know_each_other() {
        assert!(Expected::parse("", TABLE).unwrap_err().to_string().contains("no row D-7"));
        let more = [PAGE, "| New (D-9) | | | |\n"].concat();
        assert!(Expected::parse(&more, TABLE).unwrap_err().to_string().contains("row D-9"));
    }

    #[test]
    fn the_table_fits_the_page() {
        Expected::load().unwrap();
    }
}
