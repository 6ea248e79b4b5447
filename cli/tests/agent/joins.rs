//! What an entry of a join means, side by side with Serf in a mount namespace where one name has several addresses.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Agent, THANE, poll, serf};

/// Where the name is known, and nothing else has to be resolved.
const HOSTS: &str = "127.86.60.1 several\n127.86.60.2 several\n127.86.60.3 several\n";

/// A script that runs `program` where /etc/hosts has these lines. Fails where namespaces are not permitted.
fn with_hosts(folder: &Path, name: &str, program: &str) -> PathBuf {
    let hosts = folder.join("hosts");
    std::fs::write(&hosts, HOSTS).unwrap();
    let script = folder.join(name);
    let text = format!(
        "#!/bin/sh\nexec unshare --user --map-root-user --mount sh -c \
         'mount --bind {hosts} /etc/hosts && exec \"$0\" \"$@\"' {program} \"$@\"\n",
        hosts = hosts.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

fn join(addr: &str, entries: &[&str]) -> String {
    let rpc_addr = format!("-rpc-addr={addr}:7373");
    let output = Command::new(THANE).args(["join", &rpc_addr]).args(entries).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn knows(agent: &Agent, serf: &str, names: &[&str]) {
    poll(&format!("the members {names:?}"), || {
        let members = agent.rpc(serf, "members", &["-format=json"]);
        names.iter().all(|name| members.contains(&format!("\"name\": \"{name}\""))).then_some(())
    });
}

/// Nobody listens at the first address; at the others are two agents that do not know each other. The entry has no
/// port, so it stands for the port that the joining agent is bound to, which is not the default one.
#[test]
fn every_address_of_a_name_is_joined_at_the_agents_own_port() {
    let Some(serf) = serf() else { return };
    let folder = tempfile::tempdir().unwrap();
    for (program, kind, joiner) in [(serf, "serf", "127.86.60.4"), (THANE, "thane", "127.86.60.5")] {
        let start = |name: &str, addr: &str| {
            let bind = format!("-bind={addr}:17990");
            Agent::start(THANE, addr, &[&format!("-node={name}"), &bind])
        };
        let (_second, _third) = (start("second", "127.86.60.2"), start("third", "127.86.60.3"));
        let script = with_hosts(folder.path(), kind, program);
        let bind = format!("-bind={joiner}:17990");
        let agent = Agent::start(script.to_str().unwrap(), joiner, &["-node=joiner", &bind]);
        let said = join(joiner, &["several"]);
        assert_eq!(said, "Successfully joined cluster by contacting 2 nodes.\n", "{kind}");
        knows(&agent, serf, &["second", "third"]);
        let said = join(joiner, &["several:17991", "second/127.86.60.2", "127.86.60.3:17990"]);
        assert_eq!(said, "Successfully joined cluster by contacting 2 nodes.\n", "{kind}");
    }
}
