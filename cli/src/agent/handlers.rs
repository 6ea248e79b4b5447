//! Event handlers: scripts that are run for events, one after the other.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use thane_engine::event::Event;
use tokio::sync::mpsc;

use super::filter::EventFilter;
use super::identity::SelfIdentity;
use super::level::Level;
use super::log::Log;
use super::script;

/// A script that runs longer is logged once.
const SLOW_AFTER: Duration = Duration::from_secs(1);
/// Events queued for slow handlers; further ones are dropped with a warning, because the engine must not wait for a
/// script.
const EVENTS_WAITING_MAX: usize = 1024;

/// A script and the events that it is run for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventHandler {
    /// The events.
    pub(crate) filter: EventFilter,
    /// The argument of `/bin/sh -c`.
    pub(crate) script: String,
}

impl EventHandler {
    /// Reads `[FILTER=]SCRIPT`; a list of filters makes one handler for each.
    ///
    /// # Errors
    /// Serf's line about the first entry that is not a kind of event.
    pub(crate) fn parse(spec: &str) -> Result<Vec<EventHandler>, String> {
        let (list, script) = spec.split_once('=').unwrap_or(("*", spec));
        let filters = EventFilter::parse_list(list)
            .map_err(|entry| format!("Invalid event script: Event '{entry}' invoking '{script}'"))?;
        Ok(filters.into_iter().map(|filter| EventHandler { filter, script: script.to_owned() }).collect())
    }
}

/// Sends a script's output as the response to a query.
pub(crate) trait Responder {
    /// Responds to the query of an [`Event::Query`].
    ///
    /// # Errors
    /// The reason, for the log. Nothing was sent.
    fn respond(
        &self,
        query: thane_engine::command::QueryToken,
        payload: bytes::Bytes,
    ) -> impl Future<Output = Result<(), String>>;
}

/// The queue in front of the scripts. Clones share it.
#[derive(Clone)]
pub(crate) struct Handlers(Rc<Shared>);

struct Shared {
    list: RefCell<Rc<Vec<EventHandler>>>,
    queue: mpsc::Sender<Arc<Event>>,
    lagging: Cell<bool>,
    /// The process id of the script that runs.
    running: Cell<Option<u32>>,
    log: Log,
}

/// Runs the scripts of the events that [`Handlers`] queues.
pub(crate) struct HandlerLoop<R> {
    handlers: Handlers,
    events: mpsc::Receiver<Arc<Event>>,
    identity: Rc<SelfIdentity>,
    responder: R,
}

impl Handlers {
    /// The queue and the loop that runs the scripts. Spawn [`HandlerLoop::run`].
    pub(crate) fn new<R: Responder>(
        list: Vec<EventHandler>,
        identity: Rc<SelfIdentity>,
        responder: R,
        log: Log,
    ) -> (Handlers, HandlerLoop<R>) {
        let (queue, events) = mpsc::channel(EVENTS_WAITING_MAX);
        let list = RefCell::new(Rc::new(list));
        let shared = Shared { list, queue, lagging: Cell::new(false), running: Cell::new(None), log };
        let handlers = Handlers(Rc::new(shared));
        let handler_loop = HandlerLoop { handlers: handlers.clone(), events, identity, responder };
        (handlers, handler_loop)
    }

    /// Replaces the list of handlers, from the next event on.
    pub(crate) fn replace(&self, list: Vec<EventHandler>) {
        *self.0.list.borrow_mut() = Rc::new(list);
    }

    /// Whether that process is the script that runs.
    #[cfg(unix)]
    pub(crate) fn is_running(&self, process: u32) -> bool {
        self.0.running.get() == Some(process)
    }

    /// Queues an event. Never waits: an event is dropped if the queue is full; the first of them gives a warning.
    pub(crate) fn offer(&self, event: &Arc<Event>) {
        if self.0.list.borrow().is_empty() {
            return;
        }
        let full = self.0.queue.try_send(event.clone()).is_err();
        if full && !self.0.lagging.replace(true) {
            let text = format!(
                "Event handlers are slow: {EVENTS_WAITING_MAX} events are queued, dropping further ones"
            );
            self.0.log.add(Level::Warn, "agent", text);
        } else if !full {
            self.0.lagging.set(false);
        }
    }
}

