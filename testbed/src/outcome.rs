//! What a run showed, computed from what was done and what the agents said.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use crate::book::{Book, View};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::images::Software;
use crate::node::Sample;
use crate::player::Facts;
use crate::stream::Sent;
use crate::watch::{Change, Seen};

/// An agent that ran this much longer after an event should have handled it.
const STEADY: Duration = Duration::from_secs(5);
/// Losses that are described.
const EXAMPLES: usize = 5;
/// What logs say of two agents under one name, or one under two addresses.
const CONFLICTS: [&str; 2] = ["onflicting address for", "name conflict"];

/// Everything measured in one run of a scenario. Times in seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// From the last start until the last and the middle agent had full views.
    pub(crate) full_views: Option<f64>,
    pub(crate) full_views_half: Option<f64>,
    /// From the first start to the last one.
    pub(crate) starting: f64,
    pub(crate) events: Vec<Spread>,
    pub(crate) queries: Vec<Spread>,
    pub(crate) crashes: Vec<Spread>,
    pub(crate) leaves: Vec<Spread>,
    /// Reports by healthy agents about healthy members, as text.
    pub(crate) false_failures: Vec<String>,
    /// Reports about healthy members by impaired ones too.
    pub(crate) failures_reported: u64,
    /// Reports about members that run, but are impaired.
    pub(crate) failures_of_impaired: u64,
    /// From the last step until all lists were right; none if they were not, and what was still wrong.
    pub(crate) whole: Option<f64>,
    pub(crate) wrong: Option<String>,
    pub(crate) conflicts: u64,
    /// The name and the log of each container.
    pub(crate) logs: Vec<(String, String)>,
    pub(crate) ended: Vec<String>,
    pub(crate) refused: Vec<String>,
    pub(crate) handled: Option<Handled>,
    /// Some of the events that were lost, and by whom.
    pub(crate) lost: Vec<String>,
    /// The datagram driver of each of Thane's agents that ran at the end.
    pub(crate) drivers: Vec<String>,
    /// What an agent used per second before the first step, and from then to the end.
    pub(crate) idle: Usage,
    pub(crate) busy: Usage,
    /// Mean memory of Serf's and of Thane's agents, MB.
    pub(crate) rss_serf: Option<f64>,
    pub(crate) rss_thane: Option<f64>,
    /// Means of each second, from the first start.
    pub(crate) curve: Vec<(f64, Usage)>,
    /// Share of all views that was full, from the first start until all were.
    pub(crate) known: Vec<(f64, f64)>,
    /// Steps, from the first start.
    pub(crate) marks: Vec<(f64, String)>,
    /// From the first start to the end.
    pub(crate) lasted: f64,
}

/// How something spread over the agents that it was due at.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Spread {
    pub(crate) due: usize,
    /// Seconds until each of those that it reached had it, in order.
    pub(crate) after: Vec<f64>,
}

/// What handlers saw of the steady stream.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handled {
    pub(crate) events: u64,
    /// Pairs of event and agent that was a member when it was sent.
    pub(crate) due: u64,
    /// Handled more than once.
    pub(crate) twice: u64,
    /// Not handled, though agent and sender ran for 5 s more.
    pub(crate) lost: u64,
    /// Not handled, by or from an agent that ended within 5 s.
    pub(crate) lost_at_end: u64,
}

/// What one agent used, on average.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) sent_bytes: f64,
    pub(crate) sent_packets: f64,
    pub(crate) cpu_ms: f64,
    pub(crate) rss_mb: f64,
    /// Readings that it is the mean of; 0: nothing was measured.
    pub(crate) readings: usize,
}

impl Spread {
    fn new(due: usize, since: Instant, at: impl IntoIterator<Item = Instant>) -> Spread {
        let seconds = |at: Instant| at.saturating_duration_since(since).as_secs_f64();
        let mut after: Vec<f64> = at.into_iter().map(seconds).collect();
        after.sort_by(f64::total_cmp);
        Spread { due, after }
    }

    pub(crate) fn missed(&self) -> usize {
        self.due.saturating_sub(self.after.len())
    }

    /// When that share of all had it.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let needed = ((self.due as f64 * share).ceil() as usize).max(1);
        self.after.get(needed - 1).copied()
    }
}

impl Handled {
    /// Runs as if they were one.
    pub(crate) fn sum(runs: &[Handled]) -> Handled {
        runs.iter().fold(Handled::default(), |sum, run| Handled {
            events: sum.events + run.events,
            due: sum.due + run.due,
            twice: sum.twice + run.twice,
            lost: sum.lost + run.lost,
            lost_at_end: sum.lost_at_end + run.lost_at_end,
        })
    }

