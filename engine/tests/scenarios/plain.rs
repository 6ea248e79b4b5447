//! SWIM without the serf layer: memberships, and a delegate that makes what it likes of messages and state.

use std::collections::BTreeSet;

use bytes::Bytes;
use thane_engine::command::CommandError;
use thane_engine::delegate::{Announcement, Delegate, Onward, Veto};
use thane_engine::drop_reason::DropReason;
use thane_engine::event::{Completion, Event, Notice};

use super::delegates::{Heard, drops, join};
use super::*;

fn plain(raw: &mut RawConfig) {
    raw.serf = false;
}

fn plain_cluster(seed: u64, n: u32) -> (World, Vec<NodeId>) {
    cluster(seed, n, Network::default(), plain)
}

/// The member events of a node, in order.
fn told(world: &World, id: NodeId) -> Vec<String> {
    let line = |event: &Event| match event {
        Event::Member { kind, members } => format!("{} {}", kind.as_str(), members.first().unwrap().name),
        other => panic!("plain SWIM has no {other:?}"),
    };
    world.events().iter().filter(|(node, _)| *node == id).map(|(_, event)| line(event)).collect()
}

#[test]
fn who_says_so_has_left_and_who_is_silent_failed() {
    let (mut world, ids) = plain_cluster(221, 6);
    world.with(ids[1], |node, ctx| node.leave(ctx, Ticket(2))).unwrap();
    world.crash(ids[2]);
    let gone = |w: &World| {
        status_everywhere(w, &[ids[0], ids[5]], "n2", MemberStatus::Left)
            && status_everywhere(w, &[ids[0], ids[5]], "n3", MemberStatus::Failed)
    };
    world.run_until(120 * SECOND, gone).expect("both are seen to be gone");
    assert!(world.completions().contains(&(ids[1], Ticket(2), Completion::Left)));
    let events = told(&world, ids[0]);
    for line in ["member-join n1", "member-join n6", "member-leave n2", "member-failed n3"] {
        assert_eq!(events.iter().filter(|told| *told == line).count(), 1, "{line}: {events:?}");
    }
    // Once gossip doesn't go to them any more they leave the list.
    world.run(120 * SECOND);
    let members: Vec<String> =
        world.with(ids[0], |node, ctx| node.members(ctx)).into_iter().map(|member| member.name).collect();
    assert_eq!(members, ["n1", "n4", "n5", "n6"]);
    assert!(told(&world, ids[0]).contains(&"member-reap n3".to_owned()));
    ids.iter().for_each(|&id| world.crash(id));
    assert_eq!(world.roster_counts(), (0, 0));
}

#[test]
fn tags_travel_as_meta_without_a_delegate() {
    let (mut world, ids) = plain_cluster(222, 3);
    let tags = [("role".to_owned(), "web".to_owned())].into();
    world.with(ids[1], |node, ctx| node.set_tags(ctx, Ticket(2), &tags)).unwrap();
    let updated = |w: &World| told(w, ids[2]).contains(&"member-update n2".to_owned());
    world.run_until(30 * SECOND, updated).expect("the update spreads");
    let members = world.with(ids[2], |node, ctx| node.members(ctx));
    assert_eq!(members[1].tags["role"], "web");
}

#[test]
fn what_only_serf_knows_is_refused() {
    let (mut world, ids) = plain_cluster(223, 1);
    let payload = Bytes::new();
    let refused = world.with(ids[0], |node, ctx| node.user_event(ctx, "e", &payload, false));
    assert_eq!(refused, Err(CommandError::NotSupported));
    let refused = world.with(ids[0], |node, ctx| node.force_leave(ctx, Ticket(2), "n9", false));
    assert_eq!(refused, Err(CommandError::NotSupported));
    let refused = world.with(ids[0], |node, ctx| node.query(ctx, Ticket(3), &Default::default()));
    assert_eq!(refused, Err(CommandError::NotSupported));
    assert_eq!(world.with(ids[0], |node, ctx| node.coordinate(ctx, "n1")), None);
    let addr = "127.0.0.1:7".parse().unwrap();
    let snapshot = RawConfig { serf: false, snapshot: true, ..RawConfig::lan("n", addr) };
    assert_eq!(snapshot.check().unwrap_err().to_string(), "a snapshot needs the serf layer");
}

#[test]
fn plain_nodes_and_serfs_refuse_each_other() {
    let mut world = World::new(224, Network::default());
    let (serf, bare) = (world.add(|_| {}), world.add(plain));
    join(&mut world, bare, serf);
    world.run(SECOND);
    let refused = |completion: &Completion| match completion {
        Completion::Joined { contacted: 0, errors } => errors[0].contains("delegate protocol version"),
        _ => false,
    };
    assert!(world.completions().iter().any(|(id, _, completion)| *id == bare && refused(completion)));
    assert_eq!(world.state(serf, "n2"), SwimState::Absent);
    assert_eq!(drops(&world, serf, DropReason::IncompatibleVersions), 1);
}

