//! Event handlers: scripts that are run for events. By default one after the other; with a concurrency, different
//! handlers run at the same time, each with one event after the other.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thane_engine::event::Event;
use thane_engine::stats::Durations;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::filter::EventFilter;
use super::identity::SelfIdentity;
use super::level::Level;
use super::log::Log;
use super::script::{self, Limits};

/// A script that runs longer is logged once.
const SLOW_AFTER: Duration = Duration::from_secs(1);
/// Events queued for slow handlers; further ones are dropped with a warning, because the engine must not wait for a
/// script.
const EVENTS_WAITING_MAX: usize = 1024;
/// With a concurrency, events queued for one handler while others run.
const OF_HANDLER_MAX: usize = 256;

/// How scripts are run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct HandlerOptions {
    /// Scripts that run at the same time, at least 1.
    pub(crate) concurrency: usize,
    /// What one of them may take.
    pub(crate) limits: Limits,
}

impl Default for HandlerOptions {
    fn default() -> HandlerOptions {
        HandlerOptions { concurrency: 1, limits: Limits::default() }
    }
}

/// What was counted of scripts.
#[derive(Debug, Default)]
pub(crate) struct HandlerCounts {
    /// Scripts that were started.
    pub(crate) runs: Cell<u64>,
    /// Those that failed, or could not be started.
    pub(crate) failures: Cell<u64>,
    /// Those that were killed because they took too long.
    pub(crate) timeouts: Cell<u64>,
    /// Events that found a queue full.
    pub(crate) dropped: Cell<u64>,
    /// Events that wait now.
    pub(crate) waiting: Cell<u64>,
    /// Time from an event to the start of each of its scripts.
    pub(crate) waited: RefCell<Durations>,
    /// How long scripts took.
    pub(crate) took: RefCell<Durations>,
    /// The process ids of the scripts that run.
    pub(crate) running: RefCell<BTreeSet<u32>>,
}

fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

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
    list: RefCell<Rc<Vec<Rc<EventHandler>>>>,
    queue: mpsc::Sender<(Instant, Arc<Event>)>,
    lagging: Cell<bool>,
    counts: Rc<HandlerCounts>,
    log: Log,
}

/// Runs the scripts of the events that [`Handlers`] queues.
pub(crate) struct HandlerLoop<R> {
    handlers: Handlers,
    events: mpsc::Receiver<(Instant, Arc<Event>)>,
    concurrency: usize,
    runner: Rc<Runner<R>>,
}

/// A script that is to be run.
struct Job {
    handler: Rc<EventHandler>,
    since: Instant,
    event: Arc<Event>,
}

/// What a run needs.
struct Runner<R> {
    identity: Rc<SelfIdentity>,
    responder: R,
    limits: Limits,
    counts: Rc<HandlerCounts>,
    log: Log,
}

fn shared(list: Vec<EventHandler>) -> Rc<Vec<Rc<EventHandler>>> {
    Rc::new(list.into_iter().map(Rc::new).collect())
}

impl Handlers {
    /// The queue and the loop that runs the scripts. Spawn [`HandlerLoop::run`].
    pub(crate) fn new<R: Responder + 'static>(
        list: Vec<EventHandler>,
        options: HandlerOptions,
        identity: Rc<SelfIdentity>,
        responder: R,
        log: Log,
    ) -> (Handlers, HandlerLoop<R>) {
        let (queue, events) = mpsc::channel(EVENTS_WAITING_MAX);
        let (list, counts) = (RefCell::new(shared(list)), Rc::new(HandlerCounts::default()));
        let runner =
            Runner { identity, responder, limits: options.limits, counts: counts.clone(), log: log.clone() };
        let handlers = Handlers(Rc::new(Shared { list, queue, lagging: Cell::new(false), counts, log }));
        let (concurrency, runner) = (options.concurrency.max(1), Rc::new(runner));
        let handler_loop = HandlerLoop { handlers: handlers.clone(), events, concurrency, runner };
        (handlers, handler_loop)
    }

    /// Replaces the list of handlers, from the next event on.
    pub(crate) fn replace(&self, list: Vec<EventHandler>) {
        *self.0.list.borrow_mut() = shared(list);
    }

    /// What was counted.
    pub(crate) fn counts(&self) -> Rc<HandlerCounts> {
        self.0.counts.clone()
    }

    /// Whether that process is a script that runs.
    #[cfg(unix)]
    pub(crate) fn is_running(&self, process: u32) -> bool {
        self.0.counts.running.borrow().contains(&process)
    }

    /// Queues an event. Never waits: an event is dropped if the queue is full; the first of them gives a warning.
    pub(crate) fn offer(&self, event: &Arc<Event>) {
        if self.0.list.borrow().is_empty() {
            return;
        }
        let queued = self.0.queue.try_send((Instant::now(), event.clone()));
        self.0.note(queued.is_ok(), EVENTS_WAITING_MAX);
    }
}

