//! The output of the demo: on a terminal a live grid of the agents and a progress line, elsewhere (a pipe, a file,
//! `TERM=dumb`) one plain line for each step. Drawing uses the escape codes that all Unix terminals understand: a
//! library for it would be part of the agent's binary too.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use crate::output::say;

/// Cells of the grid in one line.
const ROW: usize = 25;
/// Longest line of progress, characters: what every terminal shows in one line.
const LINE: usize = 78;

/// How an agent is shown.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// Not in the cluster yet.
    Alone,
    /// In the cluster.
    Alive,
    /// Has received the event.
    Reached,
    /// Stopped without a leave.
    Failed,
    /// Left.
    Left,
}

impl Cell {
    /// The symbol and its colour (ANSI).
    fn symbol(self) -> (&'static str, u8) {
        match self {
            Cell::Alone => ("·", 2),
            Cell::Alive => ("●", 32),
            Cell::Reached => ("●", 36),
            Cell::Failed => ("✗", 31),
            Cell::Left => ("○", 33),
        }
    }
}

/// The demo's output.
pub(super) struct Show {
    live: Option<Live>,
    cells: Vec<Cell>,
    /// The current step and its progress.
    line: String,
    step: usize,
    steps: usize,
}

/// The live part of the output, below the lines that stay.
struct Live {
    coloured: bool,
    /// Number of lines drawn last.
    lines: usize,
}

impl Live {
    /// `None` if standard output is not a terminal with escape codes.
    fn detect() -> Option<Live> {
        let dumb = std::env::var_os("TERM").is_none_or(|kind| kind == "dumb");
        let coloured = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        (cfg!(unix) && !dumb && io::stdout().is_terminal()).then_some(Live { coloured, lines: 0 })
    }

    /// Replaces the live part by lines that stay and a new live part.
    fn draw(&mut self, stays: &str, live: &str) {
        let up = if self.lines > 0 { format!("\x1b[{}A", self.lines) } else { String::new() };
        self.lines = live.lines().count();
        let mut terminal = io::stdout().lock();
        // The demo continues if the terminal is gone.
        let _ = write!(terminal, "{up}\r\x1b[J{stays}{live}").and_then(|()| terminal.flush());
    }

    fn grid(&self, cells: &[Cell]) -> String {
        let cell = |cell: &Cell| {
            let (symbol, colour) = cell.symbol();
            if self.coloured { format!("\x1b[{colour}m{symbol}\x1b[0m ") } else { format!("{symbol} ") }
        };
        let row = |row: &[Cell]| row.iter().map(cell).collect::<String>() + "\n";
        cells.chunks(ROW).map(row).collect()
    }
}

impl Show {
    pub(super) fn new(agents: usize, steps: usize) -> Show {
        let cells = vec![Cell::Alone; agents];
        Show { live: Live::detect(), cells, line: String::new(), step: 0, steps }
    }

    /// Prints a line above the steps.
    pub(super) fn heading(&mut self, text: &str) {
        self.print(text);
    }

    /// Begins a step.
    pub(super) fn begin(&mut self, what: &str, text: &str) {
        self.line = format!("{what}: {text}");
        self.redraw("");
    }

    /// Shows the progress of the step.
    pub(super) fn progress(&mut self, text: &str) {
        text.clone_into(&mut self.line);
        self.redraw("");
    }

    /// Changes the symbol of an agent.
    pub(super) fn cell(&mut self, agent: usize, cell: Cell) {
        if self.cells[agent] != cell {
            self.cells[agent] = cell;
            self.redraw("");
        }
    }

    /// Ends a step and prints its line, with the time it took at the end.
    pub(super) fn done(&mut self, what: &str, text: &str, took: Duration) {
        self.step += 1;
        self.print(&format!("[{}/{}] {what:<6} {text:<72} {:>9}", self.step, self.steps, Show::time(took)));
    }

    /// Removes the live part and prints the text.
    pub(super) fn end(&mut self, text: &str) {
        self.clear();
        self.live = None;
        self.print(&format!("\n{text}"));
    }

    /// A duration as people read it.
    pub(super) fn time(duration: Duration) -> String {
        let millis = duration.as_secs_f64() * 1000.0;
        match millis {
            0.0..10.0 => format!("{millis:.1} ms"),
            10.0..1000.0 => format!("{millis:.0} ms"),
            _ => format!("{:.1} s", millis / 1000.0),
        }
    }

    fn print(&mut self, text: &str) {
        if self.live.is_some() {
            self.redraw(&format!("{text}\n"));
        } else {
            say(text);
        }
    }

    fn redraw(&mut self, stays: &str) {
        if let Some(live) = &mut self.live {
            // A longer line would wrap, and the lines drawn could not be counted.
            let line: String = self.line.chars().take(LINE).collect();
            let drawn = format!("\n{}{line}\n", live.grid(&self.cells));
            live.draw(stays, &drawn);
        }
    }

    fn clear(&mut self) {
        if let Some(live) = &mut self.live {
            live.draw("", "");
        }
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_has_a_row_for_every_25_agents_and_colours_where_they_are_wanted() {
        let mut cells = vec![Cell::Alive; 26];
        cells[25] = Cell::Failed;
        let plain = Live { coloured: false, lines: 0 }.grid(&cells);
        assert_eq!(plain, format!("{}\n✗ \n", "● ".repeat(25)));
        let coloured = Live { coloured: true, lines: 0 }.grid(&cells[25..]);
        assert_eq!(coloured, "\x1b[31m✗\x1b[0m \n");
    }

    #[test]
    fn times_have_units() {
        assert_eq!(Show::time(Duration::from_micros(1234)), "1.2 ms");
        assert_eq!(Show::time(Duration::from_millis(123)), "123 ms");
        assert_eq!(Show::time(Duration::from_millis(7250)), "7.2 s");
    }
}
