//! Every method of a delegate that the serf layer leaves to it; `plain` has the others.

use std::sync::{Arc, Mutex};

use thane_engine::command::CommandError;
use thane_engine::delegate::{Announcement, Announcements, Delegate, Veto};
use thane_engine::drop_reason::DropReason;
use thane_engine::event::{Completion, Event, Member, MemberEventKind, Notice};
use thane_engine::wire::{Alive, Incarnation, Versions, encode_tags};

use super::*;

/// The calls that delegates got, shared with the test.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    pub(crate) fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, start: &str) -> usize {
        self.lines().iter().filter(|line| line.starts_with(start)).count()
    }
}

/// Admits members without a tag `evil`, and lists of members without such a member.
struct Guard(Heard);

impl Guard {
    fn check(announced: &Announcement<'_>) -> Result<(), Veto> {
        if announced.tags().is_ok_and(|tags| tags.contains_key("evil")) {
            return Err(format!("{} is evil", announced.name).into());
        }
        Ok(())
    }
}

impl Delegate for Guard {
    fn admit(&mut self, announced: &Announcement<'_>) -> Result<(), Veto> {
        self.0.add(format!("admit {}", announced.name));
        Guard::check(announced)
    }

    fn admit_merge(&mut self, theirs: Announcements<'_>) -> Result<(), Veto> {
        let names: Vec<&str> = theirs.iter().map(|announced| announced.name).collect();
        assert_eq!(names.len(), theirs.len());
        self.0.add(format!("merge {}", names.join(" ")));
        theirs.iter().try_for_each(|announced| Guard::check(&announced))
    }
}

fn evil(raw: &mut RawConfig) {
    raw.tags.insert("evil".to_owned(), "yes".to_owned());
}

pub(crate) fn join(world: &mut World, who: NodeId, through: NodeId) {
    let seed_node = target(world, through);
    world.with(who, |node, ctx| node.join(ctx, Ticket(1), vec![seed_node], true)).unwrap();
}

fn joined(world: &World, id: NodeId) -> Option<Completion> {
    let done = world.completions().iter().rfind(|(node, ticket, _)| *node == id && *ticket == Ticket(1));
    done.map(|(_, _, completion)| completion.clone())
}

pub(crate) fn drops(world: &World, id: NodeId, reason: DropReason) -> u64 {
    world.node(id).unwrap().stats().drops(reason)
}

#[test]
fn a_vetoed_member_is_not_let_in() {
    let (mut world, heard) = (World::new(201, Network::default()), Heard::default());
    let guarded = world.add_with(Box::new(Guard(heard.clone())), |_| {});
    let good = world.add(|_| {});
    let bad = world.add(evil);
    join(&mut world, good, guarded);
    world.run_until(60 * SECOND, |w| w.all_hold(&[guarded], &names(&[good]), SwimState::Alive)).unwrap();
    join(&mut world, bad, good);
    world.run(120 * SECOND);
    assert_eq!(world.state(guarded, "n3"), SwimState::Absent);
    assert_eq!(world.state(good, "n3"), SwimState::Alive, "who has no rules lets it in");
    assert!(heard.count("admit n3") > 0);
    assert!(drops(&world, guarded, DropReason::AliveVetoed) > 0);
    let told = Notice::AliveVetoed { name: "n3".to_owned(), reason: "n3 is evil".to_owned() };
    assert!(world.notices().iter().any(|(_, id, notice)| *id == guarded && *notice == told));
    let member = |event: &Event| match event {
        Event::Member { members, .. } => members.iter().any(|member| member.name == "n3"),
        _ => false,
    };
    assert!(!world.events().iter().any(|(id, event)| *id == guarded && member(event)));
}

