//! A Markdown document with tables whose values are measured.

use std::rc::Rc;

/// What the line before such a table begins and ends with.
const BEGIN: &str = "<!-- columns: ";
const END: &str = " -->";

/// A document, line by line.
#[derive(Debug)]
pub(super) struct Document {
    lines: Vec<String>,
    rows: Vec<Row>,
}

/// A row that has a command.
#[derive(Clone, Debug)]
pub(super) struct Row {
    place: usize,
    columns: Rc<[Column]>,
    cells: Vec<String>,
    /// The command with its arguments, its name first.
    pub(super) command: String,
}

/// What a column holds.
#[derive(Debug, PartialEq, Eq)]
enum Column {
    /// What a person wrote.
    Text,
    Command,
    /// The measure of that id.
    Measure(String),
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// One line: where it is wrong.
    pub(super) fn parse(text: &str) -> Result<Document, String> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut rows = Vec::new();
        for (place, line) in lines.iter().enumerate() {
            let Some(columns) = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)) else {
                continue;
            };
            let columns: Rc<[Column]> = columns.split(", ").map(Column::of).collect();
            let Some(commands) = columns.iter().position(|column| *column == Column::Command) else {
                return Err(format!("line {}: no column has the command", place + 1));
            };
            // Heading and ruler come first.
            let table =
                lines.iter().enumerate().skip(place + 1).take_while(|(_, line)| line.starts_with('|'));
            for (place, line) in table.skip(2) {
                let cells = cells(line);
                if cells.len() != columns.len() {
                    let (has, wanted) = (cells.len(), columns.len());
                    return Err(format!("line {}: {has} cells for {wanted} columns", place + 1));
                }
                let command = cells[commands].trim_matches('`').to_owned();
                if !command.is_empty() {
                    rows.push(Row { place, columns: Rc::clone(&columns), cells, command });
                }
            }
        }
        Ok(Document { lines, rows })
    }

    /// The rows that have a command.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The row as it stands.
    pub(super) fn line(&self, row: &Row) -> &str {
        &self.lines[row.place]
    }

    /// Puts another line in the row's place.
    pub(super) fn replace(&mut self, row: &Row, line: String) {
        self.lines[row.place] = line;
    }

    /// The whole document.
    pub(super) fn text(&self) -> String {
        self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }
}

impl Row {
    /// The row with these values of its measures; without one the cell is empty.
    pub(super) fn with(&self, value: impl Fn(&str) -> Option<String>) -> String {
        let cells = self.columns.iter().zip(&self.cells).map(|(column, cell)| match column {
            Column::Measure(id) => value(id).unwrap_or_default(),
            Column::Text | Column::Command => cell.clone(),
        });
        let cells: Vec<String> =
            cells.map(|cell| if cell.is_empty() { cell } else { format!("{cell} ") }).collect();
        format!("| {}|", cells.join("| "))
    }
}

impl Column {
    fn of(word: &str) -> Column {
        match word {
            "-" => Column::Text,
            "command" => Column::Command,
            id => Column::Measure(id.to_owned()),
        }
    }
}

fn cells(line: &str) -> Vec<String> {
    let inside = line.trim_end().strip_prefix('|').unwrap_or(line);
    let inside = inside.strip_suffix('|').unwrap_or(inside);
    inside.split('|').map(|cell| cell.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXT: &str = "\
# Figures
<!-- columns: -, event.p50, -, command -->
| nodes | p50 | real | command |
| --- | --- | --- | --- |
| 10 | 1.00 | | `sim event --nodes 10` |
| 20 | 2.00 | 7 | |

| another | table |
| --- | --- |
| with | rows |
";

    #[test]
    fn measures_are_replaced_and_nothing_else() {
        let mut document = Document::parse(TEXT).unwrap();
        assert_eq!(document.text(), TEXT);
        let row = document.rows()[0].clone();
        assert_eq!((document.rows().len(), row.command.as_str()), (1, "sim event --nodes 10"));
        assert_eq!(row.with(|_| Some("1.00".to_owned())), document.line(&row));
        let line = row.with(|id| Some(format!("{id}!")));
        assert_eq!(line, "| 10 | event.p50! | | `sim event --nodes 10` |");
        document.replace(&row, line.clone());
        assert_eq!(document.text(), TEXT.replace("| 10 | 1.00 | | `sim event --nodes 10` |", &line));
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_line() {
        for (text, expected) in [
            (TEXT.replace(", command -->", " -->"), "line 2: no column has the command"),
            (TEXT.replace("| 7 | |", "| 7 |"), "line 6: 3 cells for 4 columns"),
        ] {
            assert_eq!(Document::parse(&text).unwrap_err(), expected);
        }
    }
}