    /// Pairs that were due and not handled.
    pub(crate) fn all_lost(&self) -> u64 {
        self.lost + self.lost_at_end
    }

    /// The same as a share of those that were due; none where nothing was due.
    pub(crate) fn lost_share(&self) -> Option<f64> {
        (self.due > 0).then(|| self.all_lost() as f64 / self.due as f64)
    }
}

impl Outcome {
    /// # Errors
    /// The backend can't be asked for logs and files.
    pub(crate) fn of(cluster: &Cluster, facts: &Facts) -> Result<Outcome, Failure> {
        let seconds = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64();
        let mut each: Vec<f64> = facts.full_each.iter().map(|at| seconds(facts.last_start, *at)).collect();
        each.sort_by(f64::total_cmp);
        let Failures { false_failures, reported, of_impaired } = failures(cluster, facts);
        let split = facts.first_step.unwrap_or(facts.end);
        let (handled, lost) = handled(cluster, facts)?;
        let logs = cluster.all_logs()?;
        let settled = facts.full.map_or(facts.zero, |full| full + Duration::from_secs(5)).min(split);
        Ok(Outcome {
            full_views: facts.full.map(|full| seconds(facts.last_start, full)),
            full_views_half: each.get(each.len() / 2).copied(),
            starting: seconds(facts.first_start, facts.last_start),
            events: facts.events.iter().map(|sent| event(cluster, facts, sent)).collect(),
            queries: facts
                .queries
                .iter()
                .map(|query| Spread::new(query.due, query.at, query.acks.iter().copied()))
                .collect(),
            crashes: facts
                .crashes
                .iter()
                .map(|gone| departure(cluster, facts, *gone, Change::Failed))
                .collect(),
            leaves: facts.leaves.iter().map(|gone| departure(cluster, facts, *gone, Change::Leave)).collect(),
            false_failures,
            failures_reported: reported,
            failures_of_impaired: of_impaired,
            whole: facts.whole.as_ref().ok().map(|at| seconds(facts.last_step, *at)),
            wrong: facts.whole.as_ref().err().cloned(),
            conflicts: conflicts(&logs),
            logs,
            ended: cluster.ended()?,
            refused: facts.refused.clone(),
            handled,
            lost,
            drivers: facts.drivers.clone(),
            idle: usage(&cluster.samples, settled, split),
            busy: usage(&cluster.samples, split, facts.end),
            rss_serf: rss_of(&cluster.samples, Software::Serf),
            rss_thane: rss_of(&cluster.samples, Software::Thane),
            curve: curve(&cluster.samples, facts.first_start),
            known: known(cluster, facts),
            marks: facts
                .marks
                .iter()
                .map(|(at, what)| (seconds(facts.first_start, *at), what.clone()))
                .collect(),
            lasted: seconds(facts.first_start, facts.end),
        })
    }

    /// Pairs of event and agent that were due and not heard.
    pub(crate) fn events_lost(&self) -> u64 {
        self.events.iter().map(|event| event.missed() as u64).sum()
    }
}

/// Due at all that ran, and could reach the sender, from the sending to the end.
fn event(cluster: &Cluster, facts: &Facts, sent: &Sent) -> Spread {
    let sender = &cluster.nodes[sent.node].history;
    let is_due = |number: usize| {
        let history = &cluster.nodes[number].history;
        let until = facts.end.min(sent.at + STEADY);
        history.reaches(sender, sent.at, until) && history.ran(sent.at, facts.end.max(sent.at))
    };
    let due: Vec<usize> = (0..cluster.nodes.len()).filter(|&number| is_due(number)).collect();
    let heard = cluster.book.heard(&sent.name, sent.at);
    Spread::new(due.len(), sent.at, due.iter().filter_map(|number| heard.get(number).copied()))
}

/// Due at all that run at the end and were never impaired since.
fn departure(cluster: &Cluster, facts: &Facts, (at, gone): (Instant, usize), change: Change) -> Spread {
    let is_due = |number: usize| {
        let history = &cluster.nodes[number].history;
        number != gone && history.ran(at, facts.end) && history.reaches(history, at, facts.end)
    };
    let due: Vec<usize> = (0..cluster.nodes.len()).filter(|&number| is_due(number)).collect();
    let said = cluster.book.first(&cluster.nodes[gone].name, change, at);
    Spread::new(due.len(), at, due.iter().filter_map(|number| said.get(number).copied()))
}

