//! Output of commands: lines on stdout and stderr, columns, text or JSON.

use std::fmt::Display;
use std::io::{self, Write};
use std::ops::Range;
use std::process;

use serde::Serialize;

use crate::json;

/// Exit code after a write to a closed pipe, as shells report SIGPIPE.
const CLOSED_PIPE: i32 = 128 + 13;

/// Prints a line to stdout. Ends the program with [`CLOSED_PIPE`] where the reader has closed the pipe, and with an
/// error on stderr and exit code 1 where the write fails otherwise (a full disk).
pub(crate) fn say(line: impl Display) {
    say_bytes(line.to_string().into_bytes());
}

/// [`say`] for bytes that need not be UTF-8, such as a payload.
pub(crate) fn say_bytes(mut line: Vec<u8>) {
    line.push(b'\n');
    if let Err(error) = io::stdout().write_all(&line) {
        if error.kind() == io::ErrorKind::BrokenPipe {
            process::exit(CLOSED_PIPE);
        }
        say_aside(format_args!("Can't write to stdout: {error}"));
        process::exit(1);
    }
}

/// Prints a line to stderr. Errors are ignored: there is no other place to report them.
pub(crate) fn say_aside(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The output in the format of the flag `-format`: `text`, trimmed, or `value` as JSON.
///
/// # Errors
/// Serf's line about a format that is neither.
pub(crate) fn formatted(format: &str, text: String, value: &impl Serialize) -> Result<String, String> {
    match format {
        "text" => Ok(text.trim().to_owned()),
        "json" => Ok(json::to_string(value)),
        _ => Err(format!("Encoding error: Invalid output format \"{format}\"")),
    }
}

/// A table with two spaces between its columns. A `|` inside a cell splits it into two cells: Serf joins cells with
/// `|` before it aligns them, and scripts count the columns of the result.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    /// The texts of all cells as they were added.
    text: String,
    cells: Vec<Cell>,
    rows: Vec<Row>,
    /// Width of the widest cell of each column, letters.
    widths: Vec<usize>,
}

/// The visible part of a cell's text.
#[derive(Debug)]
struct Cell {
    text: Range<usize>,
    letters: usize,
}

#[derive(Debug)]
struct Row {
    /// The first cell before it was split and trimmed.
    first: Range<usize>,
    cells: Range<usize>,
}

impl Columns {
    /// Begins a row with its first cell.
    pub(crate) fn row(&mut self, first: &str) {
        let (start, cells) = (self.text.len(), self.cells.len());
        self.rows.push(Row { first: start..start + first.len(), cells: cells..cells });
        self.cell(|text| text.push_str(first));
    }

    /// Adds the text that `write` appends as a cell of the last row.
    pub(crate) fn cell(&mut self, write: impl FnOnce(&mut String)) {
        let mut start = self.text.len();
        write(&mut self.text);
        if !self.text[start..].bytes().any(|byte| byte == b'|') {
            return self.part(start..self.text.len());
        }
        while let Some(bar) = self.text[start..].find('|') {
            self.part(start..start + bar);
            start += bar + 1;
        }
        self.part(start..self.text.len());
    }

    /// Adds a cell of that text, trimmed.
    fn part(&mut self, mut text: Range<usize>) {
        let Some(row) = self.rows.last_mut() else { return };
        let part = &self.text[text.clone()];
        let ends = [part.as_bytes().first(), part.as_bytes().last()];
        if !ends.iter().flatten().all(|end| end.is_ascii_graphic()) {
            text.start += part.len() - part.trim_start().len();
            text.end = text.start + part.trim().len();
        }
        let cell = &self.text[text.clone()];
        let letters = if cell.is_ascii() { cell.len() } else { cell.chars().count() };
        let column = self.cells.len() - row.cells.start;
        match self.widths.get_mut(column) {
            Some(width) => *width = letters.max(*width),
            None => self.widths.push(letters),
        }
        self.cells.push(Cell { text, letters });
        row.cells.end = self.cells.len();
    }

    /// Sorts the rows by their first cells as they were added.
    pub(crate) fn sort(&mut self) {
        let Columns { text, rows, .. } = self;
        rows.sort_by(|left, right| text[left.first.clone()].cmp(&text[right.first.clone()]));
    }

    /// One line per row, without a newline after the last.
    pub(crate) fn into_text(self) -> String {
        let width = self.widths.iter().map(|width| width + 2).sum::<usize>();
        let mut out = String::with_capacity(self.text.len() + self.rows.len() * width / 2);
        for (place, row) in self.rows.iter().enumerate() {
            if place > 0 {
                out.push('\n');
            }
            let mut padding = 0;
            for (cell, width) in self.cells[row.cells.clone()].iter().zip(&self.widths) {
                pad(&mut out, padding);
                out.push_str(&self.text[cell.text.clone()]);
                padding = width - cell.letters + 2;
            }
        }
        out
    }
}

fn pad(out: &mut String, mut letters: usize) {
    const SPACES: &str = "                                ";
    while letters > 0 {
        let step = letters.min(SPACES.len());
        out.push_str(&SPACES[..step]);
        letters -= step;
    }
}

/// A table of complete rows.
impl<const N: usize> FromIterator<[String; N]> for Columns {
    fn from_iter<I: IntoIterator<Item = [String; N]>>(rows: I) -> Columns {
        let mut columns = Columns::default();
        for row in rows {
            let mut cells = row.iter();
            columns.row(cells.next().map_or("", String::as_str));
            cells.for_each(|cell| columns.cell(|text| text.push_str(cell)));
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shown<const N: usize>(rows: &[[&str; N]]) -> String {
        rows.iter().map(|row| row.map(str::to_owned)).collect::<Columns>().into_text()
    }

    #[test]
    fn columns_line_up_and_a_bar_makes_another_one() {
        let text = shown(&[
            ["aa", "127.0.0.1:7946", "failed", ""],
            ["d\u{e9}dd", " [::1]:70", "alive\u{2003}", "x=1| 2"],
        ]);
        assert_eq!(text, "aa    127.0.0.1:7946  failed  \nd\u{e9}dd  [::1]:70        alive   x=1  2");
        let detailed = shown(&[["a", "", "Version: 5", "Range"], ["a", "x=1|2", "Version: 5", "Range"]]);
        assert_eq!(detailed, "a       Version: 5  Range\na  x=1  2           Version: 5  Range");
        assert_eq!(shown::<1>(&[]), "");
    }

    #[test]
    fn rows_are_sorted_by_what_was_added_first() {
        let mut columns: Columns =
            [["b|1"], ["a|2"], ["a|1"], [" b"]].map(|[row]| [row.to_owned()]).into_iter().collect();
        columns.sort();
        assert_eq!(columns.into_text(), "b\na  1\na  2\nb  1");
    }

    #[test]
    fn formats_are_text_and_json() {
        assert_eq!(formatted("text", " a \n".to_owned(), &1).unwrap(), "a");
        assert_eq!(formatted("json", String::new(), &["<"]).unwrap(), "[\n  \"\\u003c\"\n]");
        let refused = formatted("xml", String::new(), &1).unwrap_err();
        assert_eq!(refused, "Encoding error: Invalid output format \"xml\"");
    }
}
