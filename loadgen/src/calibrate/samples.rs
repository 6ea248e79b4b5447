//! The values of one side of the comparison: for each row one value of each run, event or kill.

use std::collections::BTreeMap;

use thane_engine::sim::Delays;

use super::capture::{Counts, OTHER};
use super::options::Options;
use crate::report::kinds::{self, CurveKind};
use crate::report::{Better, Curve, Line, Measure};
use crate::spread::Spread;

/// Bytes of the IPv4 and UDP headers of a datagram.
const HEADERS: u64 = 28;

/// A row of the table, and a measure of the report.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    Datagrams,
    DatagramBytes,
    Pings,
    PingBytes,
    Acks,
    AckBytes,
    Others,
    Streams,
    StreamBytes,
    EventHalf,
    EventMost,
    EventAll,
    EventMissed,
    Suspected,
    FirstFailed,
    AllFailed,
    FailedMissed,
}

impl Row {
    /// The row as a measure with these values. Rows that other instruments have too are of the known kinds.
    pub(crate) fn measure(self, values: Vec<f64>) -> Measure {
        let own = |id: &str, unit: &str| Measure {
            id: id.to_owned(),
            title: self.name().to_owned(),
            unit: unit.to_owned(),
            better: Better::Lower,
            values: values.clone(),
        };
        match self {
            Row::Datagrams => kinds::IDLE_PACKETS.values(values),
            Row::DatagramBytes => own("idle.bytes-on-wire", "B/s"),
            Row::Pings => own("idle.packets.ping", "/s"),
            Row::PingBytes => own("idle.ping-bytes", "B"),
            Row::Acks => own("idle.packets.ack", "/s"),
            Row::AckBytes => own("idle.ack-bytes", "B"),
            Row::Others => own("idle.packets.other", "/s"),
            Row::Streams => own("idle.push-pulls", "/min"),
            Row::StreamBytes => own("idle.stream-bytes", "B/s"),
            Row::EventHalf => kinds::EVENT_P50.values(values),
            Row::EventMost => kinds::EVENT_P99.values(values),
            Row::EventAll => kinds::EVENT_ALL.values(values),
            Row::EventMissed => kinds::EVENT_MISSED.values(values),
            Row::Suspected => kinds::CRASH_SUSPECTED.values(values),
            Row::FirstFailed => kinds::CRASH_FIRST.values(values),
            Row::AllFailed => kinds::CRASH_ALL.values(values),
            Row::FailedMissed => own("crash.missed", ""),
        }
    }

    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Row::Datagrams => "idle: datagrams per node and s",
            Row::DatagramBytes => "idle: their bytes per node and s, headers included",
            Row::Pings => "idle: pings per node and s",
            Row::PingBytes => "idle: bytes of a ping, headers not included",
            Row::Acks => "idle: acks per node and s",
            Row::AckBytes => "idle: bytes of an ack, headers not included",
            Row::Others => "idle: other datagrams per node and s",
            Row::Streams => "idle: push/pulls begun per node and minute",
            Row::StreamBytes => "idle: stream bytes per node and s, headers not included",
            Row::EventHalf => "event: p50, s",
            Row::EventMost => "event: p99, s",
            Row::EventAll => "event: all, s",
            Row::EventMissed => "event: agents not reached",
            Row::Suspected => "kill: first suspicion, s",
            Row::FirstFailed => "kill: first reported as failed, s",
            Row::AllFailed => "kill: reported as failed by all, s",
            Row::FailedMissed => "kill: agents that did not report it",
        }
    }
}

/// The values of all rows, and the delays for curves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    pub(crate) rows: BTreeMap<Row, Spread>,
    /// Seconds from events to deliveries, and from kills to reports, at each hundredth of each.
    events: Vec<f64>,
    kills: Vec<f64>,
}

impl Samples {
    /// One more value.
    pub(crate) fn add(&mut self, row: Row, value: f64) {
        self.rows.entry(row).or_default().add(value);
    }

    /// Traffic of an idle cluster.
    pub(crate) fn add_idle(&mut self, counts: &Counts, options: &Options) {
        let seconds = options.nodes() as f64 * options.idle().as_secs_f64();
        let of = |kind: &str| counts.datagrams.get(kind).copied().unwrap_or_default();
        let packets: u64 = counts.datagrams.values().map(|count| count.packets).sum();
        let bytes: u64 = counts.datagrams.values().map(|count| count.bytes).sum();
        self.add(Row::Datagrams, packets as f64 / seconds);
        self.add(Row::DatagramBytes, (bytes + packets * HEADERS) as f64 / seconds);
        for (kind, often, size) in [("ping", Row::Pings, Row::PingBytes), ("ack", Row::Acks, Row::AckBytes)] {
            self.add(often, of(kind).packets as f64 / seconds);
            self.add(size, of(kind).bytes as f64 / of(kind).packets.max(1) as f64);
        }
        self.add(Row::Others, of(OTHER).packets as f64 / seconds);
        self.add(Row::Streams, counts.opened as f64 / seconds * 60.0);
        self.add(Row::StreamBytes, counts.streams.bytes as f64 / seconds);
    }

    /// One event: when each agent delivered it, its sender too.
    pub(crate) fn add_event(&mut self, delays: &Delays, options: &Options) {
        self.events.extend(hundredths(delays));
        self.add(Row::EventMissed, (options.nodes() as u64).saturating_sub(delays.count()) as f64);
        for (row, share) in [(Row::EventHalf, 0.5), (Row::EventMost, 0.99), (Row::EventAll, 1.0)] {
            if let Some(delay) = delays.quantile(share) {
                self.add(row, delay.as_secs_f64());
            }
        }
    }

    /// One kill: when it was first suspected, and when the others reported it.
    pub(crate) fn add_kill(&mut self, suspected: &Delays, told: &Delays, options: &Options) {
        self.kills.extend(hundredths(told));
        let missed = (options.nodes() as u64 - 1).saturating_sub(told.count());
        self.add(Row::FailedMissed, missed as f64);
        for (row, delays, share) in
            [(Row::Suspected, suspected, 0.0), (Row::FirstFailed, told, 0.0), (Row::AllFailed, told, 1.0)]
        {
            if let Some(delay) = delays.quantile(share) {
                self.add(row, delay.as_secs_f64());
            }
        }
    }
}

impl Samples {
    /// The reach of all events and of all kills together.
    pub(crate) fn curves(&self) -> Vec<Curve> {
        let curve = |kind: &CurveKind, delays: &[f64]| {
            let mut sorted = delays.to_vec();
            sorted.sort_by(f64::total_cmp);
            let count = sorted.len() as f64;
            let points = sorted.iter().enumerate().map(|(n, at)| (*at, 100.0 * (n + 1) as f64 / count));
            let line = Line::new("all", points.collect());
            (!sorted.is_empty()).then(|| kind.curve(0, vec![line]))
        };
        let curves = [curve(&kinds::EVENT_REACH, &self.events), curve(&kinds::CRASH_REACH, &self.kills)];
        curves.into_iter().flatten().collect()
    }
}

/// The delay of each hundredth, seconds.
fn hundredths(delays: &Delays) -> impl Iterator<Item = f64> + '_ {
    (1..=100).filter_map(|part| Some(delays.quantile(f64::from(part) / 100.0)?.as_secs_f64()))
}
