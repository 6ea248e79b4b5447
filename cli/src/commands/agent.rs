//! `thane agent`: the help of the daemon in [`crate::agent`].

use crate::agent;
use crate::command::Command;

pub(crate) const COMMAND: Command = Command {
    name: "agent",
    arguments: "[options]",
    synopsis: "Run the agent",
    about: "Runs an agent, one member of a cluster, until a signal or 'thane leave' ends it. The agent reads \
        the configuration files in the order given, then these flags. A flag replaces the value \
        of a file; flags that can be given several times add to it.",
    options: &[
        ("-advertise=ADDR", "Address to announce to other members; default: the bound one"),
        ("-bind=0.0.0.0:7946", "Address to bind: 10.0.0.1, [::1]:7946, a host name"),
        ("-broadcast-timeout=5s", "Longest wait until a leave or a tag change is sent"),
        ("-config-dir=DIR", "Read the *.json files of a directory, sorted by name"),
        ("-config-file=FILE", "Read a JSON file; can be given several times"),
        ("-disable-compression", "Don't compress gossip"),
        ("-disable-extensions", "Speak to other Thane nodes as to Serf nodes"),
        (
            "-dissemination=classic",
            "How news reaches all members: classic (as Serf) or eager; profile fast: eager",
        ),
        ("-encrypt=KEY", "Encrypt gossip with this base64 key; see 'thane keygen'"),
        (
            "-event-handler=HANDLER",
            "Script to run on every event, or EVENTS=SCRIPT, such as \
            member-join,user:deploy=x.sh; can be given several times",
        ),
        (
            "-http-addr=ADDR",
            "Serve HTTP here: metrics, events, commands, dashboard; 127.0.0.1:8500 or unix:PATH",
        ),
        ("-iface=NAME", "Bind this interface's address"),
        ("-io-driver=auto", "Datagram driver: auto, io_uring or portable"),
        (
            "-join=ADDR",
            "Join through this member at start; exit if no such member answers. Can be given several times",
        ),
        ("-keyring-file=FILE", "Read and keep the gossip keys in this file; excludes -encrypt"),
        ("-log-level=info", "trace, debug, info, warn or err"),
        ("-node=NAME", "Node name, unique in the cluster; default: the host name"),
        ("-profile=lan", "Timing for the network: lan, wan, local, or fast (Thane members)"),
        ("-protocol=5", "Version of Serf's protocol to speak, from 2 to 5"),
        ("-rejoin", "Rejoin the members of the snapshot even after a leave"),
        ("-replay", "Deliver user events that were sent before the join"),
        ("-retry-interval=30s", "Wait between attempts of -retry-join"),
        ("-retry-join=ADDR", "Join through this member in the background; retry until it succeeds"),
        ("-retry-max=0", "Retries of -retry-join before the agent exits; 0: no limit"),
        ("-role=ROLE", "Deprecated: use -tag role=ROLE"),
        ("-rpc-addr=127.0.0.1:7373", "RPC address, which the other commands connect to; or unix:PATH"),
        ("-snapshot=FILE", "Keep known members and clocks in this file, to rejoin after a restart"),
        ("-syslog", "Send log lines to syslog as well"),
        ("-tag=NAME=VALUE", "Tag of this node; can be given several times"),
        ("-tags-file=FILE", "Read and keep the tags in this file; excludes -tag and -role"),
        ("-tls-ca-file=FILE", "CA that members' and clients' certificates must be signed by, PEM"),
        ("-tls-cert-file=FILE", "Certificate of this agent, PEM; read again on SIGHUP"),
        ("-tls-gossip", "Speak TLS on streams with members that do so too; needs the three files"),
        ("-tls-http", "Speak TLS at the HTTP port"),
        ("-tls-key-file=FILE", "Key of the certificate, PEM"),
        ("-tls-required", "Refuse plain streams of members, Serf's among them; with -tls-gossip"),
        ("-tls-rpc", "Speak TLS at the RPC port"),
        ("-tls-verify-clients", "Refuse clients without a certificate of the CA"),
    ],
    run: agent::run,
};
