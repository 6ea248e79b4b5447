//! Query filters: which nodes a query is for (PROTOCOL 5.3).
//!
//! A filter that can't be understood selects nobody, and the query still goes on to others, as with Serf. A query
//! that is sent from here is checked first, so that the sender gets the error instead of no answers.
//!
//! Compiling an expression is work that a stranger asks for, so it has a budget: [`COST_PER_SECOND`] for
//! expressions that were not seen lately. A query beyond it is not answered and is counted.

use std::collections::BTreeMap;

use crate::command::{CommandError, QueryParams};
use crate::drop_reason::DropReason;
use crate::event::Notice;
use crate::pattern::{COST_MAX, Pattern, PatternError};
use crate::scope::Scope;
use crate::time::Time;
use crate::wire::decode_tags;
use crate::wire::serf::{Filter, Query};

/// Cost of the expressions that are compiled in a second, in units of [`Pattern::cost`]: some 20 ms of work.
const COST_PER_SECOND: u32 = 5 * COST_MAX;
/// What every expression costs at least, compiled or not: reading and checking it.
const COST_MIN: u32 = 20;
/// Expressions that are kept compiled, and the cost of one that is worth keeping.
const KEPT_MAX: usize = 16;
const KEPT_COST_MAX: u32 = 200;

type Tags = BTreeMap<String, String>;

/// The expressions seen lately and the budget for new ones. Takes memory from the first expression on.
#[derive(Default)]
pub(super) struct Filters {
    /// Expression and its pattern, the one used last at the end.
    kept: Vec<(String, Pattern)>,
    spent: u32,
    /// The second that `spent` belongs to.
    second: u64,
}

/// The filters of a query that this node sends.
///
/// # Errors
/// An expression that no node would understand. Nothing was sent.
pub(super) fn encode(params: &QueryParams) -> Result<Vec<Vec<u8>>, CommandError> {
    for (tag, expr) in &params.filter_tags {
        Pattern::new(expr)
            .map_err(|error| CommandError::BadFilter { tag: tag.clone(), reason: error.to_string() })?;
    }
    let nodes = params.filter_nodes.iter().map(String::as_str).collect::<Vec<&str>>();
    let nodes = (!nodes.is_empty()).then(|| Filter::Nodes(nodes).encode());
    let tags = params.filter_tags.iter().map(|(tag, expr)| Filter::Tag { tag, expr }.encode());
    Ok(nodes.into_iter().chain(tags).collect())
}

impl Filters {
    /// Whether this node is meant by all filters of a query.
    pub(super) fn pass(&mut self, scope: &mut Scope<'_>, hidden_tags: &Tags, query: &Query<'_>) -> bool {
        let mut tags = None;
        query.filters.iter().all(|filter| match Filter::decode(filter) {
            Ok(Filter::Nodes(nodes)) => nodes.contains(&scope.config.node_name.as_str()),
            Ok(Filter::Tag { tag, expr }) => {
                let tags = tags.get_or_insert_with(|| own_tags(scope, hidden_tags));
                // A missing tag is empty.
                self.matches(scope, expr, tags.get(tag).map_or("", String::as_str))
            }
            Err(reason) => {
                scope.drop_input(reason, None);
                false
            }
        })
    }

    fn matches(&mut self, scope: &mut Scope<'_>, expr: &str, value: &str) -> bool {
        if let Some(place) = self.kept.iter().position(|(known, _)| known == expr) {
            self.kept[place..].rotate_left(1);
            return self.kept.last().is_some_and(|(_, pattern)| pattern.is_match(value));
        }
        let cost = Pattern::cost_of(expr);
        if !self.spend(scope.now(), cost.as_ref().copied().unwrap_or_default()) {
            scope.drop_input(DropReason::FiltersTooCostly, None);
            return false;
        }
        match cost.and_then(|_| Pattern::new(expr)) {
            Ok(pattern) => {
                let matches = pattern.is_match(value);
                self.keep(expr, pattern);
                matches
            }
            Err(error) => refuse(scope, expr, &error),
        }
    }

    /// Takes the cost out of this second's budget. False if it is not there.
    fn spend(&mut self, now: Time, cost: u32) -> bool {
        let second = now.as_nanos() / 1_000_000_000;
        if self.second != second {
            (self.second, self.spent) = (second, 0);
        }
        let spent = self.spent.saturating_add(cost.max(COST_MIN));
        let fits = spent <= COST_PER_SECOND;
        if fits {
            self.spent = spent;
        }
        fits
    }

    fn keep(&mut self, expr: &str, pattern: Pattern) {
        if pattern.cost() > KEPT_COST_MAX {
            return;
        }
        if self.kept.len() >= KEPT_MAX {
            self.kept.remove(0);
        }
        self.kept.push((expr.to_owned(), pattern));
    }
}

fn refuse(scope: &mut Scope<'_>, expr: &str, error: &PatternError) -> bool {
    scope.stats.count_drop(DropReason::BadFilter);
    scope.notice(Notice::BadFilter { expr: expr.to_owned(), reason: error.to_string() });
    false
}

/// This node's tags, those included that do not travel.
fn own_tags(scope: &Scope<'_>, hidden_tags: &Tags) -> Tags {
    let fact = scope.view.fact(&scope.ctx.roster, scope.me);
    let mut tags = fact.and_then(|fact| decode_tags(fact.meta()).ok()).unwrap_or_default();
    tags.extend(hidden_tags.iter().map(|(name, value)| (name.clone(), value.clone())));
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_a_budget_and_the_next_one_has_another() {
        let mut filters = Filters::default();
        let at = |seconds: u64| Time::from_nanos(seconds * 1_000_000_000);
        for _ in 0..5 {
            assert!(filters.spend(at(1), COST_MAX));
        }
        assert!(!filters.spend(at(1), 1), "the budget of this second is spent");
        assert!(filters.spend(at(2), COST_MAX));
        let cheap = (0..10_000).filter(|_| filters.spend(at(3), 0)).count();
        assert_eq!(cheap, (COST_PER_SECOND / COST_MIN) as usize, "reading an expression costs too");
    }

    #[test]
    fn few_expressions_are_kept_compiled_and_none_that_is_large() {
        let mut filters = Filters::default();
        for n in 0..100 {
            let expr = format!("web-{n}");
            let pattern = Pattern::new(&expr).expect("it is valid");
            filters.keep(&expr, pattern);
        }
        filters.keep(".{100}", Pattern::new(".{100}").expect("it is valid"));
        assert_eq!(filters.kept.len(), KEPT_MAX);
        assert_eq!(filters.kept[KEPT_MAX - 1].0, "web-99");
    }
}