impl Shared {
    /// Counts an event that was queued or dropped; the first of several that are dropped gives a warning.
    fn note(&self, queued: bool, most: usize) {
        if queued {
            self.lagging.set(false);
            return self.counts.waiting.set(self.counts.waiting.get() + 1);
        }
        count(&self.counts.dropped);
        if !self.lagging.replace(true) {
            let text = format!("Event handlers are slow: {most} events are queued, dropping further ones");
            self.log.add(Level::Warn, "agent", text);
        }
    }
}

impl<R: Responder + 'static> HandlerLoop<R> {
    /// Runs the scripts of each event in configured order until the agent ends.
    pub(crate) async fn run(mut self) {
        let mut waiting: VecDeque<Job> = VecDeque::new();
        let mut tasks = JoinSet::new();
        let mut busy: Vec<Rc<EventHandler>> = Vec::new();
        loop {
            while tasks.len() < self.concurrency
                && let Some(place) = waiting.iter().position(|job| !busy.contains(&job.handler))
                && let Some(job) = waiting.remove(place)
            {
                let (handler, runner) = (job.handler.clone(), self.runner.clone());
                busy.push(handler.clone());
                tasks.spawn_local(async move {
                    runner.run(job).await;
                    handler
                });
            }
            // One after the other, an event waits in the queue until all scripts of the one before it have ended.
            let more = self.concurrency > 1 || (waiting.is_empty() && tasks.is_empty());
            tokio::select! {
                Some((since, event)) = self.events.recv(), if more => self.plan(since, &event, &mut waiting),
                Some(Ok(ended)) = tasks.join_next() => {
                    busy.iter().position(|handler| *handler == ended).map(|place| busy.swap_remove(place));
                }
            }
        }
    }

    /// Queues the scripts of an event. A handler that is far behind loses it; others do not.
    fn plan(&self, since: Instant, event: &Arc<Event>, waiting: &mut VecDeque<Job>) {
        let shared = &*self.handlers.0;
        shared.counts.waiting.set(shared.counts.waiting.get().saturating_sub(1));
        let list = shared.list.borrow().clone();
        for handler in list.iter().filter(|handler| handler.filter.matches(event)) {
            let room = waiting.iter().filter(|job| job.handler == *handler).count() < OF_HANDLER_MAX;
            shared.note(room, OF_HANDLER_MAX);
            if room {
                waiting.push_back(Job { handler: handler.clone(), since, event: event.clone() });
            }
        }
    }
}

impl<R: Responder> Runner<R> {
    async fn run(&self, Job { handler, since, event }: Job) {
        let counts = &*self.counts;
        counts.waiting.set(counts.waiting.get().saturating_sub(1));
        counts.waited.borrow_mut().add(since.elapsed());
        count(&counts.runs);
        let begun = Instant::now();
        let invoked = self.invoke(&handler.script, &event).await;
        counts.took.borrow_mut().add(begun.elapsed());
        if let Err(error) = invoked {
            count(&counts.failures);
            let text = format!("Error invoking script '{}': {error}", handler.script);
            self.log.add(Level::Err, "agent", text);
        }
    }