#[test]
fn a_vetoed_alive_is_not_passed_on() {
    let (mut world, heard) = (World::new(214, Network::default()), Heard::default());
    let guarded = world.add_with(Box::new(Guard(heard.clone())), |_| {});
    let other = world.add(|_| {});
    join(&mut world, other, guarded);
    world.run(5 * SECOND);
    for (name, tags) in [("good", "none"), ("bad", "evil")] {
        let mut meta = Vec::new();
        encode_tags(&[(tags.to_owned(), "yes".to_owned())].into(), &mut meta);
        let alive = Alive {
            incarnation: Incarnation(1),
            node: name,
            addr: (&[127, 9, 9, 9][..]).into(),
            port: 9,
            meta: meta.into(),
            versions: Versions::SERF.0[..].into(),
        };
        let mut bytes = Vec::new();
        alive.encode(&mut bytes);
        let from = "127.9.9.9:9".parse().unwrap();
        world.with(guarded, |node, ctx| node.handle_datagram(ctx, from, &mut bytes));
    }
    world.run_until(5 * SECOND, |w| w.state(other, "good") == SwimState::Alive).expect("it is passed on");
    world.run(60 * SECOND);
    assert_eq!(world.state(other, "bad"), SwimState::Absent);
    assert_eq!(heard.count("admit bad"), 1);
}

#[test]
fn a_known_member_whose_news_is_vetoed_stays_as_it_was() {
    let (mut world, heard) = (World::new(202, Network::default()), Heard::default());
    let guarded = world.add_with(Box::new(Guard(heard)), |_| {});
    let other = world.add(|_| {});
    join(&mut world, other, guarded);
    let known = |w: &World| w.all_hold(&[guarded], &names(&[other]), SwimState::Alive);
    world.run_until(60 * SECOND, known).unwrap();
    let tags = [("evil".to_owned(), "now".to_owned())].into();
    world.with(other, |node, ctx| node.set_tags(ctx, Ticket(2), &tags)).unwrap();
    world.run(5 * SECOND);
    assert!(drops(&world, guarded, DropReason::AliveVetoed) > 0);
    let members = world.with(guarded, |node, ctx| node.members(ctx));
    assert_eq!(members[1].tags, [].into());
    assert_eq!(world.incarnation(guarded, "n2"), Some(1));
}

#[test]
fn a_vetoed_merge_merges_nothing_and_the_joiner_is_told() {
    let (mut world, heard) = (World::new(203, Network::default()), Heard::default());
    let guarded = world.add_with(Box::new(Guard(heard.clone())), |_| {});
    let bad = world.add(evil);
    join(&mut world, bad, guarded);
    world.run_until(SECOND, |w| joined(w, bad).is_some()).expect("the join is through");
    let errors = vec!["Failed to join 127.0.0.1: remote error: n2 is evil".to_owned()];
    assert_eq!(joined(&world, bad), Some(Completion::Joined { contacted: 0, errors }));
    world.run(Duration::from_millis(10));
    assert_eq!(drops(&world, guarded, DropReason::MergeVetoed), 1);
    assert_eq!(world.node(guarded).unwrap().stats().push_pulls, 0);
    let told = Notice::MergeVetoed { reason: "n2 is evil".to_owned() };
    assert!(world.notices().iter().any(|(_, id, notice)| *id == guarded && *notice == told));
    world.run(60 * SECOND);
    assert_eq!(world.state(guarded, "n2"), SwimState::Absent, "its alives are vetoed, too");
    assert_eq!(heard.lines()[0], "merge n2");
}

#[test]
fn an_own_join_fails_with_the_delegates_reason() {
    let (mut world, heard) = (World::new(204, Network::default()), Heard::default());
    let bad = world.add(evil);
    let guarded = world.add_with(Box::new(Guard(heard.clone())), |_| {});
    join(&mut world, guarded, bad);
    world.run_until(SECOND, |w| joined(w, guarded).is_some()).expect("the join is through");
    let errors = vec!["Failed to join 127.0.0.1: n1 is evil".to_owned()];
    assert_eq!(joined(&world, guarded), Some(Completion::Joined { contacted: 0, errors }));
    assert_eq!(heard.lines(), ["merge n1"], "what is vetoed whole is not looked at one by one");
}

/// Refuses every single member, and admits every list.
struct Loner;

impl Delegate for Loner {
    fn admit(&mut self, announced: &Announcement<'_>) -> Result<(), Veto> {
        Err(format!("{} is somebody", announced.name).into())
    }
}

#[test]
fn a_join_fails_if_the_joiner_takes_none_of_the_members() {
    let mut world = World::new(206, Network::default());
    let loner = world.add_with(Box::new(Loner), |_| {});
    let other = world.add(|_| {});
    join(&mut world, loner, other);
    world.run_until(SECOND, |w| joined(w, loner).is_some()).expect("the join is through");
    let reason = "none of the members that it lists is taken for alive here";
    let errors = vec![format!("Failed to join 127.0.0.2: {reason}")];
    assert_eq!(joined(&world, loner), Some(Completion::Joined { contacted: 0, errors }));
}

