//! The HTTP port of the demo: its first agent in a browser.

use std::fmt::Display;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use thane_engine::api::Handle;
use thane_engine::event::Event;
use tokio::sync::broadcast;

use super::cluster::Cluster;
use crate::clients::Guesses;
use crate::http::{self, HttpCounters, Severity, Site};

struct First {
    handle: Handle,
    events: broadcast::Sender<Arc<Event>>,
    guesses: Rc<Guesses>,
    counters: HttpCounters,
    driver: (String, String),
}

/// Listens on this address and serves it until the demo ends.
///
/// # Errors
/// The address can't be bound.
pub(super) async fn serve(addr: &str, cluster: &Cluster) -> Result<SocketAddr, String> {
    let failed = |error: std::io::Error| format!("can't listen on {addr} for HTTP: {error}");
    let listener = tokio::net::TcpListener::bind(addr).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let (handle, events) = cluster.first();
    let site = First {
        handle,
        events,
        guesses: Guesses::new(drop),
        counters: HttpCounters::default(),
        driver: (cluster.driver(), cluster.driver_reason().to_owned()),
    };
    tokio::task::spawn_local(http::serve(listener.into(), None, Rc::new(site)));
    Ok(bound)
}

impl Site for First {
    fn handle(&self) -> &Handle {
        &self.handle
    }

    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    fn token(&self) -> &str {
        ""
    }

    fn guesses(&self) -> &Rc<Guesses> {
        &self.guesses
    }

    fn counters(&self) -> &HttpCounters {
        &self.counters
    }

    fn has_joined(&self) -> bool {
        true
    }

    fn driver(&self) -> (&str, &str) {
        (&self.driver.0, &self.driver.1)
    }

    fn log(&self, _: Severity, _: &dyn Display) {}

    fn stop(&self) {}
}
