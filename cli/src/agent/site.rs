//! The agent behind its HTTP port: commands go where those of RPC clients go.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use thane_engine::api::{Answers, ApiError, Handle, JoinError};
use thane_engine::command::QueryParams;
use thane_engine::event::Event;
use tokio::sync::broadcast;

use super::backend::{Backend, TagsError};
use super::level::Level;
use crate::clients::Guesses;
use crate::http::{Exposition, HttpCounters, Kind, Severity, Site, Soon, TagsRefused};

const COMPONENT: &str = "agent.http";

impl Site for Backend {
    fn handle(&self) -> &Handle {
        &self.handle
    }

    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    fn token(&self) -> &str {
        &self.auth
    }

    fn guesses(&self) -> &Rc<Guesses> {
        &self.guesses
    }

    fn counters(&self) -> &HttpCounters {
        self.http.as_ref().expect("the port is on")
    }

    fn has_joined(&self) -> bool {
        self.joined.get()
    }

    fn driver(&self) -> (&str, &str) {
        (&self.driver.0, &self.driver.1)
    }

    fn log(&self, severity: Severity, text: &dyn Display) {
        let level = match severity {
            Severity::Debug => Level::Debug,
            Severity::Warn => Level::Warn,
            Severity::Error => Level::Err,
        };
        self.log.add(level, COMPONENT, text);
    }

    fn write_metrics(&self, out: &mut Exposition) {
        for (name, help, counter) in [
            (
                "thane_rpc_refused_total",
                "RPC clients refused because too many are connected",
                &self.rpc.refused,
            ),
            ("thane_rpc_closed_idle_total", "Idle RPC connections closed", &self.rpc.closed_idle),
            ("thane_rpc_no_tls_total", "RPC clients whose handshake of TLS failed", &self.rpc.no_tls),
            ("thane_rpc_wrong_tokens_total", "Wrong tokens of RPC clients", &self.rpc.wrong_tokens),
        ] {
            out.counter(name, help, counter.get());
        }
        if let Some(mdns) = &self.mdns {
            for (name, help, count) in mdns.done() {
                out.counter(&format!("thane_mdns_{name}_total"), help, count);
            }
            out.family(
                "thane_mdns_drops_total",
                Kind::Counter,
                "Input of discovery that was refused, by reason",
            );
            for (reason, count) in mdns.drops() {
                out.sample("", &[("reason", reason)], count as f64);
            }
        }
        let of = &self.handler_counts;
        for (name, help, counter) in [
            ("thane_handler_runs_total", "Scripts started", &of.runs),
            ("thane_handler_failures_total", "Scripts that failed", &of.failures),
            ("thane_handler_timeouts_total", "Scripts killed because they took too long", &of.timeouts),
            ("thane_handler_dropped_total", "Events that slow scripts lost", &of.dropped),
        ] {
            out.counter(name, help, counter.get());
        }
        let running = of.running.borrow().len();
        out.gauge("thane_handlers_running", "Scripts that run", running as f64);
        out.gauge("thane_handlers_waiting", "Runs of scripts that wait", of.waiting.get() as f64);
        let help = "Time from an event of the node to its delivery to scripts, streams and clients";
        out.histogram("thane_event_delivery_seconds", help, &self.delivery.borrow());
        let help = "Time from an event to the start of its script";
        out.histogram("thane_handler_wait_seconds", help, &of.waited.borrow());
        out.histogram("thane_handler_duration_seconds", "How long scripts took", &of.took.borrow());
    }

    fn stop(&self) {
        self.stop.notify_one();
    }

    fn join<'a>(&'a self, addresses: &'a [String], replay: bool) -> Soon<'a, Result<usize, JoinError>> {
        Box::pin(Backend::join(self, addresses, replay))
    }

    fn leave(&self) -> Soon<'_, Result<(), ApiError>> {
        Box::pin(async {
            self.log.add(Level::Info, COMPONENT, "Graceful leave triggered");
            Backend::leave(self).await
        })
    }

    fn force_leave<'a>(&'a self, name: &'a str, prune: bool) -> Soon<'a, Result<(), ApiError>> {
        Box::pin(Backend::force_leave(self, name, prune))
    }

    fn user_event<'a>(
        &'a self,
        name: &'a str,
        payload: Bytes,
        coalesce: bool,
    ) -> Soon<'a, Result<(), ApiError>> {
        Box::pin(Backend::user_event(self, name, payload, coalesce))
    }

    fn query(&self, params: QueryParams) -> Soon<'_, Result<Answers, ApiError>> {
        Box::pin(Backend::query(self, params))
    }

    fn change_tags(
        &self,
        set: BTreeMap<String, String>,
        delete: Vec<String>,
    ) -> Soon<'_, Result<(), TagsRefused>> {
        Box::pin(async move {
            self.set_tags(set, &delete).await.map_err(|error| match error {
                TagsError::Node(error) => TagsRefused::Node(error),
                error => TagsRefused::Owner(error.to_string()),
            })
        })
    }
}
