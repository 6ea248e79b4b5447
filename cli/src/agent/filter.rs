//! Event filters of handlers and RPC streams.

use thane_engine::event::{Event, MemberEventKind};

/// One entry of a filter list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventFilter {
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    All,
    Member(MemberEventKind),
    /// Empty: every name.
    User(String),
    /// Empty: every name.
    Query(String),
}

const MEMBER_KINDS: [MemberEventKind; 5] = [
    MemberEventKind::Join,
    MemberEventKind::Leave,
    MemberEventKind::Failed,
    MemberEventKind::Update,
    MemberEventKind::Reap,
];

impl EventFilter {
    /// Reads a comma-separated list; an empty one is `*`. As in Serf nothing is trimmed, so a space makes an entry
    /// invalid.
    ///
    /// # Errors
    /// The first entry that is not a kind of event.
    pub(crate) fn parse_list(text: &str) -> Result<Vec<EventFilter>, String> {
        if text.is_empty() {
            return Ok(vec![EventFilter { kind: Kind::All }]);
        }
        text.split(',').map(|entry| EventFilter::parse(entry).ok_or_else(|| entry.to_owned())).collect()
    }

    fn parse(entry: &str) -> Option<EventFilter> {
        let kind = match entry {
            "*" => Kind::All,
            "user" => Kind::User(String::new()),
            "query" => Kind::Query(String::new()),
            _ => {
                if let Some(name) = entry.strip_prefix("user:") {
                    Kind::User(name.to_owned())
                } else if let Some(name) = entry.strip_prefix("query:") {
                    Kind::Query(name.to_owned())
                } else {
                    Kind::Member(MEMBER_KINDS.into_iter().find(|kind| kind.as_str() == entry)?)
                }
            }
        };
        Some(EventFilter { kind })
    }

    /// Whether the event matches.
    pub(crate) fn matches(&self, event: &Event) -> bool {
        match (&self.kind, event) {
            (Kind::All, _) => true,
            (Kind::Member(wanted), Event::Member { kind, .. }) => wanted == kind,
            (Kind::User(wanted), Event::User { name, .. }) => wanted.is_empty() || wanted == name,
            (Kind::Query(wanted), Event::Query { name, .. }) => wanted.is_empty() || wanted == name,
            _ => false,
        }
    }

    /// The key of `info`'s section event_handlers: type, colon, name.
    pub(crate) fn info_key(&self) -> String {
        match &self.kind {
            Kind::All => "*:".to_owned(),
            Kind::Member(kind) => format!("{}:", kind.as_str()),
            Kind::User(name) => format!("user:{name}"),
            Kind::Query(name) => format!("query:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use thane_engine::wire::LamportTime;

    use super::*;

    fn user(name: &str) -> Event {
        Event::User { ltime: LamportTime(1), name: name.to_owned(), payload: Bytes::new(), coalesce: false }
    }

    #[test]
    fn lists_are_split_and_names_match_exactly() {
        let list = EventFilter::parse_list("member-join,user:deploy,query").unwrap();
        assert_eq!(list.len(), 3);
        assert!(list[1].matches(&user("deploy")));
        assert!(!list[1].matches(&user("Deploy")));
        assert!(!list[0].matches(&user("deploy")));
        assert!(EventFilter::parse_list("user:").unwrap()[0].matches(&user("any")));
        assert!(EventFilter::parse_list("").unwrap()[0].matches(&user("any")));
    }

    #[test]
    fn unknown_entries_and_spaces_are_refused() {
        assert_eq!(EventFilter::parse_list("user,bogus"), Err("bogus".to_owned()));
        assert_eq!(EventFilter::parse_list("user, query"), Err(" query".to_owned()));
        assert_eq!(EventFilter::parse_list("user,"), Err(String::new()));
    }

    #[test]
    fn info_keys_are_serfs() {
        assert_eq!(EventFilter::parse_list("*").unwrap()[0].info_key(), "*:");
        assert_eq!(EventFilter::parse_list("query:foo").unwrap()[0].info_key(), "query:foo");
    }
}
