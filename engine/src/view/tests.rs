//! Entries, counts and the digest of a view.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::wire::Alive;

fn add(view: &mut View, roster: &mut Roster, name: &str) -> MemberIndex {
    let alive = Alive {
        incarnation: Incarnation(1),
        node: name,
        addr: (&[127, 0, 0, 1][..]).into(),
        port: 1,
        meta: (&[][..]).into(),
        versions: (&[1, 5, 2, 2, 5, 5][..]).into(),
    };
    let fact = roster.intern_fact(&alive);
    view.set_fact(roster, fact)
}

#[test]
fn packs_and_unpacks() {
    let mut roster = Roster::new(&mut Random::new(1));
    let mut view = View::default();
    let a = add(&mut view, &mut roster, "a");
    for ltime in [0, 1, 77, (1 << 26) - 2, (1 << 26) - 1, 1 << 26, u64::MAX] {
        for state in SWIM_STATES {
            for status in MemberStatus::ALL {
                view.set_status_ltime(&roster, a, LamportTime(ltime));
                view.set_swim(&roster, a, state, Time::ZERO);
                view.set_status(&roster, a, status, Time::ZERO);
                let known = view.get(a).unwrap();
                assert_eq!(known.swim, state);
                assert_eq!(known.status, status);
                assert_eq!(known.status_ltime, LamportTime(ltime));
                assert_eq!(view.swim_count(state), 1);
                assert_eq!(view.status_count(status), 1);
            }
        }
    }
    view.remove(&mut roster, a);
    assert_eq!(view.get(a), None);
    assert_eq!((view.table_count(), view.members_count(), roster.facts_count()), (0, 0, 0));
}

/// The digest of a view computed anew from its entries.
fn digest_of(view: &View, roster: &Roster) -> (crate::digest::Fingerprint, u64) {
    let mut digest = Digest::default();
    for (member, known) in view.iter() {
        let (point, incarnation) = (roster.point(member), roster.fact(known.fact).incarnation);
        if matches!(known.swim, SwimState::Alive | SwimState::Suspect) {
            digest.enter(point, member_version(incarnation, known.status == MemberStatus::Leaving));
        }
        if let Some(fact) = view.gone_fact(member) {
            digest.enter_gone(point, fact);
        }
    }
    (digest.alive(), digest.gone())
}

#[test]
fn no_change_of_an_entry_escapes_the_digest() {
    let mut roster = Roster::new(&mut Random::new(1));
    let (mut view, mut random) = (View::default(), Random::new(2));
    let mut members: Vec<MemberIndex> =
        (0..20).map(|i| add(&mut view, &mut roster, &format!("n{i}"))).collect();
    for step in 0..4_000 {
        let place = random.below(members.len() as u32) as usize;
        let member = members[place];
        match random.below(9) {
            0 => {
                let known = view.get(member).unwrap();
                let incarnation = Incarnation(random.below(5));
                let fact = roster.intern_with_incarnation(known.fact, incarnation);
                view.set_fact(&mut roster, fact);
            }
            1 if step % 5 == 0 => {
                view.remove(&mut roster, member);
                members[place] = add(&mut view, &mut roster, &format!("m{step}"));
            }
            1 | 2 => {
                let ltime = LamportTime([0, 3, 9, u64::MAX][random.below(4) as usize]);
                view.set_status_ltime(&roster, member, ltime);
            }
            3..=5 => {
                let state = SWIM_STATES[random.below(5) as usize];
                view.set_swim(&roster, member, state, Time::ZERO);
            }
            _ => {
                let status = MemberStatus::ALL[random.below(5) as usize];
                view.set_status(&roster, member, status, Time::ZERO);
            }
        }
        let digest = (view.digest().alive(), view.digest().gone());
        assert_eq!(digest, digest_of(&view, &roster), "after step {step}");
    }
}

#[test]
fn two_views_share_facts_but_not_knowledge() {
    let mut roster = Roster::new(&mut Random::new(1));
    let (mut one, mut two) = (View::default(), View::default());
    let a = add(&mut one, &mut roster, "a");
    assert_eq!(two.get(a), None);
    assert_eq!(two.by_name(&roster, "a"), None);
    add(&mut two, &mut roster, "a");
    assert_eq!(roster.facts_count(), 1);
    one.clear(&mut roster);
    assert_eq!(roster.facts_count(), 1);
    two.clear(&mut roster);
    assert_eq!((roster.facts_count(), roster.names_count()), (0, 0));
}

#[test]
fn random_picks_find_the_one_that_fits() {
    let mut roster = Roster::new(&mut Random::new(1));
    let mut view = View::default();
    let members: Vec<MemberIndex> = (0..500).map(|i| add(&mut view, &mut roster, &format!("n{i}"))).collect();
    let mut random = Random::new(9);
    assert_eq!(view.random_member(&mut random, |m, _| m == members[321]), Some(members[321]));
    assert_eq!(view.random_member(&mut random, |_, _| false), None);
}
