//! Agents in network namespaces of their own (Linux, root): which address they announce, side by side with Serf, joins
//! whose name lookups hang, and an agent that is process 1.

use std::process::{Command, Stdio};

use crate::process::{Agent, THANE, can_make_namespaces, poll, serf, wait_for_file};

/// The address that an agent bound to 0.0.0.0 announces after these commands, or the words of its failure.
fn announced(program: &str, layout: &str) -> String {
    let script = format!(
        "set -e; add() {{ ip link add $1 type veth peer name p$1; ip link set $1 up; ip link set p$1 up; shift; \
         for a; do ip addr add $a dev $dev; done; }}; ip link set lo up; {layout}\n\
         exec timeout 20 {program} agent -node=a -rpc-addr=127.0.0.1:7373 2>&1"
    );
    let mut child = Command::new("unshare")
        // The agent ends with the process that this test ends, not 20 s later.
        .args(["-n", "-p", "--fork", "--kill-child", "sh", "-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let outcome = lines.map_while(Result::ok).find_map(|line| {
        let joined = line.split_once("EventMemberJoin: a ").map(|(_, addr)| addr.to_owned());
        joined
            .or_else(|| line.contains("Failed").then(|| "none".to_owned()))
            .or_else(|| line.contains("No private address").then(|| "none".to_owned()))
    });
    child.kill().unwrap();
    child.wait().unwrap();
    outcome.unwrap_or_else(|| panic!("{program} said nothing about its address in: {layout}"))
}