#[test]
fn a_merge_is_asked_about_before_its_members_and_only_when_somebody_joins() {
    let (mut world, heard) = (World::new(205, Network::default()), Heard::default());
    // Thane nodes whose views are equal exchange no states.
    let first = world.add(|raw| raw.extensions = false);
    let guarded = world.add_with(Box::new(Guard(heard.clone())), |_| {});
    join(&mut world, guarded, first);
    world.run_until(SECOND, |w| joined(w, guarded).is_some()).expect("the join is through");
    assert_eq!(heard.lines()[..2], ["merge n1", "admit n1"]);
    world.run(300 * SECOND);
    assert!(world.node(guarded).unwrap().stats().push_pulls > 4, "there were periodic ones");
    assert_eq!(heard.count("merge"), 1);
}

/// Records conflicts and pings, and adds its payload to acks.
struct Teller(Heard, usize);

impl Delegate for Teller {
    fn on_conflict(&mut self, known: &Announcement<'_>, other: &Announcement<'_>) {
        self.0.add(format!("conflict {} {} {}", known.name, known.addr, other.addr));
    }

    fn ack_payload(&mut self) -> Vec<u8> {
        self.0.add("ack");
        vec![b'x'; self.1]
    }

    fn on_ping(&mut self, member: &Announcement<'_>, round_trip: Duration, payload: &[u8]) {
        let in_range = (Duration::from_micros(400)..=Duration::from_micros(1200)).contains(&round_trip);
        self.0.add(format!("ping {} {in_range} {}", member.name, payload.len()));
    }
}

#[test]
fn a_name_under_two_addresses_is_a_conflict() {
    let (mut world, heard) = (World::new(206, Network::default()), Heard::default());
    let told = world.add_with(Box::new(Teller(heard.clone(), 0)), |_| {});
    let other = world.add(|_| {});
    join(&mut world, other, told);
    world.run(SECOND);
    let claimant = world.add(|raw| raw.node_name = "n2".to_owned());
    join(&mut world, claimant, told);
    world.run(SECOND);
    let line = "conflict n2 127.0.0.2:7946 127.0.0.3:7946";
    assert!(heard.lines().iter().any(|told| told == line), "{:?}", heard.lines());
    let addr = world.with(told, |node, ctx| node.members(ctx))[1].addr;
    assert_eq!(addr.to_string(), "127.0.0.2");
}

/// Two nodes with that delegate, one minute later.
fn tellers(seed: u64, payload: usize, coordinates: bool) -> (World, Heard) {
    let (mut world, heard) = (World::new(seed, Network::default()), Heard::default());
    let change = |raw: &mut RawConfig| raw.coordinates = coordinates;
    let first = world.add_with(Box::new(Teller(heard.clone(), payload)), change);
    let second = world.add_with(Box::new(Teller(heard.clone(), payload)), change);
    join(&mut world, second, first);
    world.run(60 * SECOND);
    (world, heard)
}

#[test]
fn acks_carry_the_delegates_payload_where_there_are_no_coordinates() {
    let (world, heard) = tellers(207, 300, false);
    assert!(heard.count("ping n1 true 300") > 50 && heard.count("ping n2 true 300") > 50);
    assert_eq!(heard.count("ping"), heard.count("ack"));
    for (_, _, notice) in world.notices() {
        assert!(!matches!(notice, Notice::DelegateTooLong { .. } | Notice::Dropped { .. }), "{notice:?}");
    }
}

#[test]
fn only_the_time_of_a_direct_ack_is_told() {
    let network = Network { loss: 0.2, ..Network::default() };
    let (mut world, heard) = (World::new(215, network), Heard::default());
    let teller = || Box::new(Teller(heard.clone(), 5));
    let ids: Vec<NodeId> = (0..4).map(|_| world.add_with(teller(), |raw| raw.coordinates = false)).collect();
    ids[1..].iter().for_each(|&id| join(&mut world, id, ids[0]));
    world.run(300 * SECOND);
    // Of about 1200 probes a third lost its ping or its ack and was answered through others or a stream.
    let probes: u64 = ids.iter().map(|&id| world.node(id).unwrap().stats().probes).sum();
    let told = heard.count("ping") as u64;
    assert!(told < probes * 4 / 5 && told > probes / 2, "{told} of {probes}");
    assert!(heard.lines().iter().all(|line| !line.contains("false")), "a forwarded ack counts for nothing");
}