    async fn invoke(&self, command: &str, event: &Event) -> Result<(), String> {
        let Runner { log, counts, .. } = self;
        let slow = async {
            tokio::time::sleep(SLOW_AFTER).await;
            let text = format!("Script '{command}' slow, execution exceeding {}s", SLOW_AFTER.as_secs());
            log.add(Level::Warn, "agent", text);
            std::future::pending::<()>().await;
        };
        let outcome = tokio::select! {
            outcome = script::run(command, event, &self.identity, &self.limits, &counts.running) => outcome,
            () = slow => unreachable!("the slow warning never ends"),
        };
        let outcome = outcome.map_err(|error| error.to_string())?;
        let text = format!(
            "Event '{}' script output: {}",
            script::event_word(event),
            String::from_utf8_lossy(&outcome.output)
        );
        log.add(Level::Debug, "agent", text);
        if outcome.timed_out {
            count(&counts.timeouts);
        }
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
        let (answers, lines, _) = run_with(HandlerOptions::default(), specs, events);
        (answers, lines)
    }

    /// The same with options, and what was counted.
    fn run_with(
        options: HandlerOptions,
        specs: &[&str],
        events: Vec<Event>,
    ) -> (Vec<(QueryToken, Bytes)>, Vec<String>, Rc<HandlerCounts>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let log = Log::new(Level::Err);
        let answers = Answers::default();
        // The last event's handler fails, which the log shows once everything before it has run.
        let specs = specs.iter().copied().chain(["user:last=exit 77"]);
        let list = specs.flat_map(|spec| EventHandler::parse(spec).unwrap()).collect();
        let (handlers, handler_loop) = Handlers::new(list, options, identity(), answers.clone(), log.clone());
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
        (answers.0.borrow().clone(), lines, handlers.counts())
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

    #[test]
    fn a_stuck_handler_holds_up_no_other_and_each_sees_its_events_in_order() {
        let options = HandlerOptions { concurrency: 2, ..HandlerOptions::default() };
        let scripts = ["user:deploy=sleep 300", "query=sleep 0.0$((RANDOM % 9)); echo $SERF_QUERY_LTIME"];
        let events = (0..5).flat_map(|n| [user(""), query(n)]).collect();
        let (answers, _, counts) = run_with(options, &scripts, events);
        let order: Vec<u64> = answers.iter().map(|(token, _)| token.0).collect();
        assert_eq!(order, [0, 1, 2, 3, 4]);
        assert_eq!((counts.runs.get(), counts.waiting.get()), (7, 4), "four more wait for the stuck one");
        assert_eq!(counts.failures.get(), 1, "the last one's");
    }

    #[test]
    fn a_script_that_takes_too_long_is_killed_with_its_children() {
        let limits = Limits { time: Some(Duration::from_millis(300)), ..Limits::default() };
        let options = HandlerOptions { limits, ..HandlerOptions::default() };
        let scripts = ["user:deploy=trap '' TERM; sleep 300 & echo $!; wait; sleep 300", "query=echo here"];
        let (answers, log, counts) = run_with(options, &scripts, vec![user(""), query(1)]);
        assert_eq!(answers.len(), 1);
        assert_eq!((counts.timeouts.get(), counts.failures.get(), counts.runs.get()), (1, 2, 3));
        let line = log.iter().find(|line| line.contains("killed after 300ms")).unwrap();
        assert!(line.contains("Error invoking script 'trap"), "{line}");
        let output = log.iter().find_map(|line| line.split_once("script output: ")).unwrap();
        // Where nobody reaps it, a zombie is left.
        let child = std::fs::read_to_string(format!("/proc/{}/stat", output.1.trim())).unwrap_or_default();
        assert!(child.is_empty() || child.contains(") Z "), "{output:?} lives: {child}");
    }

    #[test]
    fn events_that_find_a_queue_full_are_counted() {
        let log = Log::new(Level::Err);
        let list = EventHandler::parse("user=true").unwrap();
        let options = HandlerOptions::default();
        let (handlers, _loop) = Handlers::new(list, options, identity(), Answers::default(), log);
        for _ in 0..EVENTS_WAITING_MAX + 3 {
            handlers.offer(&Arc::new(user("")));
        }
        let counts = handlers.counts();
        assert_eq!((counts.dropped.get(), counts.waiting.get()), (3, EVENTS_WAITING_MAX as u64));
    }
}