impl<R: Responder> HandlerLoop<R> {
    /// Runs the scripts of each event in configured order, one after the other, until the agent ends.
    pub(crate) async fn run(mut self) {
        while let Some(event) = self.events.recv().await {
            let list = self.handlers.0.list.borrow().clone();
            for handler in list.iter().filter(|handler| handler.filter.matches(&event)) {
                if let Err(error) = self.invoke(&handler.script, &event).await {
                    let text = format!("Error invoking script '{}': {error}", handler.script);
                    self.handlers.0.log.add(Level::Err, "agent", text);
                }
            }
        }
    }

    async fn invoke(&self, command: &str, event: &Event) -> Result<(), String> {
        let Shared { log, running, .. } = &*self.handlers.0;
        let slow = async {
            tokio::time::sleep(SLOW_AFTER).await;
            let text = format!("Script '{command}' slow, execution exceeding {}s", SLOW_AFTER.as_secs());
            log.add(Level::Warn, "agent", text);
            std::future::pending::<()>().await;
        };
        let outcome = tokio::select! {
            outcome = script::run(command, event, &self.identity, running) => outcome,
            () = slow => unreachable!("the slow warning never ends"),
        };
        let outcome = outcome.map_err(|error| error.to_string())?;
        let text = format!(
            "Event '{}' script output: {}",
            script::event_word(event),
            String::from_utf8_lossy(&outcome.output)
        );
        log.add(Level::Debug, "agent", text);
        if outcome.held_open {
            let text = format!(
                "Script '{command}' left a process behind that keeps its output open, closed it after {}s",
                script::OUTPUT_AFTER_END.as_secs()
            );
            log.add(Level::Warn, "agent", text);
        }
        if let Some(failure) = outcome.failure {
            return Err(failure);
        }
        if let Event::Query { token, name, .. } = event
            && !outcome.output.is_empty()
            && let Err(error) = self.responder.respond(*token, outcome.output.into()).await
        {
            // Serf's words, its "query: " and "key query" included: operators search for them.
            let text = format!(
                "Failed to respond to query 'query: {name}': failed to respond to key query: {error}"
            );
            log.add(Level::Warn, "agent", text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Instant;

    use bytes::Bytes;
    use thane_engine::command::QueryToken;
    use thane_engine::wire::LamportTime;

    use super::*;

    #[derive(Clone, Default)]
    struct Answers(Rc<RefCell<Vec<(QueryToken, Bytes)>>>);

    impl Responder for Answers {
        async fn respond(&self, query: QueryToken, payload: Bytes) -> Result<(), String> {
            self.0.borrow_mut().push((query, payload));
            Ok(())
        }
    }

    fn identity() -> Rc<SelfIdentity> {
        Rc::new(SelfIdentity { name: "s1".to_owned(), tags: RefCell::default() })
    }

    fn user(payload: &'static str) -> Event {
        Event::User {
            ltime: LamportTime(7),
            name: "deploy".to_owned(),
            payload: Bytes::from_static(payload.as_bytes()),
            coalesce: false,
        }
    }

    fn query(token: u64) -> Event {
        Event::Query {
            token: QueryToken(token),
            ltime: LamportTime(9),
            name: "load".to_owned(),
            payload: Bytes::new(),
            source_node: "n".to_owned(),
            timeout: Duration::from_secs(9),
        }
    }

    /// Runs the handlers over the events; returns the answers and the log.
    fn run(specs: &[&str], events: Vec<Event>) -> (Vec<(QueryToken, Bytes)>, Vec<String>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let log = Log::new(Level::Err);
        let answers = Answers::default();
        // The last event's handler fails, which the log shows once everything before it has run.
        let specs = specs.iter().copied().chain(["user:last=exit 77"]);
        let list = specs.flat_map(|spec| EventHandler::parse(spec).unwrap()).collect();
        let (handlers, handler_loop) = Handlers::new(list, identity(), answers.clone(), log.clone());
        let last = Event::User {
            ltime: LamportTime(1),
            name: "last".to_owned(),
            payload: Bytes::new(),
            coalesce: false,
        };
        for event in events.into_iter().chain([last]) {
            handlers.offer(&Arc::new(event));
        }
        let ended = || {
            log.subscribe("t", Level::Err).backlog.iter().any(|line| line.text.ends_with("exit status 77"))
        };
        tokio::task::LocalSet::new().block_on(&runtime, async {
            // The loop holds a sender of its own queue, so it never ends by itself.
            let task = tokio::task::spawn_local(handler_loop.run());
            let started = Instant::now();
            while !ended() {
                assert!(started.elapsed() < Duration::from_secs(60), "handlers did not end");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            task.abort();
        });
        let lines = log.subscribe("t", Level::Trace).backlog.iter().map(|line| line.text.clone()).collect();
        (answers.0.borrow().clone(), lines)
    }

    #[test]
    fn specs_are_split_at_the_first_equals_sign() {
        let handlers = EventHandler::parse("member-join,user:a=x.sh --k=v").unwrap();
        assert_eq!(handlers.len(), 2);
        assert_eq!(handlers[0].script, "x.sh --k=v");
        assert_eq!(EventHandler::parse("x.sh").unwrap()[0].filter.info_key(), "*:");
        assert_eq!(
            EventHandler::parse("bogus=x.sh"),
            Err("Invalid event script: Event 'bogus' invoking 'x.sh'".to_owned())
        );
    }

    #[test]
    fn answers_with_merged_output_on_success_only() {
        let (answers, log) =
            run(&["query=echo out; echo err >&2", "query=echo no; exit 3", "query=cat"], vec![query(4)]);
        assert_eq!(answers, vec![(QueryToken(4), Bytes::from_static(b"out\nerr\n"))]);
        assert!(
            log.iter().any(|line| line.ends_with("Error invoking script 'echo no; exit 3': exit status 3"))
        );
    }

    #[test]
    fn keeps_the_last_8_kib_and_survives_a_script_that_reads_nothing() {
        let big = Event::User {
            ltime: LamportTime(1),
            name: "big".to_owned(),
            payload: Bytes::from(vec![b'x'; 1 << 20]),
            coalesce: false,
        };
        let (answers, _) = run(&["query=seq 1 5000", "user:big=true"], vec![big, query(1)]);
        let output = &answers[0].1;
        assert_eq!(output.len(), 8192);
        assert!(output.ends_with(b"4999\n5000\n"));
    }

    #[test]
    fn killed_script_is_logged_and_the_next_event_runs() {
        let (answers, log) = run(&["user=kill -9 $$", "query=echo here"], vec![user(""), query(2)]);
        assert_eq!(answers.len(), 1);
        assert!(log.iter().any(|line| line.contains("ended by signal 9")), "{log:?}");
    }

    #[test]
    fn a_process_that_a_script_leaves_behind_does_not_hold_up_its_answer_and_the_next_event() {
        let scripts = ["query=sleep 300 & echo $!", "user:deploy=echo next >&2; exit 4"];
        let (answers, log) = run(&scripts, vec![query(3), user("")]);
        let left_behind = String::from_utf8(answers[0].1.to_vec()).unwrap();
        let killed = std::process::Command::new("kill").arg(left_behind.trim()).status().unwrap();
        assert!(killed.success(), "{left_behind:?} was waited for");
        assert!(log.iter().any(|line| line.contains("left a process behind that keeps its output open")));
        assert!(log.iter().any(|line| line.ends_with("exit status 4")), "{log:?}");
    }

    #[test]
    fn slow_script_is_logged_once() {
        let (_, log) = run(&["user:deploy=sleep 1.3"], vec![user("")]);
        let slow = log.iter().filter(|line| line.contains("Script 'sleep 1.3' slow, execution exceeding 1s"));
        assert_eq!(slow.count(), 1);
    }
}
