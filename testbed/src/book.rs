//! What all agents said so far, and the view of each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use crate::watch::{Change, Listed, Seen, Sighting};

/// All sightings of a run, in the order in which they arrived.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) sightings: Vec<Sighting>,
    views: Vec<View>,
    /// A view is full with so many members alive.
    full: usize,
}

/// Whom one agent lists.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) is_up: bool,
    alive: BTreeSet<String>,
    addresses: BTreeMap<String, IpAddr>,
    /// Members that its log said something about since its streams are open. A list that arrives later may have been
    /// made before.
    changed: BTreeSet<String>,
    pub(crate) full_at: Option<Instant>,
}

impl Book {
    /// Views are full with so many members alive from now on; forgets when they became so before.
    pub(crate) fn expect_full(&mut self, members: usize, now: Instant) {
        self.full = members;
        for view in &mut self.views {
            view.full_at = (view.is_up && view.alive.len() >= members).then_some(now);
        }
    }

    pub(crate) fn view(&self, node: usize) -> Option<&View> {
        self.views.get(node)
    }

    pub(crate) fn take(&mut self, sighting: Sighting) {
        let node = sighting.node;
        if self.views.len() <= node {
            self.views.resize_with(node + 1, View::default);
        }
        let view = &mut self.views[node];
        match &sighting.seen {
            Seen::Up => view.is_up = true,
            Seen::Down => *view = View::default(),
            Seen::List(members) => view.list(members),
            Seen::Change { name, change, addr, stale } => {
                view.change(name, *change, *addr);
                if !stale {
                    view.changed.insert(name.clone());
                }
            }
            Seen::User(_) | Seen::Query(_) => {}
        }
        if view.full_at.is_none() && self.full > 0 && view.alive.len() >= self.full {
            view.full_at = Some(sighting.at);
        }
        self.sightings.push(sighting);
    }

    /// When each agent first said after `since` that this happened to that member.
    pub(crate) fn first(&self, name: &str, change: Change, since: Instant) -> BTreeMap<usize, Instant> {
        self.firsts(since, |seen| match seen {
            Seen::Change { name: about, change: what, stale, .. } => {
                !stale && *what == change && about == name
            }
            _ => false,
        })
    }

    /// When each agent first heard that user event.
    pub(crate) fn heard(&self, event: &str, since: Instant) -> BTreeMap<usize, Instant> {
        self.firsts(since, |seen| matches!(seen, Seen::User(name) if name == event))
    }

    fn firsts(&self, since: Instant, is_it: impl Fn(&Seen) -> bool) -> BTreeMap<usize, Instant> {
        let mut first = BTreeMap::new();
        for sighting in self.sightings.iter().filter(|sighting| sighting.at >= since && is_it(&sighting.seen))
        {
            first.entry(sighting.node).or_insert(sighting.at);
        }
        first
    }

    /// All reports of failed members: when, by whom, about whom and at which address.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (Instant, usize, &str, Option<IpAddr>)> {
        self.sightings.iter().filter_map(|sighting| match &sighting.seen {
            Seen::Change { name, change: Change::Failed, addr, stale: false } => {
                Some((sighting.at, sighting.node, name.as_str(), *addr))
            }
            _ => None,
        })
    }
}

impl View {
    fn list(&mut self, members: &[Listed]) {
        self.alive.retain(|name| self.changed.contains(name));
        for member in members.iter().filter(|member| !self.changed.contains(&member.name)) {
            if member.status == "alive" {
                self.alive.insert(member.name.clone());
            }
            self.addresses.extend(member.addr.map(|addr| (member.name.clone(), addr)));
        }
    }

    fn change(&mut self, name: &str, change: Change, addr: Option<IpAddr>) {
        match change {
            Change::Join => drop(self.alive.insert(name.to_owned())),
            Change::Leave | Change::Failed | Change::Reap => drop(self.alive.remove(name)),
            Change::Update => {}
        }
        self.addresses.extend(addr.map(|addr| (name.to_owned(), addr)));
    }

    /// How many it lists as alive.
    pub(crate) fn alive(&self) -> usize {
        self.alive.len()
    }

    /// Whether exactly these are alive. Addresses are not judged: the log names none where one changes.
    pub(crate) fn has_alive(&self, names: &BTreeSet<String>) -> bool {
        self.is_up && self.alive == *names
    }
}

