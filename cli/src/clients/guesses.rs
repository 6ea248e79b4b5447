//! The brake on clients that guess the token: per connection and per source, with one line in the log per window.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::sleep;

use super::connections::Source;
use super::listener::Peer;

/// Wrong tokens of one connection that are answered at once, and how long each further one waits for its answer.
const FREE_OF_CONNECTION: u32 = 3;
const CONNECTION_WAITS: Duration = Duration::from_millis(100);
/// Wrong tokens of one source in a window before all its tokens are compared one after the other, at most one in
/// this time.
const FREE_OF_SOURCE: u32 = 10;
const SOURCE_WAITS: Duration = Duration::from_millis(20);
/// After this time the log has the number of wrong tokens, and sources begin again.
const WINDOW: Duration = Duration::from_secs(10);
/// Sources that are counted apart; further ones share one count.
const SOURCES_MAX: usize = 1024;

/// The wrong tokens of the current window.
pub(crate) struct Guesses {
    /// Takes the lines for the log.
    warn: Box<dyn Fn(String)>,
    window: RefCell<Option<Window>>,
}

#[derive(Default)]
struct Window {
    /// `None`: those beyond [`SOURCES_MAX`].
    sources: BTreeMap<Option<Source>, OfSource>,
    /// Wrong tokens after the first.
    further: u64,
    /// Who sent the last one.
    last: Option<Peer>,
}

#[derive(Default)]
struct OfSource {
    wrong: u32,
    /// Whose token is compared next; waiting clients take turns in the order they came.
    turn: Rc<Mutex<()>>,
}

impl Window {
    fn of(&mut self, source: Source) -> &mut OfSource {
        let known = self.sources.contains_key(&Some(source)) || self.sources.len() < SOURCES_MAX;
        self.sources.entry(known.then_some(source)).or_default()
    }
}

impl Guesses {
    pub(crate) fn new(warn: impl Fn(String) + 'static) -> Rc<Guesses> {
        Rc::new(Guesses { warn: Box::new(warn), window: RefCell::default() })
    }

    /// To be awaited before a token of a client from there is compared.
    pub(crate) async fn turn(&self, source: Source) {
        let turn = match self.window.borrow_mut().as_mut().map(|window| window.of(source)) {
            Some(of) if of.wrong >= FREE_OF_SOURCE => of.turn.clone(),
            _ => return,
        };
        let _turn = turn.lock().await;
        sleep(SOURCE_WAITS).await;
    }

    /// A wrong token came, the so-manieth on this connection; to be awaited before the answer.
    pub(crate) async fn wrong(self: &Rc<Self>, source: Source, client: Peer, of_connection: u32) {
        self.count(source, client);
        if of_connection > FREE_OF_CONNECTION {
            sleep(CONNECTION_WAITS).await;
        }
    }

    fn count(self: &Rc<Self>, source: Source, client: Peer) {
        let mut window = self.window.borrow_mut();
        match &mut *window {
            Some(window) => {
                window.further += 1;
                window.last = Some(client);
            }
            None => {
                (self.warn)(format!("Wrong RPC token from {client}"));
                *window = Some(Window::default());
                let guesses = self.clone();
                tokio::task::spawn_local(async move {
                    sleep(WINDOW).await;
                    guesses.end_window();
                });
            }
        }
        let of = window.get_or_insert_default().of(source);
        of.wrong = of.wrong.saturating_add(1);
    }

    fn end_window(&self) {
        let Some(Window { sources, further, last }) = self.window.take() else { return };
        if let Some(last) = last {
            let (count, seconds) = (sources.len(), WINDOW.as_secs());
            (self.warn)(format!(
                "{further} more wrong RPC tokens within {seconds}s from {count} addresses, the last from {last}"
            ));
        }
    }
}

/// Compares a token with the right one. The duration reveals at most the length of the token.
pub(crate) fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && std::hint::black_box(
            left.iter().zip(right).fold(0, |differ, (left, right)| differ | (left ^ right)),
        ) == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::time::Instant;

    use super::*;

    /// Runs with virtual time.
    fn local<T>(test: impl Future<Output = T>) -> T {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test)
    }

    fn there(n: u8) -> Source {
        Source::There([10, 0, 0, n].into())
    }

    fn client(n: u8) -> Peer {
        Peer::Tcp(([10, 0, 0, n], 9).into())
    }

    #[test]
    fn guesses_of_a_source_take_turns_and_others_do_not_wait() {
        local(async {
            let guesses = Guesses::new(drop);
            let begun = Instant::now();
            // A new connection for each.
            for _ in 0..110 {
                guesses.turn(there(1)).await;
                guesses.wrong(there(1), client(1), 1).await;
            }
            assert!(begun.elapsed() >= SOURCE_WAITS * 100, "{:?}", begun.elapsed());
            let begun = Instant::now();
            guesses.turn(there(2)).await;
            assert_eq!(begun.elapsed(), Duration::ZERO);
            for n in 1..=13 {
                guesses.wrong(there(3), client(3), n).await;
            }
            assert!(begun.elapsed() >= CONNECTION_WAITS * 10);
        });
    }

    #[test]
    fn a_window_has_two_lines_whatever_is_guessed() {
        local(async {
            let lines = Rc::new(RefCell::new(Vec::new()));
            let guesses = {
                let lines = lines.clone();
                Guesses::new(move |line| lines.borrow_mut().push(line))
            };
            for n in 0..=255 {
                guesses.wrong(there(n), client(9), 1).await;
            }
            sleep(WINDOW * 2).await;
            assert_eq!(
                *lines.borrow(),
                [
                    "Wrong RPC token from 10.0.0.9:9",
                    "255 more wrong RPC tokens within 10s from 256 addresses, the last from 10.0.0.9:9",
                ]
            );
        });
    }
}