#[test]
fn without_a_delegate_messages_and_state_are_dropped_and_counted() {
    let mut world = World::new(225, Network::default());
    let bare = world.add(plain);
    let speaking = world.add_with(Box::new(Program::new("s", &Heard::default())), plain);
    join(&mut world, speaking, bare);
    let moment = Duration::from_millis(10);
    world.run(moment);
    assert_eq!(drops(&world, bare, DropReason::Unhandled), 1, "the state of the join");
    world.with(speaking, |node, ctx| node.send(ctx, "n1", b"hello")).unwrap();
    world.run(moment);
    assert_eq!(drops(&world, bare, DropReason::Unhandled), 2);
}

/// A program that passes messages on and counts them.
struct Program {
    name: &'static str,
    meta: Vec<u8>,
    seen: BTreeSet<Vec<u8>>,
    waiting: Vec<Bytes>,
    heard: Heard,
}

impl Program {
    fn new(name: &'static str, heard: &Heard) -> Program {
        let meta = format!("meta of {name}").into_bytes();
        Program { name, meta, seen: BTreeSet::new(), waiting: Vec::new(), heard: heard.clone() }
    }
}

impl Delegate for Program {
    fn admit(&mut self, announced: &Announcement<'_>) -> Result<(), Veto> {
        let meta = String::from_utf8_lossy(&announced.meta).into_owned();
        self.heard.add(format!("{} admits {} with {meta}", self.name, announced.name));
        Ok(())
    }

    fn node_meta(&mut self, bytes_max: usize) -> Option<Vec<u8>> {
        assert_eq!(bytes_max, 512);
        self.meta.push(b'.');
        Some(self.meta.clone())
    }

    fn local_state(&mut self, join: bool) -> Vec<u8> {
        format!("state of {} ({join})", self.name).into_bytes()
    }

    fn merge_state(&mut self, state: &[u8], join: bool) {
        self.heard.add(format!("{} merges {} ({join})", self.name, String::from_utf8_lossy(state)));
    }

    fn on_message(&mut self, message: &[u8]) -> Onward {
        self.heard.add(format!("{} hears {}", self.name, String::from_utf8_lossy(message)));
        if message.starts_with(b"all ") && self.seen.insert(message.to_vec()) {
            return Onward::Gossip;
        }
        Onward::Stop
    }

    fn broadcast(&mut self, bytes_max: usize) -> Option<Bytes> {
        assert!(bytes_max < 1400);
        self.waiting.pop()
    }
}

#[test]
fn the_delegates_meta_is_announced_and_asked_for_again() {
    let (mut world, heard) = (World::new(226, Network::default()), Heard::default());
    let a = world.add_with(Box::new(Program::new("a", &heard)), plain);
    let b = world.add_with(Box::new(Program::new("b", &heard)), plain);
    join(&mut world, b, a);
    world.run(2 * SECOND);
    assert!(heard.count("a admits n2 with meta of b.") > 0, "{:?}", heard.lines());
    assert_eq!(heard.count("a admits n2 with meta of b.."), 0);
    world.with(b, |node, ctx| node.update_meta(ctx, Ticket(5))).unwrap();
    world.run(5 * SECOND);
    assert!(heard.count("a admits n2 with meta of b..") > 0);
    assert!(told(&world, a).contains(&"member-update n2".to_owned()));
    assert!(world.completions().contains(&(b, Ticket(5), Completion::Broadcasted { in_time: true })));
    let refused = world.with(b, |node, ctx| node.set_tags(ctx, Ticket(6), &[].into()));
    assert_eq!(refused, Err(CommandError::MetaGivenBy("the delegate")));
}

#[test]
fn state_goes_both_ways_after_the_members_and_says_whether_somebody_joins() {
    let (mut world, heard) = (World::new(227, Network::default()), Heard::default());
    let a = world.add_with(Box::new(Program::new("a", &heard)), plain);
    let b = world.add_with(Box::new(Program::new("b", &heard)), plain);
    join(&mut world, b, a);
    world.run(SECOND / 2);
    let lines = heard.lines();
    let place = |line: &str| lines.iter().position(|told| told == line).unwrap_or_else(|| panic!("{line}"));
    assert!(place("a admits n2 with meta of b.") < place("a merges state of b (true) (true)"));
    assert!(place("b admits n1 with meta of a.") < place("b merges state of a (true) (true)"));
    world.run(120 * SECOND);
    assert!(heard.count("a merges state of b (false) (false)") > 2, "periodic ones carry it too");
}

