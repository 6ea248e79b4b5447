//! The known measures and curves: one id, title and unit for the same thing in every report.

use super::schema::{Better, Curve, Line, Measure, Scale, rounded};

/// A scalar measure that several instruments have.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct MeasureKind {
    /// The same in every report.
    pub id: &'static str,
    /// The row in tables.
    pub title: &'static str,
    /// The unit; empty for counts.
    pub unit: &'static str,
    /// Which values are better.
    pub better: Better,
}

impl MeasureKind {
    /// One value of this kind.
    pub fn value(&self, value: f64) -> Measure {
        self.values(vec![value])
    }

    /// Values of this kind, rounded to six digits.
    pub fn values(&self, values: Vec<f64>) -> Measure {
        let MeasureKind { id, title, unit, better } = *self;
        let values = values.into_iter().map(rounded).collect();
        Measure { id: id.to_owned(), title: title.to_owned(), unit: unit.to_owned(), better, values }
    }
}

/// A curve that several instruments have.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct CurveKind {
    /// The same in every report.
    pub id: &'static str,
    /// The title of the chart.
    pub title: &'static str,
    /// Label and unit of the horizontal axis.
    pub x: &'static str,
    /// The scale of the horizontal axis.
    pub x_scale: Scale,
    /// Label and unit of the vertical axis.
    pub y: &'static str,
}

impl CurveKind {
    /// A curve of this kind, of that run.
    pub fn curve(&self, run: usize, lines: Vec<Line>) -> Curve {
        let CurveKind { id, title, x, x_scale, y } = *self;
        Curve {
            id: id.to_owned(),
            title: title.to_owned(),
            x: x.to_owned(),
            x_scale,
            y: y.to_owned(),
            run,
            lines,
        }
    }
}

