//! What an HTTP port counts.

use std::cell::Cell;

/// What an HTTP port counts, for `info` and the metrics.
#[derive(Debug, Default)]
pub(crate) struct HttpCounters {
    /// Accepted connections.
    pub(crate) connections: Cell<u64>,
    /// Clients that were refused because too many are connected.
    pub(crate) refused: Cell<u64>,
    /// Idle connections that were closed for others.
    pub(crate) closed_idle: Cell<u64>,
    /// Clients with whom there was no TLS.
    pub(crate) no_tls: Cell<u64>,
    /// Requests by the first digit of their status, from 2 on.
    pub(crate) requests: [Cell<u64>; 4],
    /// Requests without a token where one is needed.
    pub(crate) without_token: Cell<u64>,
    /// Wrong tokens.
    pub(crate) wrong_tokens: Cell<u64>,
    /// Commands that a page of another site may have sent.
    pub(crate) cross_site: Cell<u64>,
    /// Requests with a head or a body that is too long.
    pub(crate) too_large: Cell<u64>,
    /// Connections whose request did not come in time, idle ones included.
    pub(crate) timeouts: Cell<u64>,
    /// Connections that sent something else than HTTP/1.
    pub(crate) malformed: Cell<u64>,
    /// Connections that were closed because the client read nothing.
    pub(crate) stalled: Cell<u64>,
    /// Events that readers of streams missed.
    pub(crate) events_missed: Cell<u64>,
}

/// Adds to a counter.
pub(crate) fn add(counter: &Cell<u64>, more: u64) {
    counter.set(counter.get().saturating_add(more));
}

impl HttpCounters {
    /// The counters that are no series with labels, by name and with a line of help.
    pub(crate) fn plain(&self) -> [(&'static str, &'static str, u64); 12] {
        [
            ("connections", "Accepted connections", &self.connections),
            ("refused", "Clients refused because too many are connected", &self.refused),
            ("closed_idle", "Idle connections closed for others", &self.closed_idle),
            ("no_tls", "Clients whose handshake of TLS failed", &self.no_tls),
            ("without_token", "Requests without the token that is needed", &self.without_token),
            ("wrong_tokens", "Requests with a wrong token", &self.wrong_tokens),
            (
                "cross_site",
                "Commands refused because a page of another site may have sent them",
                &self.cross_site,
            ),
            ("too_large", "Requests with a head or a body that is too long", &self.too_large),
            ("timeouts", "Connections closed because no request came in time", &self.timeouts),
            ("malformed", "Connections closed because of what is not HTTP/1", &self.malformed),
            ("stalled", "Connections closed because the client read nothing", &self.stalled),
            ("events_missed", "Events that readers of streams missed", &self.events_missed),
        ]
        .map(|(name, help, counter)| (name, help, counter.get()))
    }

    /// Requests by status class.
    pub(crate) fn requests(&self) -> [(&'static str, u64); 4] {
        let of = |place: usize| self.requests[place].get();
        [("2xx", of(0)), ("3xx", of(1)), ("4xx", of(2)), ("5xx", of(3))]
    }

    pub(super) fn answered(&self, status: hyper::StatusCode) {
        let place = usize::from(status.as_u16() / 100).saturating_sub(2);
        add(&self.requests[place.min(3)], 1);
    }
}