/// What is wrong with a list, where these and no others should be alive, at these addresses; none if nothing is.
pub(crate) fn wrong(list: &[Listed], expected: &BTreeMap<String, IpAddr>) -> Option<String> {
    let alive: BTreeMap<&str, Option<IpAddr>> = list
        .iter()
        .filter(|member| member.status == "alive")
        .map(|member| (member.name.as_str(), member.addr))
        .collect();
    let lacking = expected.keys().find(|name| !alive.contains_key(name.as_str()));
    if let Some(name) = lacking {
        let status =
            list.iter().find(|member| member.name == *name).map_or("not listed", |member| &member.status);
        return Some(format!("{name} is {status}"));
    }
    for (name, addr) in &alive {
        match expected.get(*name) {
            None => return Some(format!("{name} is alive")),
            Some(right) if *addr != Some(*right) => {
                return Some(format!(
                    "{name} is at {} instead of {right}",
                    addr.map_or("no address".into(), |ip| ip.to_string())
                ));
            }
            Some(_) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn change(node: usize, at: Instant, name: &str, change: Change, stale: bool) -> Sighting {
        Sighting { at, node, seen: Seen::Change { name: name.into(), change, addr: None, stale } }
    }

    fn listed(name: &str, status: &str, addr: &str) -> Listed {
        Listed { name: name.into(), status: status.into(), addr: addr.parse().ok() }
    }

    #[test]
    fn views_follow_lists_and_changes() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.expect_full(2, now);
        book.take(Sighting { at: now, node: 0, seen: Seen::Up });
        let list = vec![listed("a", "alive", "10.0.0.1"), listed("b", "failed", "10.0.0.2")];
        book.take(Sighting { at: now, node: 0, seen: Seen::List(list) });
        assert!(book.view(0).unwrap().full_at.is_none());
        book.take(change(0, now, "b", Change::Join, false));
        assert!(book.view(0).unwrap().has_alive(&["a", "b"].map(str::to_owned).into()));
        assert_eq!(book.view(0).unwrap().full_at, Some(now));
        book.take(change(0, now, "a", Change::Failed, true));
        assert!(book.first("a", Change::Failed, now).is_empty(), "history is no report");
        book.take(change(0, now, "b", Change::Failed, false));
        assert_eq!(book.first("b", Change::Failed, now).len(), 1);
        assert_eq!(book.failures().count(), 1);
        book.take(Sighting { at: now, node: 0, seen: Seen::Down });
        assert!(!book.view(0).unwrap().has_alive(&BTreeSet::new()), "an agent that is down has no view");
    }

    #[test]
    fn a_list_does_not_undo_what_the_log_said_since() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.take(Sighting { at: now, node: 0, seen: Seen::Up });
        book.take(change(0, now, "old", Change::Join, true));
        book.take(change(0, now, "new", Change::Join, false));
        book.take(change(0, now, "gone", Change::Failed, false));
        let list = vec![listed("a", "alive", "10.0.0.1"), listed("gone", "alive", "10.0.0.2")];
        book.take(Sighting { at: now, node: 0, seen: Seen::List(list) });
        assert!(book.view(0).unwrap().has_alive(&["a", "new"].map(str::to_owned).into()));
    }

    #[test]
    fn lists_are_compared_by_name_status_and_address() {
        let expected: BTreeMap<String, IpAddr> = [("a", "10.0.0.1"), ("b", "10.0.0.2")]
            .map(|(name, ip)| (name.into(), ip.parse().unwrap()))
            .into();
        let a = || listed("a", "alive", "10.0.0.1");
        assert_eq!(
            wrong(&[a(), listed("b", "alive", "10.0.0.2"), listed("c", "left", "10.0.0.3")], &expected),
            None
        );
        let cases = [
            (vec![a()], "b is not listed"),
            (vec![a(), listed("b", "failed", "10.0.0.2")], "b is failed"),
            (vec![a(), listed("b", "alive", "10.0.0.9")], "b is at 10.0.0.9 instead of 10.0.0.2"),
            (vec![a(), listed("b", "alive", "10.0.0.2"), listed("c", "alive", "10.0.0.3")], "c is alive"),
        ];
        for (list, expectation) in cases {
            assert_eq!(wrong(&list, &expected).as_deref(), Some(expectation));
        }
    }
}
