//! Members in RPC replies, and the filters of `members-filtered`.

use std::collections::BTreeMap;

use thane_engine::event::{Member, MemberRef};
use thane_engine::ipc::{self, MembersRequest};
use thane_engine::pattern::Pattern;

/// The compiled filters of a request.
pub(super) struct MemberFilter {
    /// `None` if the request has none.
    name: Option<Pattern>,
    status: Option<Pattern>,
    tags: BTreeMap<String, Pattern>,
}

impl MemberFilter {
    /// Compiles every expression, also those that no member is compared with.
    ///
    /// # Errors
    /// The line for the log about the first invalid expression.
    pub(super) fn new(request: &MembersRequest) -> Result<MemberFilter, String> {
        let unless_empty = |expr: &str| if expr.is_empty() { Ok(None) } else { whole_value(expr).map(Some) };
        Ok(MemberFilter {
            name: unless_empty(&request.name)?,
            status: unless_empty(&request.status)?,
            tags: request
                .tags
                .iter()
                .map(|(tag, expr)| Ok((tag.clone(), whole_value(expr)?)))
                .collect::<Result<_, String>>()?,
        })
    }

    /// Whether every member matches.
    pub(super) fn is_empty(&self) -> bool {
        self.name.is_none() && self.status.is_none() && self.tags.is_empty()
    }

    /// Whether the member matches all filters. A missing tag is an empty text.
    pub(super) fn matches(&self, member: &MemberRef<'_>) -> bool {
        let matches =
            |pattern: &Option<Pattern>, value| pattern.as_ref().is_none_or(|pattern| pattern.is_match(value));
        if !matches(&self.status, member.status.as_str()) || !matches(&self.name, member.name) {
            return false;
        }
        if self.tags.is_empty() {
            return true;
        }
        let has = member.tags();
        self.tags.iter().all(|(tag, pattern)| pattern.is_match(has.get(tag).map_or("", String::as_str)))
    }
}

/// Serf puts no group around the expression, so `a|b` means "begins with a, or ends with b"; scripts rely on it.
fn whole_value(expr: &str) -> Result<Pattern, String> {
    let expr = format!("^{expr}$");
    Pattern::new(&expr).map_err(|error| {
        let quoted = if error.to_string().contains('`') { String::new() } else { format!(": `{expr}`") };
        format!("Failed to compile regex: error parsing regexp: {error}{quoted}")
    })
}

/// The member in the form of RPC records.
pub(super) fn to_wire(member: Member) -> ipc::Member {
    let versions = member.versions;
    ipc::Member {
        name: member.name,
        addr: Some(member.addr),
        port: member.port,
        tags: member.tags,
        status: member.status.as_str().to_owned(),
        protocol_min: versions.protocol_min(),
        protocol_max: versions.protocol_max(),
        protocol_cur: versions.protocol_cur(),
        delegate_min: versions.delegate_min(),
        delegate_max: versions.delegate_max(),
        delegate_cur: versions.delegate_cur(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use thane_engine::view::MemberStatus;
    use thane_engine::wire::{Versions, encode_tags};

    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn names(request: MembersRequest) -> Vec<&'static str> {
        let filter = MemberFilter::new(&request).unwrap();
        let members = [("aa", vec![("dc", "east")]), ("bb", vec![("dc", "west")]), ("zz", vec![])];
        let matches = |(name, tags): &(&str, Vec<(&str, &str)>)| {
            let mut meta = Vec::new();
            encode_tags(&pairs(tags), &mut meta);
            filter.matches(&MemberRef {
                name,
                addr: "127.16.0.1".parse().unwrap(),
                port: 7946,
                meta: &meta,
                status: MemberStatus::Alive,
                versions: Versions::SERF,
            })
        };
        members.into_iter().filter(matches).map(|(name, _)| name).collect()
    }

    fn by_name(expr: &str) -> Vec<&'static str> {
        names(MembersRequest { name: expr.to_owned(), ..MembersRequest::default() })
    }

    fn by_tag(tag: &str, expr: &str) -> Vec<&'static str> {
        names(MembersRequest { tags: pairs(&[(tag, expr)]), ..MembersRequest::default() })
    }

    #[test]
    fn expressions_are_anchored_without_a_group() {
        assert_eq!(by_name("a"), Vec::<&str>::new());
        assert_eq!(by_name("a+"), ["aa"]);
        assert_eq!(by_name("zz|b"), ["bb", "zz"]);
        assert_eq!(by_name("(zz|b)"), ["zz"]);
        assert_eq!(by_name(""), ["aa", "bb", "zz"]);
    }

    #[test]
    fn a_missing_tag_is_empty() {
        assert_eq!(by_tag("dc", "east"), ["aa"]);
        assert_eq!(by_tag("dc", ""), ["zz"]);
        assert_eq!(by_tag("dc", ".*"), ["aa", "bb", "zz"]);
        assert_eq!(by_tag("dc", ".+"), ["aa", "bb"]);
        assert_eq!(by_tag("other", ""), ["aa", "bb", "zz"]);
    }

    #[test]
    fn all_parts_must_match() {
        let status = |status: &str| {
            names(MembersRequest {
                status: status.to_owned(),
                name: "a.".to_owned(),
                tags: pairs(&[("dc", "e.*")]),
            })
        };
        assert_eq!(status("alive"), ["aa"]);
        assert_eq!(status("left|alive"), ["aa"]);
        assert!(status("live").is_empty());
    }

    #[test]
    fn a_bad_expression_gives_one_line() {
        for request in [
            MembersRequest { name: "(".to_owned(), ..MembersRequest::default() },
            MembersRequest { status: "(".to_owned(), ..MembersRequest::default() },
            MembersRequest { tags: pairs(&[("nobody-has-it", "(")]), ..MembersRequest::default() },
        ] {
            let error = MemberFilter::new(&request).err().unwrap();
            assert_eq!(error, "Failed to compile regex: error parsing regexp: missing closing ): `^($`");
        }
        let huge = MembersRequest { name: "(a{1000}){1000}".to_owned(), ..MembersRequest::default() };
        assert!(!MemberFilter::new(&huge).err().unwrap().contains('\n'));
    }
}
