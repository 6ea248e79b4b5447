//! What `top` knows: the last numbers, their history, the members that pass the filters, the last events.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use thane_engine::ipc::Stats;

use super::feed::{Listed, News};
use crate::escape;

/// Points of a line.
const HISTORY: usize = 240;
/// Events kept.
const EVENTS_MAX: usize = 200;
/// The statuses that the filter goes through.
const STATUSES: [&str; 4] = ["alive", "failed", "leaving", "left"];

/// What is drawn of a number.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum As {
    /// The number.
    Level,
    /// Its growth in a second.
    Rate,
}

/// The lines: title, section and names of the numbers of `info` that are added up, and how.
const LINES: [(&str, &str, &[&str], As); 6] = [
    ("Queued", "serf", &["intent_queue", "event_queue", "query_queue"], As::Level),
    ("Health score", "serf", &["health_score"], As::Level),
    ("Events and queries/s", "serf", &["event_time", "query_time"], As::Rate),
    ("Datagrams in/s", "io", &["datagrams_received"], As::Rate),
    ("Datagrams out/s", "io", &["datagrams_sent"], As::Rate),
    ("Bytes out/s", "io", &["datagram_bytes_sent"], As::Rate),
];

/// A number over time.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) title: &'static str,
    pub(super) of: As,
    /// `None` where the agent does not count it.
    pub(super) now: Option<f64>,
    /// Oldest first, rounded.
    pub(super) history: VecDeque<u64>,
    before: Option<(Instant, f64)>,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) stats: Stats,
    pub(super) members: Vec<Listed>,
    pub(super) lines: Vec<Line>,
    /// The newest first.
    pub(super) events: VecDeque<String>,
    /// Why there is no connection.
    pub(super) lost: Option<String>,
    /// What is searched for; `None`: nothing.
    pub(super) search: Option<String>,
    /// Whether letters go there.
    pub(super) typing: bool,
    pub(super) status: Option<&'static str>,
    pub(super) scroll: usize,
}

impl Default for Model {
    fn default() -> Model {
        let line = |&(title, _, _, of): &(&'static str, _, _, As)| Line {
            title,
            of,
            now: None,
            history: VecDeque::new(),
            before: None,
        };
        Model {
            stats: Stats::new(),
            members: Vec::new(),
            lines: LINES.iter().map(line).collect(),
            events: VecDeque::new(),
            lost: None,
            search: None,
            typing: false,
            status: None,
            scroll: 0,
        }
    }
}

impl Model {
    pub(super) fn take(&mut self, news: News) {
        match news {
            News::Numbers { at, stats, mut members } => {
                members.sort_unstable_by(|a, b| a.name.cmp(&b.name));
                for (line, (_, section, names, how)) in self.lines.iter_mut().zip(LINES) {
                    line.add(at, sum(&stats, section, names), how);
                }
                (self.stats, self.members, self.lost) = (stats, members, None);
            }
            News::Event(text) => {
                // Names and payloads are anybody's.
                self.events.push_front(escape::line(&text).into_owned());
                self.events.truncate(EVENTS_MAX);
            }
            News::Lost(why) => self.lost = Some(escape::line(&why).into_owned()),
        }
    }

    /// Shows the next status only; after the last, all.
    pub(super) fn next_status(&mut self) {
        let place = STATUSES.iter().position(|status| Some(*status) == self.status);
        self.status = STATUSES.get(place.map_or(0, |place| place + 1)).copied();
    }

    /// Members by status.
    pub(super) fn counts(&self) -> [(&'static str, usize); 4] {
        STATUSES.map(|status| (status, self.members.iter().filter(|member| member.status == status).count()))
    }

    /// The members that pass the filters.
    pub(super) fn shown(&self) -> Vec<&Listed> {
        let search = self.search.as_deref().unwrap_or_default().to_lowercase();
        let fits = |member: &&Listed| {
            let has = |text: &str| text.to_lowercase().contains(&search);
            self.status.is_none_or(|status| member.status == status)
                && (search.is_empty() || has(&member.name) || has(&member.addr) || has(&member.tags))
        };
        self.members.iter().filter(fits).collect()
    }

    /// A text of `info`.
    pub(super) fn text(&self, section: &str, name: &str) -> &str {
        self.stats.get(section).and_then(|values| values.get(name)).map_or("", String::as_str)
    }
}

impl Line {
    fn add(&mut self, at: Instant, value: Option<f64>, how: As) {
        let Some(value) = value else {
            (self.now, self.before) = (None, None);
            return;
        };
        self.now = match how {
            As::Level => Some(value),
            As::Rate => self.before.map(|(then, before)| {
                // An agent that was restarted counts from 0 again.
                (value - before).max(0.0) / at.duration_since(then).as_secs_f64().max(1e-3)
            }),
        };
        self.before = Some((at, value));
        if let Some(now) = self.now {
            self.history.push_back(now.round() as u64);
            if self.history.len() > HISTORY {
                self.history.pop_front();
            }
        }
    }
}

/// The sum of numbers; `None` if none of them is there.
fn sum(stats: &Stats, section: &str, names: &[&str]) -> Option<f64> {
    let values: &BTreeMap<String, String> = stats.get(section)?;
    let found: Vec<f64> = names.iter().filter_map(|name| values.get(*name)?.parse().ok()).collect();
    (!found.is_empty()).then(|| found.iter().sum())
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    /// A model of three members after two answers a second apart.
    pub(in crate::commands::top) fn model() -> Model {
        let mut model = Model::default();
        let at = Instant::now();
        let member = |name: &str, status: &str, tags: &str| Listed {
            name: name.to_owned(),
            addr: "10.0.0.1:7946".to_owned(),
            status: status.to_owned(),
            tags: tags.to_owned(),
        };
        for second in 0..2 {
            let value = |name: &str, value: String| (name.to_owned(), value);
            let serf = [value("intent_queue", "2".to_owned()), value("event_queue", "3".to_owned())].into();
            let io = [value("datagrams_sent", (second * 40).to_string())].into();
            let agent = [value("name", "b".to_owned())].into();
            let stats = [("serf", serf), ("io", io), ("agent", agent)];
            let stats = stats.map(|(section, values)| (section.to_owned(), values)).into();
            let members =
                vec![member("b", "alive", "role=web"), member("a", "failed", ""), member("c", "alive", "")];
            model.take(News::Numbers { at: at + Duration::from_secs(second), stats, members });
        }
        model.take(News::Event("event: deploy \u{1b}[2J".to_owned()));
        model
    }

    #[test]
    fn levels_rates_and_what_an_agent_does_not_count() {
        let model = model();
        let now = |title: &str| model.lines.iter().find(|line| line.title == title).and_then(|line| line.now);
        assert_eq!(now("Queued"), Some(5.0));
        assert_eq!(now("Datagrams out/s"), Some(40.0));
        assert_eq!(now("Datagrams in/s"), None);
        assert_eq!(model.counts(), [("alive", 2), ("failed", 1), ("leaving", 0), ("left", 0)]);
    }

    #[test]
    fn filters_add_up_and_events_are_escaped() {
        let mut model = model();
        let names =
            |model: &Model| model.shown().iter().map(|member| member.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&model), ["a", "b", "c"]);
        model.next_status();
        assert_eq!(names(&model), ["b", "c"]);
        model.search = Some("ROLE=w".to_owned());
        assert_eq!(names(&model), ["b"]);
        assert_eq!(model.events, ["event: deploy \\u{1b}[2J"]);
        (0..4).for_each(|_| model.next_status());
        assert_eq!(model.status, None);
    }
}