/// Reports of failed members that run.
#[derive(Debug, Default)]
struct Failures {
    /// By healthy agents about healthy members, as text.
    false_failures: Vec<String>,
    /// By any agent about members that are not impaired.
    reported: u64,
    /// About impaired members.
    of_impaired: u64,
}

fn failures(cluster: &Cluster, facts: &Facts) -> Failures {
    let numbers: HashMap<&str, usize> =
        cluster.nodes.iter().enumerate().map(|(number, node)| (node.name.as_str(), number)).collect();
    let mut found = Failures::default();
    for (at, observer, name, addr) in cluster.book.failures().filter(|(at, ..)| *at <= facts.end) {
        let Some(&subject) = numbers.get(name) else { continue };
        let (subject, observer) = (&cluster.nodes[subject], &cluster.nodes[observer]);
        let healing = cluster.nodes.iter().any(|node| node.history.regrouped_before(at));
        if !healing && subject.history.is_false_failure(&observer.history, at, addr) {
            let after = at.saturating_duration_since(facts.zero).as_secs_f64();
            let software = subject.software.name();
            let report = format!("{} reported {name} ({software}) failed at {after:.1} s", observer.name);
            found.false_failures.push(report);
        }
        let now = subject.history.at(at);
        if now.runs && (addr.is_none() || addr == now.ip) {
            *(if now.impaired { &mut found.of_impaired } else { &mut found.reported }) += 1;
        }
    }
    found
}

/// Members that all agents listed as alive, of all members of all views, while views filled.
fn known(cluster: &Cluster, facts: &Facts) -> Vec<(f64, f64)> {
    let (mut book, mut points) = (Book::default(), Vec::new());
    let Some(nodes) = (!facts.full_each.is_empty()).then_some(facts.full_each.len()) else { return points };
    for sighting in
        cluster.book.sightings.iter().filter(|sighting| facts.full.is_some_and(|full| sighting.at <= full))
    {
        book.take(sighting.clone());
        if matches!(sighting.seen, Seen::List(_) | Seen::Change { .. }) {
            let all: usize = (0..nodes).filter_map(|node| book.view(node)).map(View::alive).sum();
            let at = sighting.at.saturating_duration_since(facts.first_start).as_secs_f64();
            points.push((at, all as f64 / (nodes * nodes) as f64));
        }
    }
    points.sort_by(|one, next| one.0.total_cmp(&next.0));
    points
}

fn conflicts(logs: &[(String, String)]) -> u64 {
    let is_one = |line: &&str| CONFLICTS.iter().any(|text| line.contains(text));
    logs.iter().map(|(_, log)| log.lines().filter(is_one).count() as u64).sum()
}

/// None where no stream was sent. With it some of the losses, as text.
fn handled(cluster: &Cluster, facts: &Facts) -> Result<(Option<Handled>, Vec<String>), Failure> {
    let mut examples = Vec::new();
    if facts.stream.is_empty() {
        return Ok((None, examples));
    }
    let mut sum = Handled { events: facts.stream.len() as u64, ..Handled::default() };
    for (number, node) in cluster.nodes.iter().enumerate() {
        let mut times: BTreeMap<String, u64> = BTreeMap::new();
        for name in cluster.handled(number)? {
            *times.entry(name).or_default() += 1;
        }
        sum.twice += times.values().filter(|times| **times > 1).count() as u64;
        for sent in &facts.stream {
            let Some((since, until)) = membership(&node.memberships, sent.at) else { continue };
            sum.due += 1;
            if times.contains_key(&sent.name) {
                continue;
            }
            let sender = &cluster.nodes[sent.node];
            let is_steady = until.is_none_or(|until| until >= sent.at + STEADY)
                && sender.history.ran(sent.at, (sent.at + STEADY).min(facts.end));
            *(if is_steady { &mut sum.lost } else { &mut sum.lost_at_end }) += 1;
            if is_steady && examples.len() < EXAMPLES {
                let seconds = |at: Instant| at.saturating_duration_since(facts.zero).as_secs_f64();
                examples.push(format!(
                    "{} ({}), a member since {:.1} s, never handled {}, sent by {} ({}) at {:.1} s",
                    node.name,
                    node.software.name(),
                    seconds(since),
                    sent.name,
                    sender.name,
                    sender.software.name(),
                    seconds(sent.at),
                ));
            }
        }
    }
    Ok((Some(sum), examples))
}