#[test]
fn with_coordinates_acks_carry_those_and_pings_are_told_all_the_same() {
    let (_, heard) = tellers(208, 300, true);
    assert!(heard.count("ping n1 true 130") > 50);
    assert_eq!(heard.count("ack"), 0);
}

#[test]
fn a_payload_that_does_not_fit_is_left_out_and_told() {
    let (world, heard) = tellers(209, 513, false);
    assert!(heard.count("ping n1 true 0") > 50);
    let told = Notice::DelegateTooLong { method: "ack_payload", bytes: 513, bytes_max: 512 };
    assert!(world.notices().iter().any(|(_, _, notice)| *notice == told));
}

/// Erases n2 after a minute.
struct Impatient;

impl Delegate for Impatient {
    fn reconnect_timeout(&mut self, member: &Member, timeout: Duration) -> Duration {
        assert_ne!(member.status, MemberStatus::Alive);
        if member.name == "n2" { 60 * SECOND } else { timeout }
    }
}

#[test]
fn each_member_may_have_its_own_reconnect_timeout() {
    let mut world = World::new(210, Network::default());
    let first = world.add_with(Box::new(Impatient), |_| {});
    let others = [world.add(|_| {}), world.add(|_| {})];
    others.iter().for_each(|&other| join(&mut world, other, first));
    world.run_until(60 * SECOND, |w| w.all_hold(&[first], &names(&others), SwimState::Alive)).unwrap();
    others.iter().for_each(|&other| world.crash(other));
    let failed = |w: &World| ["n2", "n3"].iter().all(|name| w.status(first, name) == MemberStatus::Failed);
    world.run_until(120 * SECOND, failed).expect("both fail");
    world.run(120 * SECOND);
    assert_eq!(world.status(first, "n2"), MemberStatus::None);
    assert_eq!(world.status(first, "n3"), MemberStatus::Failed, "the settings say a day");
    let reaped = |event: &Event| matches!(event, Event::Member { kind: MemberEventKind::Reap, members } if members.iter().any(|member| member.name == "n2"));
    assert!(world.events().iter().any(|(id, event)| *id == first && reaped(event)));
}

/// Has no rules.
struct Nothing;

impl Delegate for Nothing {}

#[test]
fn a_delegate_without_rules_changes_nothing() {
    let run = |with: bool| {
        let mut world = World::new(211, Network { loss: 0.05, ..Network::default() });
        let ids: Vec<NodeId> = (0..6)
            .map(|_| if with { world.add_with(Box::new(Nothing), |_| {}) } else { world.add(|_| {}) })
            .collect();
        ids[1..].iter().for_each(|&id| join(&mut world, id, ids[0]));
        world.run(60 * SECOND);
        world.crash(ids[5]);
        world.run(120 * SECOND);
        world.trace_hash()
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn what_only_plain_swim_knows_is_refused_with_serf() {
    let mut world = World::new(212, Network::default());
    let id = world.add_with(Box::new(Nothing), |_| {});
    let refused = world.with(id, |node, ctx| node.broadcast(ctx, "x".into()));
    assert_eq!(refused, Err(CommandError::NotSupported));
    let refused = world.with(id, |node, ctx| node.send(ctx, "n1", b"x"));
    assert_eq!(refused, Err(CommandError::NotSupported));
    let refused = world.with(id, |node, ctx| node.update_meta(ctx, Ticket(1)));
    assert_eq!(refused, Err(CommandError::MetaGivenBy("its tags")));
}

#[test]
fn some_tags_change_and_others_stay() {
    let mut world = World::new(213, Network::default());
    let tags = [("a", "1"), ("b", "2"), ("c", "3")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let id = world.add(|raw| raw.tags = tags.into());
    let set = [("b".to_owned(), "9".to_owned()), ("d".to_owned(), "4".to_owned())].into();
    world.with(id, |node, ctx| node.update_tags(ctx, Ticket(1), set, &["c".to_owned()])).unwrap();
    let tags = world.with(id, |node, ctx| node.local_member(ctx)).tags;
    let shown: Vec<String> = tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(shown, ["a=1", "b=9", "d=4"]);
}
