//! What commands print, and how: lines to stdout, columns, text or JSON.

use std::fmt::Display;
use std::io::{self, Write};
use std::process;

use serde::Serialize;

use crate::commands::Failure;
use crate::json;

/// Exit code of a program that a closed pipe ends.
const CLOSED_PIPE: i32 = 128 + 13;

/// Prints a line to stdout. Where nobody reads it any more the program ends; a full disk is an error.
pub(crate) fn say(line: impl Display) {
    say_bytes(line.to_string().into_bytes());
}

/// [`say`] for what need not be text: a payload goes out as it came.
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

/// Prints a line to stderr, where it can be.
pub(crate) fn say_aside(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// What `-format` asks for: `text`, trimmed, or `value` as JSON.
///
/// # Errors
/// There is no such format.
pub(crate) fn formatted(format: &str, text: String, value: &impl Serialize) -> Result<String, Failure> {
    match format {
        "text" => Ok(text.trim().to_owned()),
        "json" => Ok(json::to_string(value)),
        _ => Err(Failure::Message(format!("Encoding error: Invalid output format \"{format}\""))),
    }
}

/// Rows in columns, two spaces apart. A `|` inside a cell makes two cells of it: Serf's rows are written with
/// `|` between their cells, and scripts count what comes out.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<&str>> =
        rows.iter().map(|row| row.iter().flat_map(|cell| cell.split('|')).map(str::trim).collect()).collect();
    let mut widths = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let last = row.len().saturating_sub(1);
            let mut line = String::new();
            for (place, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                if place < last {
                    line.push_str(&format!("{cell:width$}  "));
                } else {
                    line.push_str(cell);
                }
            }
            line
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    }

    #[test]
    fn columns_line_up_and_a_bar_makes_another_one() {
        let text = columns(&rows(&[
            &["aa", "127.0.0.1:7946", "failed", ""],
            &["d\u{e9}dd", "[::1]:70", "alive", "x=1|2"],
        ]));
        assert_eq!(text, "aa    127.0.0.1:7946  failed  \nd\u{e9}dd  [::1]:70        alive   x=1  2");
        let detailed =
            columns(&rows(&[&["a", "", "Version: 5", "Range"], &["a", "x=1|2", "Version: 5", "Range"]]));
        assert_eq!(detailed, "a       Version: 5  Range\na  x=1  2           Version: 5  Range");
        assert_eq!(columns(&[]), "");
    }

    #[test]
    fn formats_are_text_and_json() {
        assert_eq!(formatted("text", " a \n".to_owned(), &1).unwrap(), "a");
        assert_eq!(formatted("json", String::new(), &["<"]).unwrap(), "[\n  \"\\u003c\"\n]");
        let Err(Failure::Message(text)) = formatted("xml", String::new(), &1) else {
            panic!("xml is a format")
        };
        assert_eq!(text, "Encoding error: Invalid output format \"xml\"");
    }
}
