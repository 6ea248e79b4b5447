//! `thane agent`: the daemon. What it does is in [`crate::agent`]; here is how it is asked for.

use crate::agent;
use crate::command::Command;

pub(crate) const COMMAND: Command = Command {
    name: "agent",
    arguments: "[options]",
    synopsis: "Run the agent",
    about: "Runs an agent, one member of a cluster, until it is told to end. Settings come from \
        configuration files in their order, then from these flags. Flags that can be \
        given several times are added to what the files say, others replace it.",
    options: &[
        ("-advertise=ADDR", "Address to announce; by default the bound one"),
        ("-bind=0.0.0.0:7946", "Address of the node, such as 10.0.0.1, [::1]:7946 or a name"),
        ("-broadcast-timeout=5s", "How long a leave and the like may take to be sent"),
        ("-config-dir=DIR", "Read the *.json files of a directory, by name"),
        ("-config-file=FILE", "Read a JSON file; can be given several times"),
        ("-disable-compression", "Don't compress gossip"),
        ("-dissemination=classic", "How news reaches all members: classic (as Serf) or eager"),
        ("-encrypt=KEY", "Key for gossip, in base64; see 'thane keygen'"),
        (
            "-event-handler=HANDLER",
            "Script to run on events, or EVENT=SCRIPT, such as \
            member-join,user:deploy=x.sh; can be given several times",
        ),
        ("-iface=NAME", "Bind this interface's address"),
        ("-io-driver=auto", "How to talk to the network: auto, io_uring or portable"),
        ("-join=ADDR", "Join through this member or end; can be given several times"),
        ("-keyring-file=FILE", "Keep gossip keys in this file, instead of -encrypt"),
        ("-log-level=info", "trace, debug, info, warn or err"),
        ("-node=NAME", "Name in the cluster; by default the machine's"),
        ("-profile=lan", "Timing for a lan, wan or local network"),
        ("-protocol=5", "Version of Serf's protocol to speak, from 2 to 5"),
        ("-rejoin", "Rejoin the snapshot's members even after a leave"),
        ("-replay", "Deliver user events from before a join"),
        ("-retry-interval=30s", "Time between tries of -retry-join"),
        ("-retry-join=ADDR", "Join through this member, and try again until it works"),
        ("-retry-max=0", "Tries of -retry-join after the first; 0 is no limit"),
        ("-role=ROLE", "Old form of -tag role=ROLE"),
        ("-rpc-addr=127.0.0.1:7373", "Address where commands are taken"),
        ("-snapshot=FILE", "Keep members and clocks here, to rejoin after a restart"),
        ("-syslog", "Send log lines to the system's log too"),
        ("-tag=NAME=VALUE", "Tag of this node; can be given several times"),
        ("-tags-file=FILE", "Keep tags in this file; without other tags only"),
    ],
    run: agent::run,
};
