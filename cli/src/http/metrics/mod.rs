//! `/metrics`: the numbers of an agent in Prometheus' text format. The names are stable; units are in the names. No
//! series depends on how many members there are, and no label on what peers choose.

mod exposition;
mod process;

use hyper::StatusCode;
use thane_engine::api::NodeStats;
use thane_engine::drop_reason::DropReason;
use thane_engine::io::UdpCounters;
use thane_engine::wire::keyring::BACKEND;

pub(crate) use self::exposition::{Exposition, Kind};
use super::body::{self, Body, Refusal, Reply};
use super::json::refusal;
use super::site::Site;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All numbers of the port's node, of its owner, and of the process.
pub(super) async fn metrics(site: &dyn Site) -> Result<Reply, Refusal> {
    let node = site.handle().stats().await.map_err(|error| refusal(&error))?;
    let udp = site.handle().udp_counters().await.map_err(|error| refusal(&error))?;
    let mut out = Exposition::default();
    let (driver, _) = site.driver();
    let about = [("version", env!("CARGO_PKG_VERSION")), ("driver", driver), ("cipher", BACKEND)];
    out.family("thane_build_info", Kind::Gauge, "Version, datagram driver and cipher; always 1");
    out.sample("", &about, 1.0);
    out.gauge(
        "thane_joined",
        "1 once the joins of the start have succeeded",
        f64::from(u8::from(site.has_joined())),
    );
    members(&mut out, &node);
    queues(&mut out, &node);
    protocol(&mut out, &node);
    datagrams(&mut out, &node, &udp);
    out.family("thane_drops_total", Kind::Counter, "Refused input by reason");
    for reason in DropReason::all() {
        out.sample("", &[("reason", reason.as_str())], node.protocol.drops(reason) as f64);
    }
    let help = "Events and notices that the agent was too slow for";
    out.counter("thane_outlet_dropped_total", help, node.outlet_dropped);
    let counters = site.counters();
    out.family("thane_http_requests_total", Kind::Counter, "HTTP requests by class of status");
    for (class, count) in counters.requests() {
        out.sample("", &[("status", class)], count as f64);
    }
    for (name, help, count) in counters.plain() {
        out.counter(&format!("thane_http_{name}_total"), help, count);
    }
    site.write_metrics(&mut out);
    process::write(&mut out);
    Ok(body::reply(StatusCode::OK, CONTENT_TYPE, Body::whole(out.into_text())))
}

fn members(out: &mut Exposition, node: &NodeStats) {
    let alive = node.members.saturating_sub(node.failed + node.left + node.leaving);
    out.family("thane_members", Kind::Gauge, "Listed members by status, this one included");
    for (status, count) in
        [("alive", alive), ("leaving", node.leaving), ("left", node.left), ("failed", node.failed)]
    {
        out.sample("", &[("status", status)], count as f64);
    }
    out.gauge(
        "thane_members_suspected",
        "Members that did not answer and may still refute",
        node.suspected as f64,
    );
    let help = "Local health: 0 is healthy; higher when others doubt that this agent answers in time";
    out.gauge("thane_health_score", help, f64::from(node.health_score));
    out.family("thane_lamport_time", Kind::Gauge, "Lamport clocks");
    let clocks = [("member", node.member_time), ("event", node.event_time), ("query", node.query_time)];
    for (clock, time) in clocks {
        out.sample("", &[("clock", clock)], time.0 as f64);
    }
    out.gauge("thane_encrypted", "1 if gossip is sealed", f64::from(u8::from(node.encrypted)));
    if let Some(resets) = node.coordinate_resets {
        let help = "Times that this agent's coordinate became invalid and was reset";
        out.counter("thane_coordinate_resets_total", help, resets);
    }
}

fn queues(out: &mut Exposition, node: &NodeStats) {
    let depths = [node.intent_queue, node.query_queue, node.event_queue, node.member_queue];
    let classes = ["intent", "query", "event", "member"];
    out.family("thane_queue_depth", Kind::Gauge, "Messages that are queued to be passed on, by class");
    for (class, depth) in classes.into_iter().zip(depths) {
        out.sample("", &[("class", class)], depth as f64);
    }
    out.family("thane_queue_age_seconds", Kind::Gauge, "How long the oldest queued message waits, by class");
    for (class, age) in classes.into_iter().zip(node.queue_ages) {
        out.sample("", &[("class", class)], age.as_secs_f64());
    }
}

fn protocol(out: &mut Exposition, node: &NodeStats) {
    let of = &node.protocol;
    for (name, help, count) in [
        ("thane_probes_total", "Probes started", of.probes),
        ("thane_probes_failed_total", "Probes that ended in a suspicion", of.probes_failed),
        ("thane_push_pulls_total", "Full states merged", of.push_pulls),
        ("thane_reconciliations_total", "Exchanges started because digests differed", of.reconciliations),
        ("thane_reconciled_records_total", "Records received by such exchanges", of.records_received),
        ("thane_referrals_total", "Joins answered with a few members only", of.referrals),
        ("thane_refutations_total", "Times that this agent had to refute", of.refutations),
        ("thane_broadcasts_new_total", "Broadcasts seen for the first time", of.broadcasts_new),
        ("thane_broadcasts_repeated_total", "Broadcasts received again", of.broadcasts_repeated),
        ("thane_streams_accepted_total", "Streams that others opened", of.serfs.streams_accepted),
        ("thane_push_pulls_begun_total", "Push/pulls that this agent began", of.serfs.streams_connected),
        ("thane_stream_sent_bytes_total", "Bytes written to streams", of.serfs.stream_bytes_sent),
        ("thane_probes_degraded_total", "Probes slowed down by doubts of health", of.serfs.probes_degraded),
        ("thane_suspicions_total", "Members that became suspected", of.serfs.suspect),
        ("thane_member_flaps_total", "Members that came back within a minute", of.serfs.flaps),
        ("thane_query_acks_total", "Acks of this agent's queries", of.serfs.query_acks),
        ("thane_query_responses_total", "Answers to this agent's queries", of.serfs.query_responses),
    ] {
        out.counter(name, help, count);
    }
    out.histogram(
        "thane_probe_round_trip_seconds",
        "Time from a probe's ping to its ack",
        &of.probe_round_trips,
    );
}

fn datagrams(out: &mut Exposition, node: &NodeStats, udp: &UdpCounters) {
    let ((received, sent), (bytes_received, bytes_sent)) = (node.datagrams, node.datagram_bytes);
    for (name, help, count) in [
        ("thane_datagrams_received_total", "Datagrams received", received),
        ("thane_datagrams_sent_total", "Datagrams sent", sent),
        ("thane_datagram_received_bytes_total", "Bytes of the datagrams received", bytes_received),
        ("thane_datagram_sent_bytes_total", "Bytes of the datagrams sent", bytes_sent),
        (
            "thane_datagrams_sent_as_segments_total",
            "Datagrams passed to the kernel together with others",
            udp.sent_as_segments,
        ),
        ("thane_datagrams_truncated_total", "Datagrams dropped because they were too long", udp.truncated),
        (
            "thane_datagrams_kernel_dropped_total",
            "Datagrams that the kernel dropped because the receive buffer was full",
            udp.kernel_drops,
        ),
        ("thane_datagram_receive_errors_total", "Receives that failed", udp.receive_errors),
        ("thane_datagram_send_errors_total", "Sends that failed", udp.send_errors),
        (
            "thane_datagram_send_buffer_full_total",
            "Datagrams dropped because the send buffer was full",
            udp.send_would_block,
        ),
    ] {
        out.counter(name, help, count);
    }
}