macro_rules! measures {
    ($($(#[$doc:meta])* $name:ident = ($id:literal, $title:literal, $unit:literal, $better:ident);)*) => {
        $($(#[$doc])* pub const $name: MeasureKind =
            MeasureKind { id: $id, title: $title, unit: $unit, better: Better::$better };)*
        /// All kinds of measures, in the order of tables.
        pub const MEASURES: &[MeasureKind] = &[$($name),*];
    };
}

measures! {
    /// From the first start to the moment when every node knows all others as alive.
    FULL_VIEWS = ("views.full", "full views", "s", Lower);
    /// From a node's start to each other's knowledge of it, half of them.
    JOIN_P50 = ("join.p50", "join known: p50", "s", Lower);
    /// The same, 99 %.
    JOIN_P99 = ("join.p99", "join known: p99", "s", Lower);
    /// The same, all.
    JOIN_ALL = ("join.all", "join known: all", "s", Lower);
    /// From a user event's start to its delivery, half of the deliveries.
    EVENT_P50 = ("event.p50", "event: p50", "s", Lower);
    /// The same, 99 %.
    EVENT_P99 = ("event.p99", "event: p99", "s", Lower);
    /// The same, 99.9 %.
    EVENT_P999 = ("event.p999", "event: p99.9", "s", Lower);
    /// The same, 99.99 %.
    EVENT_P9999 = ("event.p9999", "event: p99.99", "s", Lower);
    /// The same, all.
    EVENT_ALL = ("event.all", "event: all", "s", Lower);
    /// Deliveries of user events that did not happen.
    EVENT_MISSED = ("event.missed", "event: deliveries missed", "", Lower);
    /// Deliveries of one event twice or more.
    EVENT_REPEATED = ("event.repeated", "event: deliveries repeated", "", Lower);
    /// Datagrams that carried an event to a node, per node.
    EVENT_COPIES = ("event.copies", "event: copies per node", "", Lower);
    /// From a query to its acks, half of them.
    QUERY_P50 = ("query.p50", "query acked: p50", "s", Lower);
    /// The same, 99 %.
    QUERY_P99 = ("query.p99", "query acked: p99", "s", Lower);
    /// The same, all.
    QUERY_ALL = ("query.all", "query acked: all", "s", Lower);
    /// From a crash to the first suspicion.
    CRASH_SUSPECTED = ("crash.suspected", "crash: first suspicion", "s", Lower);
    /// From a crash to the first node that knows it.
    CRASH_FIRST = ("crash.first", "crash: known to the first", "s", Lower);
    /// From a crash to half of the nodes.
    CRASH_P50 = ("crash.p50", "crash known: p50", "s", Lower);
    /// From a crash to 99 % of the nodes.
    CRASH_P99 = ("crash.p99", "crash known: p99", "s", Lower);
    /// From a crash to all nodes.
    CRASH_ALL = ("crash.all", "crash known: all", "s", Lower);
    /// From a graceful leave to half of the nodes.
    LEAVE_P50 = ("leave.p50", "leave known: p50", "s", Lower);
    /// From a graceful leave to 99 % of the nodes.
    LEAVE_P99 = ("leave.p99", "leave known: p99", "s", Lower);
    /// From a graceful leave to all nodes.
    LEAVE_ALL = ("leave.all", "leave known: all", "s", Lower);
    /// From the end of the faults to equal views everywhere.
    SETTLED = ("views.settled", "views equal after the faults", "s", Lower);
    /// Running members without a fault that a node declared or heard as failed.
    FALSE_FAILURES = ("false.healthy", "false failures of healthy members", "", Lower);
    /// The same, at nodes without a fault.
    FALSE_AT_HEALTHY = ("false.at-healthy", "false failures at healthy members", "", Lower);
    /// Running members with a fault that a node declared or heard as failed.
    FALSE_SICK = ("false.faulty", "failures of faulty members that run", "", Neither);
    /// Time that threads waited for a processor, per second of the run.
    RUN_QUEUE = ("machine.run-queue", "run-queue delay", "ms/s", Lower);
    /// Datagrams sent.
    PACKETS_SENT = ("traffic.packets", "datagrams per node and second", "/s", Lower);
    /// Bytes of datagrams sent.
    BYTES_SENT = ("traffic.bytes", "datagram bytes per node and second", "B/s", Lower);
    /// Bytes written to streams.
    STREAM_BYTES = ("traffic.streams", "stream bytes per node and second", "B/s", Lower);
    /// Bytes written to streams if LZW compressed them, estimated from samples.
    STREAM_BYTES_LZW = ("traffic.streams-lzw", "stream bytes with LZW per node and second", "B/s", Lower);
    /// Datagrams sent while nothing happens.
    IDLE_PACKETS = ("idle.packets", "idle: datagrams per node and second", "/s", Lower);
    /// Their bytes.
    IDLE_BYTES = ("idle.bytes", "idle: datagram bytes per node and second", "B/s", Lower);
    /// Processor time while nothing happens.
    IDLE_CPU = ("idle.cpu", "idle: CPU per node and minute", "ms", Lower);
    /// Processor time until full views.
    JOIN_CPU = ("join.cpu", "full views: CPU per node", "ms", Lower);
    /// Datagrams that the kernel dropped at full sockets.
    KERNEL_DROPS = ("drops.kernel", "datagrams dropped by the kernel", "", Lower);
    /// Inputs that nodes refused.
    REFUSED = ("drops.refused", "refused inputs", "", Lower);
    /// Datagrams that could not be sent.
    UNSENT = ("drops.unsent", "datagrams not sent", "", Lower);
    /// The longest queue of intents at a node.
    QUEUE_INTENTS = ("queue.intents", "longest queue: intents", "", Lower);
    /// The longest queue of queries at a node.
    QUEUE_QUERIES = ("queue.queries", "longest queue: queries", "", Lower);
    /// The longest queue of user events at a node.
    QUEUE_EVENTS = ("queue.events", "longest queue: events", "", Lower);
    /// Resident memory.
    MEMORY = ("memory.rss", "resident memory", "MB", Lower);
    /// Peak of resident memory.
    MEMORY_PEAK = ("memory.peak", "peak of resident memory", "MB", Lower);
    /// Processor time of the instrument and what runs in it.
    CPU_SECONDS = ("machine.cpu", "processor time", "s", Lower);
    /// Real time.
    REAL_SECONDS = ("machine.seconds", "real time", "s", Neither);
}

macro_rules! curves {
    ($($(#[$doc:meta])* $name:ident = ($id:literal, $title:literal, $x:literal, $scale:ident, $y:literal);)*) => {
        $($(#[$doc])* pub const $name: CurveKind =
            CurveKind { id: $id, title: $title, x: $x, x_scale: Scale::$scale, y: $y };)*
        /// All kinds of curves, in the order of pages.
        pub const CURVES: &[CurveKind] = &[$($name),*];
    };
}

curves! {
    /// Members that the nodes know as alive, of all that run.
    MEMBERS_KNOWN = ("members-known", "Members known", "seconds", Log, "share of all views, %");
    /// Deliveries of user events by time since each was sent.
    EVENT_REACH = ("event-reach", "Reach of a user event", "seconds since it was sent", Log, "share of the nodes, %");
    /// For each user event of a stream, the time to p50, p99, p99.9 and all.
    EVENT_TIMES = ("event-times", "User events over time", "seconds", Linear, "seconds to reach");
    /// Acks of queries by time since each was asked.
    QUERY_REACH = ("query-reach", "Acks of a query", "seconds since it was asked", Log, "share of the acks, %");
    /// Nodes that know of a crash by time since it.
    CRASH_REACH = ("crash-reach", "A crash known", "seconds since the crash", Linear, "share of the nodes, %");
    /// Nodes that know of a leave by time since it.
    LEAVE_REACH = ("leave-reach", "A leave known", "seconds since the leave", Log, "share of the nodes, %");
    /// Nodes that know of a join by time since the start of the joiner.
    JOIN_REACH = ("join-reach", "A join known", "seconds since the start", Linear, "share of the nodes, %");
    /// Bytes sent by kind.
    BYTES = ("bytes", "Bytes sent", "seconds", Linear, "bytes per node and second");
    /// Packets sent by kind.
    PACKETS = ("packets", "Packets sent", "seconds", Linear, "packets per node and second");
    /// Processor time.
    CPU = ("cpu", "Processor time", "seconds", Linear, "% of one processor");
    /// Resident memory.
    RSS = ("memory", "Resident memory", "seconds", Linear, "MB");
    /// False failures so far, and the run-queue delay of the machine.
    FALSE_OVER_TIME = ("false-failures", "False failures so far", "seconds", Linear, "members");
    /// Run-queue delay.
    RUN_QUEUE_DELAY = ("run-queue", "Run-queue delay", "seconds", Linear, "ms of waiting per second");
    /// The longest queue of broadcasts at any node.
    QUEUES = ("queues", "Longest queues", "seconds", Linear, "queued broadcasts");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_and_titles_differ() {
        let ids = MEASURES.iter().map(|kind| kind.id).chain(CURVES.iter().map(|kind| kind.id));
        assert_eq!(ids.collect::<BTreeSet<_>>().len(), MEASURES.len() + CURVES.len());
        assert_eq!(MEASURES.iter().map(|kind| kind.title).collect::<BTreeSet<_>>().len(), MEASURES.len());
    }
}
