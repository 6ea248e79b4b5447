//! Two agents of one name, and one agent at two addresses: who answers to the name keeps it.

use std::net::SocketAddr;
use std::time::Duration;

use super::agent::{Agent, Kind};
use super::cluster::{Cluster, Variant, member_name, run};

#[test]
fn the_newcomer_ends() {
    for (place, kind) in Kind::BOTH.into_iter().enumerate() {
        let test = concat!(module_path!(), "::the_newcomer_ends");
        run(test, Variant::Plain, 105 + place as u8, |cluster| newcomer_loses(cluster, kind));
    }
}

/// The newcomer is of `kind`, who has the name is of the other.
fn newcomer_loses(cluster: &mut Cluster, kind: Kind) {
    cluster.refusals_expected = true;
    cluster.start_pairs(2, |_| Vec::new());
    let owner = member_name(kind.other(), 1);
    cluster.add(kind, "newcomer");
    cluster.start("newcomer", &[&format!("-node={owner}")]);
    // What the join says depends on how far the clash has got.
    cluster.agent("newcomer").serf(&["join", &cluster.agent("s2").bind_addr().to_string()]);
    assert_loses(cluster.agent("newcomer"), cluster.agent(&owner));
    cluster.wait_all_alive();
    // Third parties that hear of it tell, and no more. Ours ends before it gossips.
    let thirds: &[&str] = if kind == Kind::Serf { &["s2", "t2"] } else { &["s2"] };
    for third in thirds {
        let told = |line: &String| line.to_lowercase().contains(&format!("conflicting address for {owner}"));
        assert!(cluster.agent(third).log_lines().iter().any(told), "{}", cluster.agent(third).dump());
    }
    let members = cluster.agent("t2").members().expect("it answers");
    assert_eq!(members[&owner].addr, cluster.agent(&owner).bind_addr().to_string());
}

/// Serf's ends by the vote and with code 0; ours asks the owner, names it, and ends with code 1.
fn assert_loses(agent: &Agent, owner: &Agent) {
    let (code, said) = match agent.kind {
        Kind::Serf => (0, "minority in name conflict resolution, quitting [0 / ".to_owned()),
        Kind::Thane => (1, format!("belongs to {}, which answers: quitting", owner.bind_addr())),
    };
    assert_eq!(agent.wait_exit().code(), Some(code), "{}", agent.dump());
    assert!(agent.log_lines().iter().any(|line| line.contains(&said)), "{}", agent.dump());
}

/// Serf ends as soon as somebody claims its name and nobody else can vote.
#[test]
fn an_owner_that_is_alone_keeps_its_name() {
    let test = concat!(module_path!(), "::an_owner_that_is_alone_keeps_its_name");
    run(test, Variant::Plain, 107, |cluster| {
        cluster.refusals_expected = true;
        for kind in Kind::BOTH {
            let name = member_name(kind, 1);
            cluster.add(kind, &name);
            cluster.start(&name, &["-node=same"]);
        }
        cluster.agent("s1").serf(&["join", &cluster.agent("t1").bind_addr().to_string()]);
        assert_loses(cluster.agent("s1"), cluster.agent("t1"));
        // It waits until the other has ended, and asks.
        cluster.wait_for("the name taken back", || {
            let lines = cluster.agent("t1").log_lines();
            let kept = lines.iter().any(|line| line.contains("which does not answer: taking the name back"));
            if kept { Ok(()) } else { Err("not yet".to_owned()) }
        });
        assert!(cluster.agent("t1").is_running(), "{}", cluster.agent("t1").dump());
    });
}

/// A pod that is killed and starts again elsewhere, at once and after it was declared failed. Ours has its name back among
/// members of both kinds, Serf's among ours.
#[test]
fn a_member_that_was_killed_comes_back_at_another_address() {
    let test = concat!(module_path!(), "::a_member_that_was_killed_comes_back_at_another_address");
    let mut subnet = 140;
    for (peers, moves) in
        [(["s1", "s2"], Kind::Thane), (["s1", "t1"], Kind::Thane), (["t1", "t2"], Kind::Serf)]
    {
        for fails_first in [false, true] {
            run(test, Variant::Plain, subnet, |cluster| come_back(cluster, peers, moves, fails_first));
            subnet += 1;
        }
    }
}

fn come_back(cluster: &mut Cluster, peers: [&str; 2], moves: Kind, fails_first: bool) {
    cluster.refusals_expected = true;
    let seed = peers[0];
    for name in peers.into_iter().chain(["old"]) {
        let kind = match name.as_bytes()[0] {
            b's' => Kind::Serf,
            b't' => Kind::Thane,
            _ => moves,
        };
        cluster.add(kind, name);
        let node = if name == "old" { "moved" } else { name };
        let join = if name == seed { Vec::new() } else { vec![cluster.join_flag(seed)] };
        let flags: Vec<String> = [vec![format!("-node={node}")], join].concat();
        cluster.start(name, &flags.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let old = cluster.agent("old").bind_addr();
    wait_listed(cluster, &peers, "alive", old);
    cluster.agent("old").kill();
    if fails_first {
        wait_listed(cluster, &peers, "failed", old);
    }
    cluster.add(moves, "new");
    let join = cluster.join_flag(seed);
    cluster.start("new", &["-node=moved", &join]);
    let new = cluster.agent("new").bind_addr();
    wait_listed(cluster, &[peers[0], peers[1], "new"], "alive", new);
    // Longer than a vote about the name takes.
    std::thread::sleep(Duration::from_secs(5));
    assert!(cluster.agent("new").is_running(), "{}", cluster.agent("new").dump());
}

/// Waits until these list three members, and the one that moves with this status and address.
fn wait_listed(cluster: &Cluster, on: &[&str], status: &str, at: SocketAddr) {
    cluster.wait_for(&format!("moved {status} at {at} on {on:?}"), || {
        for name in on {
            let members = cluster.agent(name).members()?;
            let moved = members.get("moved").ok_or("not listed")?;
            if members.len() != 3 || moved.status != status || moved.addr != at.to_string() {
                return Err(format!("{name} lists {members:?}"));
            }
        }
        Ok(())
    });
}
