//! `thane top`: members, rates, queues and events of an agent in a terminal, as they change. It asks over RPC, so it
//! works with Serf's agents too; what they do not count is left blank.

mod feed;
mod model;
mod view;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use thane_engine::duration::Nanoseconds;

use self::feed::Feed;
use self::model::Model;
use crate::command::{Command, Failure};
use crate::flags::Argument;
use crate::rpc::{ADDR_OPTION, AUTH_OPTION, Rpc, TLS_OPTION};

/// How soon a pressed key and an arrived event show.
const TURN: Duration = Duration::from_millis(100);
/// The shortest interval between two questions.
const INTERVAL_MIN: Duration = Duration::from_millis(200);
/// Rows that a page key moves.
const PAGE: usize = 10;

pub(crate) const COMMAND: Command = Command {
    name: "top",
    arguments: "[options]",
    synopsis: "Watch members, rates, queues and events of an agent",
    about: "Shows members, rates, queues and events of an agent in the terminal, as they change. Keys: q ends, / \
        searches names, addresses and tags, f shows one status only, arrows and page keys scroll.",
    options: &[
        ("-interval=1s", "Time between two questions, from 200ms on"),
        ADDR_OPTION,
        AUTH_OPTION,
        TLS_OPTION,
    ],
    run,
};

fn run(arguments: &[Argument]) -> Result<ExitCode, Failure> {
    let (mut rpc, mut interval) = (Rpc::from_environment(), Nanoseconds(1_000_000_000));
    let rest = rpc.flags().flag("interval", &mut interval).parse(arguments)?;
    if !rest.is_empty() {
        return Err(Failure::Usage("top takes no arguments."));
    }
    let interval = u64::try_from(interval.0).map(Duration::from_nanos).unwrap_or_default();
    if interval < INTERVAL_MIN {
        return Err(Failure::Message(format!("Invalid -interval: use {INTERVAL_MIN:?} or more")));
    }
    if !std::io::stdout().is_terminal() {
        return Err(Failure::Message(
            "top needs a terminal; 'thane info' and 'thane members' do not".to_owned(),
        ));
    }
    // An agent that is not there is an error before the screen changes.
    rpc.connect()?;
    let feed = Feed::start(&rpc, interval);
    let mut terminal =
        ratatui::try_init().map_err(|error| Failure::of("Error preparing the terminal", error))?;
    let watched = watch(&mut terminal, &feed);
    ratatui::restore();
    watched.map_err(|error| Failure::of("Error at the terminal", error))?;
    Ok(ExitCode::SUCCESS)
}

/// Draws until the user ends it.
fn watch(terminal: &mut ratatui::DefaultTerminal, feed: &Feed) -> std::io::Result<()> {
    let (mut model, mut changed) = (Model::default(), true);
    loop {
        for news in feed.news() {
            model.take(news);
            changed = true;
        }
        if std::mem::take(&mut changed) {
            terminal.draw(|frame| view::draw(frame, &model))?;
        }
        if event::poll(TURN)? {
            changed = true;
            if let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
                && !press(&mut model, key)
            {
                return Ok(());
            }
        }
    }
}

/// Carries out a key; returns whether to go on.
fn press(model: &mut Model, key: KeyEvent) -> bool {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return key.code != KeyCode::Char('c');
    }
    if model.typing {
        let search = model.search.get_or_insert_default();
        match key.code {
            KeyCode::Char(letter) => search.push(letter),
            KeyCode::Backspace => drop(search.pop()),
            KeyCode::Enter => model.typing = false,
            KeyCode::Esc => (model.search, model.typing) = (None, false),
            _ => {}
        }
        return true;
    }
    match key.code {
        KeyCode::Esc if model.search.is_some() => model.search = None,
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('/') => (model.search, model.typing) = (Some(String::new()), true),
        KeyCode::Char('f') => model.next_status(),
        KeyCode::Down => model.scroll = model.scroll.saturating_add(1),
        KeyCode::Up => model.scroll = model.scroll.saturating_sub(1),
        KeyCode::PageDown => model.scroll = model.scroll.saturating_add(PAGE),
        KeyCode::PageUp => model.scroll = model.scroll.saturating_sub(PAGE),
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_search_filter_scroll_and_end() {
        let mut model = Model::default();
        let type_in = |model: &mut Model, code| press(model, KeyEvent::new(code, KeyModifiers::NONE));
        for code in [KeyCode::Char('/'), KeyCode::Char('q'), KeyCode::Char('f'), KeyCode::Backspace] {
            assert!(type_in(&mut model, code));
        }
        assert_eq!(model.search.as_deref(), Some("q"), "letters are searched for while it is typed");
        type_in(&mut model, KeyCode::Enter);
        type_in(&mut model, KeyCode::Char('f'));
        assert_eq!(model.status, Some("alive"));
        type_in(&mut model, KeyCode::PageDown);
        type_in(&mut model, KeyCode::Up);
        assert_eq!(model.scroll, PAGE - 1);
        assert!(type_in(&mut model, KeyCode::Esc), "the first one ends the search");
        assert_eq!(model.search, None);
        assert!(!type_in(&mut model, KeyCode::Esc));
        assert!(!press(&mut model, KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    }
}