/// If it was a member then, since when and until when.
fn membership(memberships: &[(Instant, Option<Instant>)], at: Instant) -> Option<(Instant, Option<Instant>)> {
    let is_then =
        |(from, until): &&(Instant, Option<Instant>)| *from <= at && until.is_none_or(|until| at < until);
    memberships.iter().find(is_then).copied()
}

/// The mean of one agent, of those readings that lie between.
fn usage(samples: &[Sample], from: Instant, to: Instant) -> Usage {
    mean(samples.iter().filter(|sample| sample.at - sample.span >= from && sample.at <= to))
}

/// Mean memory of one software's agents, MB.
fn rss_of(samples: &[Sample], software: Software) -> Option<f64> {
    let usage = mean(samples.iter().filter(|sample| sample.software == software));
    (usage.readings > 0).then_some(usage.rss_mb)
}

fn mean<'a>(samples: impl Iterator<Item = &'a Sample>) -> Usage {
    let (mut sum, mut seconds) = (Usage::default(), 0.0);
    for sample in samples {
        seconds += sample.span.as_secs_f64();
        sum.sent_bytes += sample.used.sent_bytes as f64;
        sum.sent_packets += sample.used.sent_packets as f64;
        sum.cpu_ms += sample.used.cpu_ns as f64 / 1e6;
        sum.rss_mb += sample.used.rss_bytes as f64 / 1e6;
        sum.readings += 1;
    }
    if sum.readings == 0 {
        return sum;
    }
    Usage {
        sent_bytes: sum.sent_bytes / seconds,
        sent_packets: sum.sent_packets / seconds,
        cpu_ms: sum.cpu_ms / seconds,
        rss_mb: sum.rss_mb / sum.readings as f64,
        readings: sum.readings,
    }
}

fn curve(samples: &[Sample], zero: Instant) -> Vec<(f64, Usage)> {
    let rounds = samples.chunk_by(|a, b| a.at == b.at);
    rounds
        .map(|round| (round[0].at.saturating_duration_since(zero).as_secs_f64(), mean(round.iter())))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::meter::Reading;

    #[test]
    fn spreads_count_those_that_were_not_reached() {
        let since = Instant::now();
        let at = |milliseconds| since + Duration::from_millis(milliseconds);
        let all = Spread::new(3, since, [at(300), at(100), at(200)]);
        assert_eq!((all.missed(), all.quantile(1.0)), (0, Some(0.3)));
        assert_eq!((all.quantile(0.5), all.quantile(0.01)), (Some(0.2), Some(0.1)));
        let some = Spread::new(4, since, [at(100), at(200)]);
        assert_eq!((some.missed(), some.quantile(0.5), some.quantile(0.99)), (2, Some(0.2), None));
    }

    #[test]
    fn members_are_due_until_they_end() {
        let zero = Instant::now();
        let at = |seconds| zero + Duration::from_secs(seconds);
        let memberships = [(at(1), Some(at(5))), (at(8), None)];
        assert_eq!(membership(&memberships, zero), None);
        assert_eq!(membership(&memberships, at(2)), Some((at(1), Some(at(5)))));
        assert_eq!(membership(&memberships, at(6)), None);
        assert_eq!(membership(&memberships, at(9)), Some((at(8), None)));
    }

    #[test]
    fn usage_is_per_agent_and_second() {
        let zero = Instant::now();
        let sample = |seconds: u64, sent_bytes| Sample {
            at: zero + Duration::from_secs(seconds),
            span: Duration::from_secs(2),
            software: Software::Serf,
            used: Reading { sent_bytes, sent_packets: 4, cpu_ns: 6_000_000, rss_bytes: 14_000_000 },
        };
        let samples = [sample(2, 800), sample(2, 400), sample(4, 10_000)];
        let usage = usage(&samples, zero, zero + Duration::from_secs(3));
        assert_eq!(
            (usage.sent_bytes, usage.sent_packets, usage.cpu_ms, usage.rss_mb),
            (300.0, 2.0, 3.0, 14.0)
        );
        assert_eq!(curve(&samples, zero).len(), 2);
        assert_eq!(rss_of(&samples, Software::Thane), None);
    }

    #[test]
    fn lines_about_conflicts_are_counted_in_both_agents_words() {
        let log = "[ERR] memberlist: Conflicting address for n1. Mine: a Theirs: b\nother\n";
        assert_eq!(conflicts(&[("n1".into(), log.repeat(2))]), 2);
    }
}
