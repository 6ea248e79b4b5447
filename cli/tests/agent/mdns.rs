//! Discovery by multicast DNS: agents of both kinds on a bridge of network namespaces (Linux, root).

use std::process::Command;

use crate::process::{Agent, THANE, can_make_namespaces, outcome, poll, serf};

/// Network namespaces on a bridge, which has a namespace of its own: one in the machine's would pass on what the
/// machine's firewall lets through only. Deleted when dropped.
struct Bridge {
    hub: String,
    ends: Vec<String>,
}

impl Bridge {
    /// The end `n` has the addresses 10.41.0.n and fd41::n on its eth0, and a default route over both families.
    fn new(test: &str, ends: usize) -> Bridge {
        let name = |end: &str| format!("thane-mdns-{}-{test}-{end}", std::process::id());
        let ends = (1..=ends).map(|n| name(&n.to_string())).collect();
        let bridge = Bridge { hub: name("hub"), ends };
        let hub = &bridge.hub;
        ip(&["netns", "add", hub]);
        ip(&["-n", hub, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"]);
        ip(&["-n", hub, "link", "set", "br0", "up"]);
        for (n, end) in (1..).zip(&bridge.ends) {
            let port = format!("port{n}");
            ip(&["netns", "add", end]);
            ip(&["-n", end, "link", "set", "lo", "up"]);
            ip(&["link", "add", "eth0", "netns", end, "type", "veth", "peer", "name", &port, "netns", hub]);
            ip(&["-n", hub, "link", "set", &port, "master", "br0", "up"]);
            ip(&["-n", end, "addr", "add", &format!("10.41.0.{n}/24"), "dev", "eth0"]);
            // Without the seconds in which the system looks for others with the address.
            ip(&["-n", end, "addr", "add", &format!("fd41::{n}/64"), "dev", "eth0", "nodad"]);
            ip(&["-n", end, "link", "set", "eth0", "up"]);
            ip(&["-n", end, "route", "add", "default", "via", "10.41.0.254"]);
        }
        for end in &bridge.ends {
            poll("link-local addresses that can be used", || {
                let listed = Command::new("ip").args(["-n", end, "-6", "addr"]).output().unwrap();
                let text = String::from_utf8(listed.stdout).unwrap();
                (text.contains("fe80::") && !text.contains("tentative")).then_some(())
            });
        }
        bridge
    }

    /// An agent that runs at the end `n`.
    fn agent(&self, n: usize, program: &str, flags: &[&str]) -> Agent {
        let fixed = ["netns", "exec", &self.ends[n - 1], program, "agent", "-profile=local"];
        let mut agent = Agent::of_command("ip", &[&fixed, flags].concat(), "127.0.0.1");
        agent.wait_for("Log data will now stream in");
        agent
    }

    /// What a command prints there.
    fn run(&self, n: usize, command: &[&str]) -> String {
        let output =
            Command::new("ip").args(["netns", "exec", &self.ends[n - 1]]).args(command).output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        for name in self.ends.iter().chain([&self.hub]) {
            // What could not be made can't be deleted either.
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn ip(arguments: &[&str]) {
    assert!(Command::new("ip").args(arguments).status().unwrap().success(), "ip {arguments:?}");
}

/// Whoever starts asks at once and the others a minute later: so the second agent finds the first.
fn the_second_finds_the_first(test: &str, addresses: [&str; 2], asking: &[&str]) {
    let Some(serf) = serf() else { return };
    if !can_make_namespaces(test) {
        return;
    }
    let bridge = Bridge::new(test, 3);
    let [first_addr, second_addr] = addresses;
    let bind = |addr: &str| match addr.contains(':') {
        true => format!("-bind=[{addr}]:7946"),
        false => format!("-bind={addr}"),
    };
    let (first_bind, second_bind) = (bind(first_addr), bind(second_addr));
    let mut apart = bridge.agent(
        3,
        THANE,
        &["-node=apart", &bind(&format!("{}3", &first_addr[..first_addr.len() - 1])), "-discover=other"],
    );
    for programs in [[serf, THANE], [THANE, serf], [THANE, THANE]] {
        let mut first = bridge.agent(1, programs[0], &["-node=first", &first_bind, "-discover=x"]);
        first.wait_for("[INFO] agent.mdns: Joined 1 hosts");
        let mut flags = vec!["-node=second", &second_bind, "-discover=x"];
        if programs[1] == THANE {
            flags.extend(asking);
        }
        let mut second = bridge.agent(2, programs[1], &flags);
        assert!(
            second.lines.iter().any(|line| line == "                   mDNS cluster: x"),
            "{:?}",
            second.lines
        );
        second.wait_for("[INFO] agent.mdns: Joined ");
        second.wait_for(&format!("EventMemberJoin: first {first_addr}"));
        first.wait_for(&format!("EventMemberJoin: second {second_addr}"));
    }
    // It answers to its own name, and has seen all the queries for the other one.
    apart.wait_for("[INFO] agent.mdns: Joined 1 hosts");
    let members = bridge.run(3, &[THANE, "members", "-format=json"]);
    assert_eq!(members.matches("\"name\"").count(), 1, "{members}");
}

#[test]
fn agents_of_both_kinds_find_each_other_by_ipv4_and_clusters_of_other_names_stay_apart() {
    the_second_finds_the_first("v4", ["10.41.0.1", "10.41.0.2"], &["-mdns-disable-ipv6"]);
}

#[test]
fn agents_of_both_kinds_find_each_other_by_ipv6_and_clusters_of_other_names_stay_apart() {
    the_second_finds_the_first("v6", ["fd41::1", "fd41::2"], &["-mdns-disable-ipv4"]);
}

#[test]
fn discovery_uses_the_interface_that_is_asked_for_and_survives_bad_packets() {
    if !can_make_namespaces("interface") {
        return;
    }
    let bridge = Bridge::new("iface", 2);
    for end in &bridge.ends {
        // Without a route to the group only the interface says where to.
        ip(&["-n", end, "route", "del", "default"]);
    }
    let common = ["-discover=x", "-mdns-disable-ipv6"];
    let first = ["-node=first", "-bind=10.41.0.1", "-mdns-iface=eth0"];
    let mut first = bridge.agent(1, THANE, &[&first[..], &common].concat());
    first.wait_for("[INFO] agent.mdns: Joined 1 hosts");
    // The interface of the address is that of discovery too.
    let second = ["-node=second", "-bind=10.41.0.2", "-iface=eth0"];
    let mut second = bridge.agent(2, THANE, &[&second[..], &common].concat());
    second.wait_for("EventMemberJoin: first 10.41.0.1");
    first.wait_for("EventMemberJoin: second 10.41.0.2");

    bridge.run(2, &["ip", "route", "add", "224.0.0.0/4", "dev", "eth0"]);
    let send = |bytes: &str| format!("printf '{bytes}' > /dev/udp/224.0.0.251/5353");
    let header = r"\0\1\0\0\0\1\0\0\0\0\0\0";
    for packet in ["x", &format!(r"{header}\xc0\x0c\0\x0c\0\1"), &format!(r"{}\xff\xff", &header[..12])] {
        bridge.run(2, &["bash", "-c", &send(packet)]);
    }
    poll("what was dropped, by reason", || {
        let info = bridge.run(1, &[THANE, "info"]);
        let counted = ["dropped_cut = 2", "dropped_bad_name = 1", "found = 1"];
        counted.iter().all(|line| info.contains(line)).then_some(())
    });
    // It answers as before.
    drop(second);
    let third = ["-node=third", "-bind=10.41.0.2", "-mdns-iface=eth0"];
    let mut third = bridge.agent(2, THANE, &[&third[..], &common].concat());
    third.wait_for("EventMemberJoin: first 10.41.0.1");
}

#[test]
fn discovery_that_cannot_work_is_refused_with_the_reason() {
    let addr = ["-bind=127.41.1.1", "-rpc-addr=127.41.1.1:7373"];
    let long = format!("-node={}", "n".repeat(64));
    for (flags, expected) in [
        (&["-discover=x", "-mdns-iface=none0"][..], "Invalid mDNS network interface: no interface 'none0'"),
        (&["-discover=x", &long], "a part has 64 bytes, not 1 to 63"),
        (&["-mdns-iface=lo"], "mDNS interface specified without enabling mDNS discovery"),
    ] {
        let (code, text) = outcome(THANE, &[&addr, flags].concat());
        assert!(text.contains(expected), "{flags:?}: {text}");
        assert_eq!(code, Some(1), "{text}");
    }
}
