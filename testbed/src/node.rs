//! An agent of a cluster under test, and what is known about it.

use std::time::{Duration, Instant};

use crate::backend::Placed;
use crate::condition::History;
use crate::images::Software;
use crate::meter::{Meter, Reading};

/// An agent of the cluster.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) software: Software,
    pub(crate) is_seed: bool,
    /// Number of its address.
    pub(crate) place: u32,
    pub(crate) placed: Option<Placed>,
    pub(crate) history: History,
    /// When it was a member with a full view: from, and until it was ended.
    pub(crate) memberships: Vec<(Instant, Option<Instant>)>,
    /// Its counters when they were last read.
    pub(crate) last: Option<Reading>,
    pub(crate) has_container: bool,
    pub(crate) has_left: bool,
}

impl Node {
    /// The agent of that number, not started.
    pub(crate) fn new(number: usize, software: Software, is_seed: bool, place: u32) -> Node {
        Node {
            name: format!("n{:02}", number + 1),
            software,
            is_seed,
            place,
            placed: None,
            history: History::default(),
            memberships: Vec::new(),
            last: None,
            has_container: false,
            has_left: false,
        }
    }

    /// Reads its counters. What it used since they were last read, `span` ago; none the first time, and where it does
    /// not run.
    pub(crate) fn sample(&mut self, now: Instant, span: Duration) -> Option<Sample> {
        let runs = self.history.now().runs;
        let meter = self.placed.as_ref().filter(|_| runs).and_then(|placed| placed.meter.as_ref());
        let reading = meter.and_then(Meter::read);
        let before = std::mem::replace(&mut self.last, reading);
        let (before, reading) = (before?, reading?);
        let used = Reading {
            sent_bytes: reading.sent_bytes.saturating_sub(before.sent_bytes),
            sent_packets: reading.sent_packets.saturating_sub(before.sent_packets),
            cpu_ns: reading.cpu_ns.saturating_sub(before.cpu_ns),
            rss_bytes: reading.rss_bytes,
        };
        Some(Sample { at: now, span, software: self.software, used })
    }
}

/// What an agent used in a span.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) span: Duration,
    pub(crate) software: Software,
    pub(crate) used: Reading,
}

/// Which agents there are.
#[derive(Clone, Debug)]
pub(crate) struct Make {
    /// Share of Serf agents, 0 to 1.
    pub(crate) serf_share: f64,
    /// Further settings of Thane's agents, a JSON object.
    pub(crate) thane_config: Option<String>,
}

impl Make {
    /// The software of the agent of that number: kinds alternate evenly.
    pub(crate) fn software(&self, number: usize) -> Software {
        let until = |number: usize| (number as f64 * self.serf_share).floor();
        if until(number + 1) > until(number) { Software::Serf } else { Software::Thane }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_alternate_by_their_share() {
        let kinds = |serf_share: f64| {
            let make = Make { serf_share, thane_config: None };
            let letter = |number| if make.software(number) == Software::Serf { 'S' } else { 't' };
            (0..10).map(letter).collect::<String>()
        };
        assert_eq!(kinds(0.0), "tttttttttt");
        assert_eq!(kinds(1.0), "SSSSSSSSSS");
        assert_eq!(kinds(0.5), "tStStStStS");
        assert_eq!(kinds(0.2), "ttttSttttS");
    }
}