#[test]
fn a_broadcast_reaches_every_delegate_and_goes_on_as_it_says() {
    let (mut world, heard) = (World::new(228, Network::default()), Heard::default());
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let ids = names.map(|name| world.add_with(Box::new(Program::new(name, &heard)), plain));
    ids[1..].iter().for_each(|&id| join(&mut world, id, ids[0]));
    world.run(30 * SECOND);
    world.with(ids[3], |node, ctx| node.broadcast(ctx, "all news".into())).unwrap();
    world.with(ids[3], |node, ctx| node.broadcast(ctx, "neighbours only".into())).unwrap();
    let reached =
        |what: &str| names.iter().filter(|name| heard.count(&format!("{name} hears {what}")) > 0).count();
    world.run_until(30 * SECOND, |_| reached("all news") == names.len()).expect("it reaches everybody");
    world.run(30 * SECOND);
    let hops = |what: &str| heard.lines().iter().filter(|line| line.ends_with(what)).count();
    let (gossiped, stopped) = (hops("hears all news"), hops("hears neighbours only"));
    // The sender makes at most 8 transmissions in a cluster of 12; only what is passed on is sent by others too.
    assert!(gossiped > 8 && (1..=8).contains(&stopped), "{gossiped} {stopped}");
    let too_long = world.with(ids[0], |node, ctx| node.broadcast(ctx, vec![0; 1025].into()));
    assert_eq!(too_long, Err(CommandError::MessageTooLong(1024)));
}

#[test]
fn a_message_goes_straight_to_one_member() {
    let (mut world, heard) = (World::new(229, Network::default()), Heard::default());
    let a = world.add_with(Box::new(Program::new("a", &heard)), plain);
    let b = world.add_with(Box::new(Program::new("b", &heard)), plain);
    let c = world.add_with(Box::new(Program::new("c", &heard)), plain);
    join(&mut world, b, a);
    join(&mut world, c, a);
    world.run(5 * SECOND);
    world.with(a, |node, ctx| node.send(ctx, "n3", b"only you")).unwrap();
    world.run(5 * SECOND);
    let heard: Vec<String> = heard.lines().into_iter().filter(|line| line.contains("hears")).collect();
    assert_eq!(heard, ["c hears only you"]);
    let nobody = world.with(a, |node, ctx| node.send(ctx, "n9", b"x"));
    assert_eq!(nobody, Err(CommandError::UnknownMember("n9".to_owned())));
    let too_long = world.with(a, |node, ctx| node.send(ctx, "n3", &[0; 1025]));
    assert_eq!(too_long, Err(CommandError::MessageTooLong(1024)));
}

#[test]
fn packets_are_filled_from_the_delegates_own_queue() {
    let (mut world, heard) = (World::new(230, Network::default()), Heard::default());
    let a = world.add_with(Box::new(Program::new("a", &heard)), plain);
    let mut program = Program::new("b", &heard);
    program.waiting = vec!["two".into(), "one".into()];
    let b = world.add_with(Box::new(program), plain);
    join(&mut world, b, a);
    let both = || heard.count("a hears one") == 1 && heard.count("a hears two") == 1;
    world.run_until(10 * SECOND, |_| both()).expect("each is sent once");
}

/// Returns more than fits from every method.
struct Talkative;

impl Delegate for Talkative {
    fn node_meta(&mut self, bytes_max: usize) -> Option<Vec<u8>> {
        Some(vec![1; bytes_max + 1])
    }

    fn ack_payload(&mut self) -> Vec<u8> {
        vec![1; 100_000]
    }

    fn local_state(&mut self, _join: bool) -> Vec<u8> {
        vec![1; (20 << 20) + 1]
    }

    fn broadcast(&mut self, bytes_max: usize) -> Option<Bytes> {
        Some(vec![1; bytes_max + 1].into())
    }
}

#[test]
fn what_does_not_fit_is_left_out_and_told() {
    let (mut world, heard) = (World::new(231, Network::default()), Heard::default());
    let a = world.add_with(Box::new(Program::new("a", &heard)), plain);
    let b = world.add_with(Box::new(Talkative), plain);
    join(&mut world, b, a);
    world.run(5 * SECOND);
    assert!(world.all_hold(&[a], &names(&[b]), SwimState::Alive));
    assert_eq!(heard.count("a merges") + heard.count("a hears"), 0);
    for expected in ["node_meta", "ack_payload", "local_state", "broadcast"] {
        let is_it =
            |notice: &Notice| matches!(notice, Notice::DelegateTooLong { method, .. } if *method == expected);
        assert!(world.notices().iter().any(|(_, id, notice)| *id == b && is_it(notice)), "{expected}");
    }
}
