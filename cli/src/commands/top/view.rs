//! How it is drawn.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row, Sparkline, Table};

use super::model::{As, Model};
use crate::escape;

/// Rows of the lines' pictures, and of the events; on a screen of fewer rows than [`LOW`] both have less.
const PICTURES: u16 = 4;
const EVENTS: u16 = 8;
const LOW: u16 = 28;
const PICTURES_LOW: u16 = 3;
const EVENTS_LOW: u16 = 5;

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let low = frame.area().height < LOW;
    let (pictures, events) = if low { (PICTURES_LOW, EVENTS_LOW) } else { (PICTURES, EVENTS) };
    let rows = [
        Constraint::Length(2),
        Constraint::Length(pictures * 2),
        Constraint::Min(4),
        Constraint::Length(events),
    ];
    let [head, lines, members, events] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Paragraph::new(heading(model)), head);
    draw_lines(frame, model, lines, pictures);
    draw_members(frame, model, members);
    let news: Vec<Line<'_>> = model.events.iter().map(|event| Line::raw(event.as_str())).collect();
    frame.render_widget(
        Paragraph::new(news).block(Block::bordered().title("Events, the newest first")),
        events,
    );
}

fn colour(status: &str) -> Color {
    match status {
        "alive" => Color::Green,
        "failed" => Color::Red,
        "leaving" => Color::Yellow,
        _ => Color::DarkGray,
    }
}

fn heading(model: &Model) -> Vec<Line<'_>> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let name = escape::line(model.text("agent", "name")).into_owned();
    let mut first =
        vec![Span::styled(name, bold), Span::raw(format!("  {}", model.text("runtime", "version")))];
    for (status, count) in model.counts() {
        first.push(Span::styled(format!("  {status} {count}"), Style::new().fg(colour(status))));
    }
    if let Some(why) = &model.lost {
        first.push(Span::styled(format!("  no answer: {why}"), Style::new().fg(Color::Red)));
    }
    let filter = model.status.map_or(String::new(), |status| format!("  only {status}"));
    let search = match &model.search {
        Some(search) => format!("  /{search}{}", if model.typing { "_" } else { "" }),
        None => String::new(),
    };
    let keys = Span::styled(
        "q ends, / searches, f filters by status, arrows scroll",
        Style::new().fg(Color::DarkGray),
    );
    vec![Line::from(first), Line::from(vec![keys, Span::raw(filter), Span::raw(search)])]
}

fn draw_lines(frame: &mut Frame<'_>, model: &Model, area: Rect, pictures: u16) {
    let rows = Layout::vertical([Constraint::Length(pictures); 2]).split(area);
    for (area, lines) in rows.iter().zip(model.lines.chunks(3)) {
        let places = Layout::horizontal([Constraint::Ratio(1, 3); 3]).split(*area);
        for (area, line) in places.iter().zip(lines) {
            let now = line.now.map_or(String::new(), |now| {
                let whole = matches!(line.of, As::Level) || now >= 10.0;
                if whole { format!("{now:.0}") } else { format!("{now:.1}") }
            });
            let block = Block::bordered().title(format!("{} {now}", line.title));
            let room = usize::from(area.width.saturating_sub(2));
            let skipped = line.history.len().saturating_sub(room);
            let points: Vec<u64> = line.history.iter().skip(skipped).copied().collect();
            frame.render_widget(Sparkline::default().block(block).data(points), *area);
        }
    }
}

fn draw_members(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let shown = model.shown();
    let room = usize::from(area.height.saturating_sub(3));
    // The last page at most.
    let from = model.scroll.min(shown.len().saturating_sub(room));
    let rows = shown.iter().skip(from).take(room).map(|member| {
        let cells = [&member.name, &member.status, &member.addr, &member.tags];
        // Names and tags are anybody's.
        Row::new(cells.map(|text| escape::line(text).into_owned()))
            .style(Style::new().fg(colour(&member.status)))
    });
    let widths = [Constraint::Fill(2), Constraint::Length(8), Constraint::Length(22), Constraint::Fill(3)];
    let to = (from + room).min(shown.len());
    let title = format!("Members {} to {to} of {}", (from + 1).min(to), shown.len());
    let head =
        Row::new(["Name", "Status", "Address", "Tags"]).style(Style::new().add_modifier(Modifier::BOLD));
    frame.render_widget(Table::new(rows, widths).header(head).block(Block::bordered().title(title)), area);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::model::tests::model;
    use super::*;

    fn drawn(model: &Model, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn members_lines_and_events_are_on_the_screen() {
        let mut model = model();
        let text = drawn(&model, 100, 40);
        for part in [
            "b ",
            "alive 2",
            "failed 1",
            "Queued 5─",
            "Datagrams out/s 40",
            "Members 1 to 3 of 3",
            "role=web",
            "event: deploy \\u{1b}[2J",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        assert!(text.contains("Datagrams in/s ─"), "what is not counted is blank:\n{text}");
        (model.search, model.status) = (Some("x".to_owned()), Some("left"));
        model.scroll = 1_000;
        let text = drawn(&model, 100, 40);
        assert!(
            text.contains("only left") && text.contains("/x") && text.contains("Members 0 to 0 of 0"),
            "{text}"
        );
    }

    #[test]
    fn a_low_screen_shows_members_rather_than_pictures_and_events() {
        let text = drawn(&model(), 60, 20);
        assert!(text.contains("Members 1 to 3 of 3"), "{text}");
    }

    #[test]
    fn a_small_screen_is_no_error() {
        for (width, height) in [(1, 1), (20, 5), (40, 12)] {
            drawn(&model(), width, height);
        }
    }
}
