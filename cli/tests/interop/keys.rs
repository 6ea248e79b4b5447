//! Gossip keys: strangers with another key or none stay outside, and a key is exchanged while the cluster runs.

use super::agent::{Agent, Kind, wait_for};
use super::cluster::{Cluster, Variant, in_each_variant, run};

in_each_variant!(strangers_are_refused, 60);

/// A second key, 32 bytes as well.
const OTHER_KEY: &str = "TmV3IGtleXMgYXJlIG5vIGJldHRlci4gMTIzNDU2Nzg=";

/// Why a stream cannot be read: in Serf's words, and as Thane counts it. The side that joins is told the words; the log of
/// the side that was asked has the one or the other.
type Reason = [&'static str; 2];
const NO_KEY_FITS: Reason = ["No installed keys could decrypt the message", "wrong_key"];
const NOT_SEALED: Reason = ["Encryption is configured but remote state is not encrypted", "not_encrypted"];
const NO_KEY: Reason = ["Remote state is encrypted and encryption is not configured", ": encrypted"];

/// One attempt to get in: the flags of the stranger, what it is told, and what the member it asked logs.
struct Attempt {
    stranger: &'static str,
    flags: Vec<String>,
    told: Reason,
    logged: Reason,
}

/// Strangers of either kind ask members of the other kind; both are told why not, and both go on.
fn strangers_are_refused(cluster: &mut Cluster) {
    cluster.refusals_expected = true;
    cluster.start_pairs(1, |_| Vec::new());
    let other_key = |stranger, told, logged| {
        let flags = vec![format!("-encrypt={OTHER_KEY}")];
        Attempt { stranger, flags, told, logged }
    };
    let attempts = if cluster.variant == Variant::Sealed {
        let bare = Attempt { stranger: "bare", flags: Vec::new(), told: NO_KEY, logged: NOT_SEALED };
        vec![other_key("other-key", NO_KEY_FITS, NO_KEY_FITS), bare]
    } else {
        vec![other_key("sealed", NOT_SEALED, NO_KEY)]
    };
    let mut strangers = Vec::new();
    for attempt in &attempts {
        for (kind, member) in [(Kind::Serf, "t1"), (Kind::Thane, "s1")] {
            let name = format!("{}-{kind:?}", attempt.stranger);
            let stranger = cluster.add(kind, &name);
            stranger.start(&attempt.flags);
            assert_refused(cluster.agent(&name), cluster.agent(member), attempt);
            strangers.push(name);
        }
    }
    // Members still hear each other, strangers still answer.
    for origin in ["s1", "t1"] {
        cluster.agent(origin).serf_ok(&["event", "-coalesce=false", &format!("after-{origin}")]);
        for name in ["s1", "t1"] {
            wait_logged(cluster, cluster.agent(name), &format!("user-event: after-{origin}"));
        }
    }
    for agent in cluster.agents() {
        let expected = if strangers.contains(&agent.name) { vec![&*agent.name] } else { vec!["s1", "t1"] };
        let members = agent.members().expect("it still answers");
        assert_eq!(members.keys().collect::<Vec<_>>(), expected, "{}", agent.dump());
        assert!(members.values().all(|member| member.status == "alive"), "{members:?}");
    }
}

fn assert_refused(stranger: &Agent, member: &Agent, attempt: &Attempt) {
    let what = format!("{} joins {}", stranger.name, member.name);
    let output = stranger.serf(&["join", &member.bind_addr().to_string()]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{what}: {said}");
    assert!(said.starts_with("Error joining the cluster: 1 error occurred:\n\t* "), "{what}: {said}");
    assert!(contains(&said, attempt.told[0]), "{what} is told {said}, not {:?}", attempt.told);
    wait_for(&format!("{} to log why not when {what}", member.name), &[member, stranger], || {
        let says = |line: &String| attempt.logged.iter().any(|reason| contains(line, reason));
        let logged = member.log_lines().iter().any(says);
        if logged { Ok(()) } else { Err(format!("no {:?}", attempt.logged)) }
    });
}

/// Newer memberlists begin these sentences with a small letter.
fn contains(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

fn wait_logged(cluster: &Cluster, agent: &Agent, text: &str) {
    cluster.wait_for(&format!("{text:?} in the log of {}", agent.name), || {
        let lines = agent.log_lines();
        if lines.iter().any(|line| line.contains(text)) { Ok(()) } else { Err("no such line".to_owned()) }
    });
}

#[test]
fn keys_are_rotated() {
    run(concat!(module_path!(), "::keys_are_rotated"), Variant::Sealed, 63, rotate);
}

/// A new key is installed, made the primary one, and the old one removed, each step through an agent of either kind.
fn rotate(cluster: &mut Cluster) {
    cluster.start_pairs(2, |_| Vec::new());
    let steps = [
        ("s1", format!("-install={OTHER_KEY}"), vec![(Variant::KEY, 4), (OTHER_KEY, 4)]),
        ("t1", format!("-install={OTHER_KEY}"), vec![(Variant::KEY, 4), (OTHER_KEY, 4)]),
        ("t1", format!("-use={OTHER_KEY}"), vec![(Variant::KEY, 4), (OTHER_KEY, 4)]),
        ("s1", format!("-remove={}", Variant::KEY), vec![(OTHER_KEY, 4)]),
        ("t1", format!("-remove={}", Variant::KEY), vec![(OTHER_KEY, 4)]),
    ];
    for (origin, flag, installed) in steps {
        cluster.agent(origin).serf_ok(&["keys", &flag]);
        for name in ["s1", "t1"] {
            let listed = cluster.agent(name).serf_ok(&["keys", "-list"]);
            let keys: Vec<&str> = listed.lines().filter(|line| line.contains('[')).collect();
            assert_eq!(keys.len(), installed.len(), "after {flag} by {origin}, seen by {name}: {listed}");
            for (key, count) in &installed {
                let row = format!("{key}  [{count}/4]");
                assert!(
                    keys.contains(&&*row),
                    "after {flag} by {origin}, seen by {name}: no {row} in {listed}"
                );
            }
        }
    }
    let refused = cluster.agent("t1").serf(&["keys", &format!("-remove={OTHER_KEY}")]);
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert_eq!(refused.status.code(), Some(1), "the primary key stays: {said}");
    assert!(said.contains("Error removing key: 4/4 nodes reported failure"), "{said}");

    // Newcomers need the new key now.
    for (kind, member) in [(Kind::Serf, "t1"), (Kind::Thane, "s1")] {
        let name = format!("late-{kind:?}");
        let join = cluster.join_flag(member);
        cluster.add(kind, &name).start(&[format!("-encrypt={OTHER_KEY}"), join]);
    }
    cluster.wait_all_alive();
}