#[test]
fn a_node_bound_to_all_addresses_announces_the_one_that_serf_announces() {
    let Some(serf) = serf() else { return };
    if !can_make_namespaces("default address") {
        return;
    }
    let via = |gateway: &str| format!("ip route add default via {gateway}");
    let two = |one: &str, other: &str| format!("dev=eth0 add eth0 {one}; dev=other add other {other}");
    let layouts = [
        ("one private address", "dev=eth0 add eth0 10.1.1.1/24".to_owned()),
        ("a bridge of containers", two("10.0.5.5/20", "172.18.0.1/24") + ";" + &via("10.0.0.1")),
        ("Kubernetes' cni0", two("10.0.5.5/20", "10.244.3.1/24") + ";" + &via("10.0.0.1")),
        ("a VPN", two("192.168.1.5/24", "10.8.0.6/32") + ";" + &via("192.168.1.1")),
        ("a larger network off the route", two("10.1.5.5/24", "172.16.9.5/16") + ";" + &via("10.1.5.1")),
        ("no default route", two("10.1.5.5/24", "172.16.9.5/16")),
        ("no default route, equal networks", two("10.1.5.5/24", "10.1.4.4/24")),
        (
            "two addresses on the route's interface",
            two("10.3.3.3/24 10.9.3.3/16", "172.16.2.2/12") + ";" + &via("10.3.3.1"),
        ),
        (
            "two default routes",
            two("10.3.3.3/24", "172.16.2.2/16")
                + "; ip route add default via 172.16.0.1 metric 200; ip route add default via 10.3.3.1 metric 100",
        ),
        (
            "a default route without gateway",
            two("10.3.3.3/24", "172.16.2.2/16") + "; ip route add default dev eth0",
        ),
        (
            "half of a default route",
            two("10.3.3.3/24", "172.16.2.2/16") + "; ip route add 0.0.0.0/1 via 10.3.3.1",
        ),
        ("public and private", two("203.0.114.5/24", "10.7.7.7/24") + ";" + &via("203.0.114.1")),
        ("shared address space", "dev=eth0 add eth0 100.64.3.1/10".to_owned()),
        ("benchmarking and relays", two("198.18.0.5/15", "192.88.99.7/24")),
        ("no private address", "dev=eth0 add eth0 8.8.8.8/24".to_owned()),
        ("link-local only", "dev=eth0 add eth0 169.254.7.7/16".to_owned()),
        (
            "an interface that is down",
            "ip link add eth0 type veth peer name p; ip addr add 10.3.3.3/24 dev eth0".to_owned(),
        ),
        (
            "an interface without carrier",
            "ip link add eth0 type veth peer name p; ip link set eth0 up; ip addr add 10.3.3.3/24 dev eth0"
                .to_owned(),
        ),
    ];
    let mut differences = Vec::new();
    for (name, layout) in &layouts {
        let (ours, theirs) = std::thread::scope(|scope| {
            let ours = scope.spawn(|| announced(THANE, layout));
            (announced(serf, layout), ours.join())
        });
        let (theirs, ours) = (ours, theirs.unwrap());
        if ours != theirs {
            differences.push(format!("{name}: Serf {theirs}, Thane {ours}"));
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

/// Two network namespaces with a link between them; deleted when dropped.
struct Linked([String; 2]);

impl Linked {
    fn new() -> Linked {
        let linked = Linked(["a", "b"].map(|end| format!("thane-{}-{end}", std::process::id())));
        let [a, b] = &linked.0;
        for name in [a, b] {
            linked.ip(&["netns", "add", name]);
            linked.ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        linked.ip(&["link", "add", "eth0", "netns", a, "type", "veth", "peer", "name", "eth0", "netns", b]);
        for (name, addr) in [(a, "10.83.0.1/24"), (b, "10.83.0.2/24")] {
            linked.ip(&["-n", name, "addr", "add", addr, "dev", "eth0"]);
            linked.ip(&["-n", name, "link", "set", "eth0", "up"]);
            linked.ip(&["-n", name, "route", "add", "default", "via", "10.83.0.254"]);
        }
        linked
    }

    fn ip(&self, arguments: &[&str]) {
        assert!(Command::new("ip").args(arguments).status().unwrap().success(), "ip {arguments:?}");
    }

    /// An agent with default addresses in one of them.
    fn agent(&self, end: usize, program: &str, flags: &[&str]) -> Agent {
        let fixed = ["netns", "exec", &self.0[end], program, "agent"];
        let mut agent = Agent::of_command("ip", &[&fixed, flags].concat(), "127.0.0.1");
        agent.wait_for("Log data will now stream in");
        agent
    }
}

impl Drop for Linked {
    fn drop(&mut self) {
        for name in &self.0 {
            // What could not be made can't be deleted either.
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

#[test]
fn a_node_taken_over_from_serf_and_given_back_announces_the_same_bytes() {
    let Some(serf) = serf() else { return };
    if !can_make_namespaces("takeover") {
        return;
    }
    let linked = Linked::new();
    let folder = tempfile::tempdir().unwrap();
    let snapshot = format!("-snapshot={}", folder.path().join("b").display());
    let mut watcher = linked.agent(0, serf, &["-node=a", "-retry-join=10.83.0.2", "-retry-interval=1s"]);
    for program in [serf, THANE, serf] {
        let flags = ["-node=b", &snapshot, "-retry-join=10.83.0.1", "-retry-interval=1s"];
        let mut moved = linked.agent(1, program, &flags);
        moved.wait_for("EventMemberJoin: a 10.83.0.1");
        watcher.wait_for("EventMemberJoin: b 10.83.0.2");
        // A conflict is reported with each announcement, of which a start and a join make several.
        std::thread::sleep(std::time::Duration::from_secs(3));
        // Without a leave: a member that has left may come back with any address.
        moved.signal("TERM");
        assert_eq!(moved.end(), Some(1), "{program}: {:?}", moved.lines);
        assert!(!moved.has("Conflicting address"), "{program}: {:?}", moved.lines);
    }
    // What the watcher has logged so far is read up to a line that comes after it.
    watcher.signal("INT");
    watcher.end();
    assert!(watcher.has("[INFO] serf: EventMemberJoin: b 10.83.0.2"), "{:?}", watcher.lines);
    assert!(!watcher.has("Conflicting address"), "{:?}", watcher.lines);
}

#[test]
fn names_that_hang_delay_neither_their_own_join_nor_anything_else() {
    if !can_make_namespaces("hanging lookups") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // A resolver that never answers: the socket is bound and nobody reads it.
    let _silent = std::net::UdpSocket::bind("127.83.5.9:53").unwrap();
    let resolv = folder.path().join("resolv.conf");
    std::fs::write(&resolv, "nameserver 127.83.5.9\noptions timeout:30 attempts:1\n").unwrap();
    let tags = folder.path().join("tags.json");
    let _seed = Agent::start(THANE, "127.83.5.1", &["-node=seed"]);
    let hanging: Vec<String> = (0..8).map(|n| format!("-retry-join=host{n}.example")).collect();
    let script = format!("mount --bind {} /etc/resolv.conf && exec {THANE} agent \"$@\"", resolv.display());
    let tags_file = format!("-tags-file={}", tags.display());
    let mut flags = vec![
        "-m",
        "sh",
        "-c",
        &script,
        "sh",
        "-node=n",
        "-bind=127.83.5.2",
        "-rpc-addr=127.83.5.2:7373",
        &tags_file,
        "-retry-join=127.83.5.1",
    ];
    flags.extend(hanging.iter().map(String::as_str));
    let mut agent = Agent::of_command("unshare", &flags, "127.83.5.2");
    // The address among the names is joined while they hang, and files are written meanwhile.
    agent.wait_for("EventMemberJoin: seed 127.83.5.1");
    agent.rpc(THANE, "tags", &["-set", "a=1"]);
    assert!(std::fs::read_to_string(&tags).unwrap().contains("\"a\""));
    assert!(!agent.has("Join completed"), "the lookups hang: {:?}", agent.lines);
    // Ten seconds after the start they count as failed.
    agent.wait_for("[INFO] agent: Join completed. Synced with 1 initial agents");
}

/// The children of a process, zombies included.
fn children(process: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap();
    list.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

#[test]
fn an_agent_that_is_process_1_leaves_no_zombies() {
    if !can_make_namespaces("process 1") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orphans");
    // Each script leaves a process behind that ends a moment later, and ends itself with an answer or a failure.
    let orphan = format!("(sleep 0.1; echo ended >> {}) > /dev/null 2>&1 &", file.display());
    let handlers = ["exit 0", "exit 3"].map(|end| format!("-event-handler=user={orphan} {end}"));
    let addr = "127.32.12.1";
    let mut agent = Agent::of_command(
        "unshare",
        &[
            &["-p", "-f", "--kill-child", THANE, "agent", "-bind", addr, "-rpc-addr", "127.32.12.1:7373"],
            &handlers.each_ref().map(String::as_str)[..],
        ]
        .concat(),
        addr,
    );
    agent.wait_for("Log data will now stream in");
    let agent_id = children(agent.id())[0];
    for n in 1..=3 {
        agent.rpc(THANE, "event", &["-coalesce=false", &format!("e{n}")]);
        agent.wait_for_count("exit status 3", n);
    }
    wait_for_file(&file, |text| text.lines().count() == 6);
    poll("the last child's end", || children(agent_id).is_empty().then_some(()));
}
