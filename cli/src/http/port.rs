//! The port: its clients, and the way of a request to its response.

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use thane_engine::tls::Current;

use super::body::{self, InUse, Refusal, Reply};
use super::counters::add;
use super::io::{Clock, Connection};
use super::ring::Ring;
use super::route::{Endpoint, parameters};
use super::site::{Severity, Site};
use super::{commands, events, guard, health, members, metrics, page, query};
use crate::clients::{self, CONNECTIONS_MAX, Client, Happened, Listener, Stream};

/// Longest wait for the head of a request, the first one or the next.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// Longest head of a request, bytes, and its most lines.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// What the connections of a port share.
pub(super) struct Port {
    pub(super) site: Rc<dyn Site>,
    pub(super) ring: Ring,
    /// Open event streams.
    pub(super) streams: Rc<Cell<usize>>,
    /// Queries under way.
    pub(super) queries: Rc<Cell<usize>>,
}

/// One of a limited number; given back when dropped.
pub(super) struct Slot(Rc<Cell<usize>>);

impl Slot {
    pub(super) fn take(taken: &Rc<Cell<usize>>, max: usize) -> Option<Slot> {
        (taken.get() < max).then(|| {
            taken.set(taken.get() + 1);
            Slot(taken.clone())
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Accepts and serves clients until the node ends. Dropping the future closes their connections. Needs a `LocalSet`.
pub(crate) async fn serve(listener: Listener, tls: Option<Current>, site: Rc<dyn Site>) {
    let port = Rc::new(Port { ring: Ring::new(), streams: Rc::default(), queries: Rc::default(), site });
    let (teller, server) = (port.clone(), port.clone());
    let serving = clients::serve(
        listener,
        tls,
        move |happened| tell(&*teller.site, happened),
        move |stream, client| connection(server.clone(), stream, client),
    );
    tokio::select! {
        () = port.ring.record(port.site.events()) => {}
        () = serving => {}
    }
}

fn tell(site: &dyn Site, happened: Happened) {
    let counters = site.counters();
    match happened {
        Happened::Accepted(_) => add(&counters.connections, 1),
        Happened::Refused { peer, open, first } => {
            add(&counters.refused, 1);
            if first {
                let text = format!("Refusing client {peer}: {open} of {CONNECTIONS_MAX} are connected");
                site.log(Severity::Warn, &text);
            }
        }
        Happened::ClosedIdle(peer) => {
            add(&counters.closed_idle, 1);
            site.log(Severity::Debug, &format_args!("Closing idle client {peer}, because others connect"));
        }
        Happened::NoTls { peer, why, first } => {
            add(&counters.no_tls, 1);
            if first {
                site.log(Severity::Warn, &format_args!("No TLS with client {peer}: {why}"));
            }
        }
        Happened::Failed(error) => {
            site.log(Severity::Error, &format_args!("Failed to accept client: {error}"));
        }
    }
}

/// What belongs to one connection.
struct Session {
    port: Rc<Port>,
    client: Client,
    /// Wrong tokens so far.
    wrong: Cell<u32>,
    /// A leave has finished: the agent ends once the connection is closed.
    left: Cell<bool>,
}

async fn connection(port: Rc<Port>, stream: Stream, client: Client) {
    // An error means that the connection is broken, which the first read reports.
    let _ = stream.prepare();
    let stalled = Rc::new(Cell::new(false));
    let io = Connection::new(stream, stalled.clone());
    let peer = client.peer;
    let session = Rc::new(Session { port, client, wrong: Cell::default(), left: Cell::default() });
    let answer = {
        let session = session.clone();
        service_fn(move |request| {
            let session = session.clone();
            async move { Ok::<Reply, Infallible>(session.answer(request).await) }
        })
    };
    let served = hyper::server::conn::http1::Builder::new()
        .timer(Clock)
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .half_close(false)
        .serve_connection(io, answer)
        .await;
    let site = &*session.port.site;
    if let Err(error) = served {
        let counters = site.counters();
        let counter = if stalled.get() {
            Some(&counters.stalled)
        } else if error.is_timeout() {
            Some(&counters.timeouts)
        } else if error.is_parse_too_large() {
            add(&counters.requests[2], 1);
            Some(&counters.too_large)
        } else if error.is_parse() {
            add(&counters.requests[2], 1);
            Some(&counters.malformed)
        } else {
            // The client closed the connection in the middle.
            None
        };
        if let Some(counter) = counter {
            add(counter, 1);
            site.log(Severity::Debug, &format_args!("Closing client {peer}: {error}"));
        }
    }
    if session.left.get() {
        site.stop();
    }
}

impl Session {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let in_use = InUse::new(&self.client.standing);
        let mut reply = self.dispatch(request).await.unwrap_or_else(Reply::from);
        let counters = self.port.site.counters();
        counters.answered(reply.status());
        match reply.status() {
            StatusCode::PAYLOAD_TOO_LARGE => add(&counters.too_large, 1),
            StatusCode::REQUEST_TIMEOUT => add(&counters.timeouts, 1),
            _ => {}
        }
        let headers = reply.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        reply.map(|body| body.holding(in_use))
    }

    async fn dispatch(&self, request: Request<Incoming>) -> Result<Reply, Refusal> {
        let (head, body) = request.into_parts();
        let (port, site) = (&self.port, &*self.port.site);
        let endpoint = Endpoint::of(head.uri.path()).map_err(|status| match status {
            StatusCode::NOT_FOUND => body::error(status, "no such path: see docs/openapi.json"),
            _ => body::error(status, "the path is not UTF-8 in percent signs"),
        })?;
        if !endpoint.allows(&head.method) {
            let text = format!("the methods here are {}", endpoint.allowed());
            return Err(body::error(StatusCode::METHOD_NOT_ALLOWED, text).with(ALLOW, endpoint.allowed()));
        }
        if !endpoint.is_open() {
            guard::check_token(site, &self.client, &self.wrong, &head.headers).await?;
        }
        guard::check_origin(site, &head)?;
        // Whoever needs a token has shown it; health and page alone prove nothing.
        if !endpoint.is_open() || site.token().is_empty() {
            self.client.standing.proven.set(true);
        }
        let given = parameters(head.uri.query())
            .map_err(|status| body::error(status, "a parameter is not UTF-8 in percent signs"))?;
        let posted = head.method == Method::POST;
        match endpoint {
            Endpoint::Page => page::page(),
            Endpoint::Health => Ok(health::health(site, given.iter().any(|(name, _)| name == "live")).await),
            Endpoint::Metrics => metrics::metrics(site).await,
            Endpoint::Members => members::members(site, &given).await,
            Endpoint::Member(name) => members::member(site, &name).await,
            Endpoint::Coordinates => members::coordinates(port.site.clone()).await,
            Endpoint::Events if posted => events::fire(site, body).await,
            Endpoint::Events => {
                let header = head.headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default());
                let parameter = given.iter().find(|(name, _)| name == "last_event_id");
                events::stream(port, header.or(parameter.map(|(_, id)| id.as_str())))
            }
            Endpoint::Query => query::ask(port, body).await,
            Endpoint::Join => commands::join(site, body).await,
            Endpoint::Leave => {
                let mut reply = commands::leave(site, body).await?;
                self.left.set(true);
                reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                Ok(reply)
            }
            Endpoint::ForceLeave => commands::force_leave(site, body).await,
            Endpoint::Tags if posted => commands::change_tags(site, body).await,
            Endpoint::Tags => commands::tags(site).await,
            Endpoint::Keys if posted => commands::change_keys(site, body).await,
            Endpoint::Keys => commands::list_keys(site).await,
        }
    }
}
