//! `target --flood`: the rate of gossip that one agent accepts, its cost, and the latency of answers meanwhile.

use std::time::Duration;

use super::deck::Deck;
use super::emulated::{Members, Wrapping};
use super::load::{self, Kind, Pace};
use super::measure::{Measured, SETTLE, Watch, known, megabytes, start_joined};
use super::options::Options;
use super::sender::{Flood, Sent};
use crate::agent::{Agent, Launch};

/// Pings a second beside the flood, each timed.
const PROBE_RATE: u32 = 500;
/// Most loss at a rate that counts as accepted.
const LOSS_MAX: f64 = 0.01;
/// Steps of the search for that rate.
const STEPS_MAX: u32 = 8;
/// Factors by which the search goes up and down.
const UP: f64 = 1.15;
const DOWN: f64 = 0.85;
/// Share of that rate that is sent while pings are timed.
const SHARE: f64 = 0.8;
/// A sender that reaches less than this share of the rate is itself the limit.
const SENDER_SHARE_MIN: f64 = 0.95;

/// Names of one wrapping's rows.
struct Names {
    sent: &'static str,
    handled: &'static str,
    saturation: &'static str,
    cpu: &'static str,
    acked: &'static str,
    quantiles: [(&'static str, f64); 4],
    rss: [&'static str; 2],
}

const PLAIN: Names = Names {
    sent: "plain: sent at full speed, packets/s",
    handled: "plain: of these taken, packets/s",
    saturation: "plain: most with 1 % lost, packets/s",
    cpu: "plain: at that rate, CPU us a packet",
    acked: "plain: at 80 %: pings acked, %",
    quantiles: [
        ("plain: at 80 %: ping p50, us", 0.5),
        ("plain: at 80 %: ping p99, us", 0.99),
        ("plain: at 80 %: ping p99.9, us", 0.999),
        ("plain: at 80 %: slowest ping, us", 1.0),
    ],
    rss: ["plain: RSS before, MB", "plain: peak RSS, MB"],
};

const SEALED: Names = Names {
    sent: "sealed: sent at full speed, packets/s",
    handled: "sealed: of these taken, packets/s",
    saturation: "sealed: most with 1 % lost, packets/s",
    cpu: "sealed: at that rate, CPU us a packet",
    acked: "sealed: at 80 %: pings acked, %",
    quantiles: [
        ("sealed: at 80 %: ping p50, us", 0.5),
        ("sealed: at 80 %: ping p99, us", 0.99),
        ("sealed: at 80 %: ping p99.9, us", 0.999),
        ("sealed: at 80 %: slowest ping, us", 1.0),
    ],
    rss: ["sealed: RSS before, MB", "sealed: peak RSS, MB"],
};

/// The heading of the table.
pub(crate) fn heading(options: &Options) -> String {
    format!(
        "{} members; a flood from a process of its own, in equal parts pings, packets of ten known alive \
         messages, duplicate events; {} s a step",
        options.nodes(),
        options.span.as_secs()
    )
}

/// Floods an agent without keys, then one with a key.
///
/// # Errors
/// The agent or the sender fails, or an end is wanted; `rows` has everything up to then.
pub(crate) fn measure(
    launch: &Launch,
    options: &Options,
    watch: &Watch<'_>,
    rows: &mut Measured,
) -> Result<(), String> {
    for (wrapping, names) in [(Wrapping::Plain, PLAIN), (Wrapping::Sealed, SEALED)] {
        let (agent, members) = start_joined(launch, wrapping, options, watch)?;
        let flooding = Flooding { agent: &agent, options, watch, wrapping, members: &members };
        flooding.measure(&names, rows)?;
    }
    Ok(())
}

/// One agent under flood.
struct Flooding<'a> {
    agent: &'a Agent,
    options: &'a Options,
    watch: &'a Watch<'a>,
    wrapping: Wrapping,
    members: &'a Members,
}

/// The result of a flood at one agent.
struct Outcome {
    sent: Sent,
    /// Packets that the kernel dropped at the agent's socket.
    drops: u64,
    cpu: Duration,
}

impl Outcome {
    /// Packets a second that the agent read from its socket.
    fn handled(&self) -> f64 {
        self.taken() / self.sent.took.as_secs_f64().max(0.001)
    }

    fn taken(&self) -> f64 {
        self.sent.packets.saturating_sub(self.drops).max(1) as f64
    }

    /// The share of packets that were dropped or of pings that got no answer, whichever is more.
    fn loss(&self) -> f64 {
        let packets = self.sent.packets.max(1) as f64;
        let pings = packets / Deck::Gossip.ping_every() as f64;
        (self.drops as f64 / packets).max(1.0 - self.sent.answers as f64 / pings)
    }
}

impl Flooding<'_> {
    fn measure(&self, names: &Names, rows: &mut Measured) -> Result<(), String> {
        self.watch.phase("flood at full speed")?;
        let rss_before = self.agent.rss_kb();
        let full = self.flood(0)?;
        rows.push((names.sent, full.sent.packets as f64 / full.sent.took.as_secs_f64()));
        rows.push((names.handled, full.handled()));
        let best = self.saturate(full.handled())?;
        rows.push((names.saturation, best.handled()));
        let micros = best.cpu.as_secs_f64() * 1e6 / best.taken();
        rows.push((names.cpu, known(self.agent, micros)));

        self.watch.phase("pings beside a flood")?;
        let sending = self.order((best.handled() * SHARE) as u64, self.options.span + SETTLE).start()?;
        std::thread::sleep(SETTLE / 2);
        let ping = Kind::Ping(self.agent.node.clone());
        let Options { from, span, .. } = *self.options;
        let probed = load::run(
            &ping,
            self.wrapping,
            from,
            self.agent.gossip,
            Pace { rate: PROBE_RATE, span, burst: 1 },
        )
        .map_err(|error| format!("can't send from {from}: {error}"));
        sending.finish()?;
        let probed = probed?;
        rows.push((names.acked, 100.0 * probed.answered as f64 / probed.sent.max(1) as f64));
        let us = |quantile| probed.latency.value_at_quantile(quantile) as f64 / 1e3;
        rows.extend(names.quantiles.map(|(name, quantile)| (name, us(quantile))));
        let rss = [rss_before, self.agent.peak_rss_kb().max(rss_before)].map(megabytes);
        rows.extend(names.rss.into_iter().zip(rss));
        Ok(())
    }

    /// The flood with the highest rate of which the agent loses next to nothing, searched from `rate` on.
    fn saturate(&self, mut rate: f64) -> Result<Outcome, String> {
        let mut best: Option<Outcome> = None;
        for step in 0..STEPS_MAX {
            self.watch
                .phase(&format!("flood of {rate:.0} packets a second, step {} of {STEPS_MAX}", step + 1))?;
            let outcome = self.flood(rate as u64)?;
            let sender_is_slower =
                outcome.sent.packets as f64 / outcome.sent.took.as_secs_f64() < rate * SENDER_SHARE_MIN;
            if outcome.loss() <= LOSS_MAX {
                best = Some(outcome);
                rate *= UP;
                if sender_is_slower {
                    break;
                }
            } else if best.is_some() {
                break;
            } else {
                rate *= DOWN;
            }
        }
        best.ok_or_else(|| format!("{} loses packets even at {rate:.0} a second", self.agent.title))
    }

    fn flood(&self, rate: u64) -> Result<Outcome, String> {
        let (drops, cpu) = (self.agent.kernel_drops(), self.agent.cpu());
        let sent = self.order(rate, self.options.span).send()?;
        std::thread::sleep(SETTLE / 4);
        Ok(Outcome { sent, drops: self.agent.kernel_drops() - drops, cpu: self.agent.cpu() - cpu })
    }

    fn order(&self, rate: u64, span: Duration) -> Flood {
        Flood {
            deck: Deck::Gossip,
            wrapping: self.wrapping,
            to: self.agent.gossip,
            node: self.agent.node.clone(),
            from: self.options.flood_from(),
            sources: 1,
            rate,
            span,
            members: self.options.nodes(),
            members_at: self.members.addr(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gets_no_answer_is_lost_too() {
        let outcome = |packets, answers, drops| Outcome {
            sent: Sent { packets, answers, took: Duration::from_secs(2) },
            drops,
            cpu: Duration::ZERO,
        };
        assert_eq!(outcome(3_000, 1_000, 0).loss(), 0.0);
        assert_eq!(outcome(3_000, 750, 30).loss(), 0.25);
        assert_eq!(outcome(3_000, 1_000, 1_500).loss(), 0.5);
        assert_eq!(outcome(3_000, 1_000, 1_500).handled(), 750.0);
    }
}
