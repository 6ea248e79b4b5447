//! The segment graph: to whom a node forwards news.
//!
//! Each member is a point on a circle ([`crate::roster::circle::point_of`]). In the graph of shift c, the member at p
//! forwards to those whose points lie from 4p + c to 4s + c, where s is the point of the next member, and to the last
//! one before that. As x runs once round the circle, 4x + c does four times, so that the segments of all members cover
//! each point four times: everybody is reached about five times, from members that lie far apart. A node needs to know
//! the points of members only, and views that differ in some members differ in some edges only.

use crate::roster::circle::finish;
use crate::roster::{MemberIndex, Order};

/// How many graphs there are. News in the same graph shares packets; in many graphs a member with bad neighbours in one
/// hears most news well.
pub(super) const GRAPHS: u8 = 8;
/// How often the segments of all members cover the circle.
const SEGMENTS: u64 = 4;
/// Most targets by segment: one segment in 10 million is longer, unless somebody chose names so that it is.
const TARGETS_MAX: usize = 64;
/// Most members that are looked at for one thing; those that the view does not have count too.
const WALK_MAX: usize = 4096;

/// The graph for news with that hash.
pub(super) fn graph_of(hash: u64) -> u8 {
    (hash % u64::from(GRAPHS)) as u8
}

/// Adds the members to which the member `me` forwards in a graph. `has` returns whether the view has a member.
pub(super) fn add_targets(
    order: Order<'_>,
    me: (u64, MemberIndex),
    graph: u8,
    has: impl Fn(MemberIndex) -> bool,
    targets: &mut Vec<MemberIndex>,
) {
    let (point, me) = me;
    let is_other = |&(_, member): &(u64, MemberIndex)| member != me && has(member);
    let successor = order.successors(point).take(WALK_MAX).find(is_other);
    let Some((successor, _)) = successor else { return };
    let start = point.wrapping_mul(SEGMENTS).wrapping_add(shift(graph));
    let length = u128::from(successor.wrapping_sub(point)) * u128::from(SEGMENTS);
    let segment = order
        .successors(start)
        .take(WALK_MAX)
        .take_while(|&(point, _)| u128::from(point.wrapping_sub(start)) < length);
    targets.extend(segment.filter(is_other).take(TARGETS_MAX).map(|(_, member)| member));
    let before = order.predecessors(start).take(WALK_MAX).find(is_other);
    if let Some((_, before)) = before
        && !targets.contains(&before)
    {
        targets.push(before);
    }
}

/// The c of a graph. Part of the protocol: with other values on other nodes some members are reached less often.
/// Graph 0: `0xe220a8397b1dcdaf`.
fn shift(graph: u8) -> u64 {
    finish((u64::from(graph) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::random::Random;
    use crate::roster::Roster;

    fn roster(members: u32) -> (Roster, Vec<MemberIndex>) {
        let mut roster = Roster::new(&mut Random::new(1));
        let members = (0..members).map(|n| roster.intern_name(&format!("node-{n}"))).collect();
        (roster, members)
    }

    fn targets(roster: &mut Roster, me: MemberIndex, graph: u8, view: &[MemberIndex]) -> Vec<MemberIndex> {
        let view: BTreeSet<MemberIndex> = view.iter().copied().collect();
        let (point, mut targets) = (roster.point(me), Vec::new());
        add_targets(roster.order(), (point, me), graph, |member| view.contains(&member), &mut targets);
        targets
    }

    /// The definition, over sorted points in 128 bits: who lies in the segment, and who lies last before it.
    fn naive(roster: &Roster, me: MemberIndex, graph: u8, view: &[MemberIndex]) -> BTreeSet<MemberIndex> {
        const CIRCLE: u128 = 1 << 64;
        let others: Vec<MemberIndex> = view.iter().copied().filter(|&member| member != me).collect();
        let ahead = |from: u128, member: MemberIndex| {
            let ahead = (u128::from(roster.point(member)) + CIRCLE - from) % CIRCLE;
            if ahead == 0 { CIRCLE } else { ahead }
        };
        let point = u128::from(roster.point(me));
        let gap = others.iter().map(|&other| ahead(point, other)).min();
        let Some(gap) = gap else { return BTreeSet::new() };
        let start = (4 * point + u128::from(shift(graph))) % CIRCLE;
        let in_segment = |&member: &MemberIndex| ahead(start, member) % CIRCLE < 4 * gap;
        let mut found: BTreeSet<MemberIndex> = others.iter().copied().filter(in_segment).collect();
        found.extend(others.iter().copied().max_by_key(|&other| ahead(start, other) % CIRCLE));
        found
    }

    #[test]
    fn targets_are_those_of_the_definition() {
        for members in [1, 2, 3, 17, 200] {
            let (mut roster, all) = roster(members);
            for (place, &me) in all.iter().enumerate() {
                // Every view has the node itself, and not all others.
                let keep = |&(other, _): &(usize, &MemberIndex)| other == place || (other + place) % 7 != 0;
                let view: Vec<MemberIndex> = all.iter().enumerate().filter(keep).map(|(_, &m)| m).collect();
                for graph in 0..GRAPHS {
                    let found = targets(&mut roster, me, graph, &view);
                    let distinct: BTreeSet<MemberIndex> = found.iter().copied().collect();
                    assert_eq!(found.len(), distinct.len(), "nobody is named twice");
                    assert_eq!(distinct, naive(&roster, me, graph, &view), "{members} members, {me:?}");
                }
            }
        }
    }

    #[test]
    fn everybody_is_reached_from_everybody_over_about_five_edges_each() {
        let (mut roster, all) = roster(300);
        for graph in 0..GRAPHS {
            let edges: Vec<Vec<MemberIndex>> =
                all.iter().map(|&me| targets(&mut roster, me, graph, &all)).collect();
            let mut heard = vec![0; all.len()];
            edges.iter().flatten().for_each(|member| heard[member.0 as usize] += 1);
            let mean = f64::from(heard.iter().sum::<i32>()) / heard.len() as f64;
            assert!((4.3..5.1).contains(&mean), "{mean} edges to each");
            assert!(
                heard.iter().all(|&edges| edges >= 3),
                "one of the four may be the member's own: {heard:?}"
            );
            for &origin in &all {
                let (mut reached, mut next) = (vec![false; all.len()], vec![origin]);
                while let Some(member) = next.pop() {
                    if !std::mem::replace(&mut reached[member.0 as usize], true) {
                        next.extend(&edges[member.0 as usize]);
                    }
                }
                assert!(reached.iter().all(|&reached| reached), "graph {graph} from {origin:?}");
            }
        }
    }

    #[test]
    fn names_that_were_chosen_to_lie_in_a_segment_make_no_more_than_64_targets() {
        let (mut roster, all) = roster(4_000);
        let me = all[0];
        // Nobody for half of the circle: the segment covers all of it twice.
        let point = roster.point(me);
        let far = |&member: &MemberIndex| roster.point(member).wrapping_sub(point) > u64::MAX / 2;
        let view: Vec<MemberIndex> = all.iter().copied().filter(far).chain([me]).collect();
        assert!(view.len() > 1_000);
        assert_eq!(targets(&mut roster, me, 0, &view).len(), TARGETS_MAX + 1);
    }

    #[test]
    fn the_shifts_are_part_of_the_protocol() {
        let shifts = [0, 1, 7].map(shift);
        assert_eq!(shifts, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0xc584_133a_c916_ab3c]);
    }
}
