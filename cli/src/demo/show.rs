//! The output of the demo: on a terminal a live grid of the agents and a progress line, elsewhere (a pipe, a file,
//! `TERM=dumb`) one plain line for each step.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::say;

/// Cells of the grid in one line.
const ROW: usize = 25;

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
    fn symbol(self) -> console::StyledObject<&'static str> {
        match self {
            Cell::Alone => console::style("·").dim(),
            Cell::Alive => console::style("●").green(),
            Cell::Reached => console::style("●").cyan(),
            Cell::Failed => console::style("✗").red(),
            Cell::Left => console::style("○").yellow(),
        }
    }
}

/// The demo's output.
pub(super) struct Show {
    live: MultiProgress,
    /// The live part; hidden if standard output can't show it.
    grid: ProgressBar,
    line: ProgressBar,
    is_live: bool,
    cells: Vec<Cell>,
    step: usize,
    steps: usize,
}

impl Show {
    pub(super) fn new(agents: usize, steps: usize) -> Show {
        let live = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let is_live = !live.is_hidden();
        let bar = |template: &str| {
            let style = ProgressStyle::with_template(template).expect("the template is fixed");
            live.add(ProgressBar::new_spinner().with_style(style))
        };
        let grid = bar("\n{msg}");
        let line = bar("{spinner} {msg} ({elapsed})");
        line.enable_steady_tick(Duration::from_millis(100));
        Show { live, grid, line, is_live, cells: vec![Cell::Alone; agents], step: 0, steps }
    }

    /// Prints a line above the steps.
    pub(super) fn heading(&self, text: &str) {
        self.print(text);
    }

    /// Begins a step.
    pub(super) fn begin(&mut self, what: &str, text: &str) {
        self.line.reset_elapsed();
        self.line.set_message(format!("{what}: {text}"));
        self.redraw();
    }

    /// Shows the progress of the step.
    pub(super) fn progress(&self, text: &str) {
        self.line.set_message(text.to_owned());
    }

    /// Changes the symbol of an agent.
    pub(super) fn cell(&mut self, agent: usize, cell: Cell) {
        if self.cells[agent] != cell {
            self.cells[agent] = cell;
            self.redraw();
        }
    }

    /// Ends a step and prints its line, with the time it took at the end.
    pub(super) fn done(&mut self, what: &str, text: &str, took: Duration) {
        self.step += 1;
        self.print(&format!("[{}/{}] {what:<6} {text:<72} {:>9}", self.step, self.steps, Show::time(took)));
    }

    /// Removes the live part and prints the text.
    pub(super) fn end(&mut self, text: &str) {
        self.grid.finish_and_clear();
        self.line.finish_and_clear();
        say(format_args!("\n{text}"));
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

    fn print(&self, text: &str) {
        if self.is_live {
            // The demo continues if the terminal is gone.
            let _ = self.live.println(text);
        } else {
            say(text);
        }
    }

    fn redraw(&self) {
        if !self.is_live {
            return;
        }
        let row = |cells: &[Cell]| -> String {
            cells.iter().map(|cell| format!("{} ", cell.symbol())).collect::<String>()
        };
        let rows: Vec<String> = self.cells.chunks(ROW).map(row).collect();
        self.grid.set_message(rows.join("\n"));
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        self.grid.finish_and_clear();
        self.line.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(Show::time(Duration::from_micros(1234)), "1.2 ms");
        assert_eq!(Show::time(Duration::from_millis(123)), "123 ms");
        assert_eq!(Show::time(Duration::from_millis(7250)), "7.2 s");
    }
}
