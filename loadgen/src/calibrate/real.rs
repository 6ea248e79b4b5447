//! One run with real agents.

use std::time::{Duration, Instant};

use thane_engine::random::Random;
use thane_engine::sim::Delays;

use super::capture::{self, Capture};
use super::cluster::{Cluster, What};
use super::options::Options;
use super::samples::Samples;
use crate::stop::Stop;

/// Time for the cluster to come to rest.
pub(crate) const CALM: Duration = Duration::from_secs(5);
/// Time between two events. It is no multiple of the 200 ms between two gossip rounds, so that each event falls on
/// another moment of a round.
const EVENT_EVERY: Duration = Duration::from_millis(3070);
/// Longer than an event takes.
const EVENT_WITHIN: Duration = Duration::from_secs(10);
/// Longer than it takes until all know that an agent was killed.
const KILL_WITHIN: Duration = Duration::from_secs(90);
/// Bytes of an event's payload.
pub(crate) const EVENT_BYTES: usize = 30;

/// Datagrams of the measured idle time, counted by the kernel and by the capture.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) by_kernel: u64,
    pub(crate) by_capture: u64,
}

/// A run with new agents.
pub(crate) struct Run<'a> {
    pub(crate) options: &'a Options,
    pub(crate) stop: &'a Stop,
    /// Whether this is a network namespace of its own, so that traffic can be counted.
    pub(crate) counts: bool,
    pub(crate) samples: &'a mut Samples,
    pub(crate) counted: &'a mut Counted,
    /// Shows the current step.
    pub(crate) tell: &'a dyn Fn(&str),
}

impl Run<'_> {
    /// Measures. After an error the samples have everything up to then.
    ///
    /// # Errors
    /// An agent can't be started or fails, or an end is wanted.
    pub(crate) fn measure(&mut self, word: &str, seed: u64) -> Result<(), String> {
        let (options, stop) = (self.options, self.stop);
        let mut random = Random::new(seed);
        (self.tell)("starting agents");
        let mut cluster = Cluster::start(options, word, stop, &mut random)?;
        let start = Instant::now();
        stop.sleep(CALM)?;
        if self.counts && !options.idle().is_zero() {
            (self.tell)("waiting for quiet");
            stop.sleep(options.settle().saturating_sub(start.elapsed()))?;
            self.idle()?;
        }
        // After the idle time: agents keep events and put them into every push/pull.
        if options.events > 0 {
            self.events(&cluster, &mut random)?;
        }
        for kill in 0..options.kills {
            (self.tell)(&format!("kill {} of {}", kill + 1, options.kills));
            // Never the first, through which a restarted agent joins.
            let victim = 1 + random.below(options.nodes() as u32 - 1) as usize;
            self.kill(&mut cluster, victim)?;
            if kill + 1 < options.kills {
                cluster.restart(victim)?;
                stop.sleep(CALM)?;
            }
        }
        Ok(())
    }

    fn events(&mut self, cluster: &Cluster<'_>, random: &mut Random) -> Result<(), String> {
        for event in 0..self.options.events {
            (self.tell)(&format!("event {} of {}", event + 1, self.options.events));
            cluster.forget();
            let mut payload = event.to_be_bytes().to_vec();
            payload.resize(EVENT_BYTES, b'x');
            let sender = random.below(self.options.nodes() as u32) as usize;
            let sent = cluster.send_event(sender, &payload)?;
            let (mut delays, deadline) = (Delays::default(), sent + EVENT_WITHIN);
            while delays.count() < self.options.nodes() as u64
                && let Some(heard) = cluster.next(deadline)?
            {
                if heard.what == What::Event(payload.clone()) {
                    delays.add(heard.at.saturating_duration_since(sent));
                }
            }
            self.samples.add_event(&delays, self.options);
            self.stop.sleep((sent + EVENT_EVERY).saturating_duration_since(Instant::now()))?;
        }
        Ok(())
    }

    fn idle(&mut self) -> Result<(), String> {
        (self.tell)("idle");
        let capture = Capture::start().map_err(|error| format!("can't capture packets: {error}"))?;
        let (kernel, before) = (capture::kernel_datagrams(), capture.counts());
        self.stop.sleep(self.options.idle())?;
        let (kernel, counts) = (kernel.zip(capture::kernel_datagrams()), capture.counts().since(&before));
        if let Some((before, after)) = kernel {
            self.counted.by_kernel += after - before;
            self.counted.by_capture += counts.datagrams.values().map(|count| count.packets).sum::<u64>();
        }
        self.samples.add_idle(&counts, self.options);
        Ok(())
    }

    fn kill(&mut self, cluster: &mut Cluster<'_>, victim: usize) -> Result<(), String> {
        cluster.forget();
        let name = Cluster::name(victim);
        let at = cluster.kill(victim);
        let (mut suspected, mut told) = (Delays::default(), Delays::default());
        let deadline = at + KILL_WITHIN;
        while told.count() < self.options.nodes() as u64 - 1
            && let Some(heard) = cluster.next(deadline)?
        {
            let delay = heard.at.saturating_duration_since(at);
            match &heard.what {
                What::Suspect(who) if *who == name => suspected.add(delay),
                What::Failed(who) if *who == name => told.add(delay),
                What::Failed(who) => {
                    return Err(format!("n{} reports that {who} failed, but it runs", heard.place + 1));
                }
                _ => {}
            }
        }
        self.samples.add_kill(&suspected, &told, self.options);
        Ok(())
    }
}
