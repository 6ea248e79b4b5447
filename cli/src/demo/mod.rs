//! `thane demo`: a cluster of nodes in one process, on real sockets of 127.0.0.0/8, shown step by step with measured
//! times. It needs no configuration and no root.

mod cluster;
mod show;
mod site;

use std::process::ExitCode;
use std::time::Duration;

use thane_engine::io::DriverChoice;

use crate::command::{Command, Failure};
use crate::flags::{Argument, Flags};
use crate::output::say;
use cluster::{Cluster, Spread};
use show::Show;

/// Fewest and most agents: one sends, one is killed, one leaves; and few enough for any laptop.
const AGENTS_MIN: i64 = 3;
const AGENTS_MAX: i64 = 200;
/// Longest wait for a step. With Serf's LAN timers a crash among 200 agents is known after about 15 s.
const PATIENCE: Duration = Duration::from_secs(40);
/// Timeout of the demo's query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) const COMMAND: Command = Command {
    name: "demo",
    arguments: "[options]",
    synopsis: "Run a cluster on this machine for half a minute and show what it does",
    about: "Starts 25 agents in this process on real UDP and TCP sockets of 127.0.0.0/8 and measures a join, a \
            user event, a query, the detection of a crash, and a leave. Leaves no files and no processes behind. With \
            -http, a browser shows it; with -keep, the cluster stays until Ctrl-C.",
    options: &[
        ("-agents=25", "Number of agents, 3 to 200"),
        (
            "-http=ADDR",
            "Serve the dashboard and the HTTP API of the first agent here, such as 127.0.0.1:8500",
        ),
        ("-io-driver=auto", "Datagram driver: auto, io_uring or portable"),
        ("-keep", "Keep the cluster after the last step until Ctrl-C"),
    ],
    run,
};

fn run(arguments: &[Argument]) -> Result<ExitCode, Failure> {
    let mut agents = 25;
    let mut driver = "auto".to_owned();
    let (mut http, mut keep) = (String::new(), false);
    let rest = Flags::default()
        .flag("agents", &mut agents)
        .flag("http", &mut http)
        .flag("io-driver", &mut driver)
        .flag("keep", &mut keep)
        .parse(arguments)?;
    if !rest.is_empty() {
        return Err(Failure::Usage("The demo takes no arguments."));
    }
    if !(AGENTS_MIN..=AGENTS_MAX).contains(&agents) {
        let text = format!("Invalid -agents={agents}: use {AGENTS_MIN} to {AGENTS_MAX}");
        return Err(Failure::Message(text));
    }
    let choice = driver.parse::<DriverChoice>().map_err(Failure::Message)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::of("Error starting the demo", error))?;
    let options = Options { agents: agents as usize, driver: choice, http, keep };
    let played = tokio::task::LocalSet::new().block_on(&runtime, play(&options));
    played.map_err(|error| Failure::of("The demo failed", error))?;
    Ok(ExitCode::SUCCESS)
}

/// Which agent plays which part. All four are different where there are enough agents; the killed agent and the
/// leaver always are, and neither is the first, through which all join.
#[derive(Debug)]
struct Cast {
    sender: usize,
    asker: usize,
    killed: usize,
    leaver: usize,
}

impl Cast {
    fn of(agents: usize) -> Cast {
        Cast { sender: 1, asker: 2, killed: agents / 2, leaver: agents - 1 }
    }
}

struct Options {
    agents: usize,
    driver: DriverChoice,
    /// Address of the HTTP port; empty: none.
    http: String,
    /// The cluster stays until Ctrl-C.
    keep: bool,
}

/// The steps. Each time is measured from the command to the agents' events.
async fn play(options: &Options) -> Result<(), String> {
    let agents = options.agents;
    let mut cluster = Cluster::start(agents, options.driver).await?;
    let mut show = Show::new(agents, 6);
    show.heading(&format!(
        "Thane demo: {agents} agents in this process, real UDP and TCP on {} to {}",
        cluster.addr(0),
        cluster.addr(agents - 1)
    ));
    show.heading(&format!("Serf's LAN timers; datagrams by {}", cluster.driver_reason()));
    if !options.http.is_empty() {
        let bound = site::serve(&options.http, &cluster).await?;
        show.heading(&format!("Dashboard of {}: http://{bound}/", cluster.name(0)));
    }
    show.done("start", &format!("{agents} agents listen"), cluster.started_in());

    let all: Vec<usize> = (0..agents).collect();
    show.begin("join", &format!("{agents} agents, all through {}", cluster.name(0)));
    let full = cluster.join_all(&mut show).await?;
    show.done("join", &format!("every agent sees all {agents}"), full);

    let Cast { sender, asker, killed, leaver } = Cast::of(agents);
    show.begin("event", &format!("\"deploy v1.2.3\" from {}", cluster.name(sender)));
    let spread = cluster.event(sender, "deploy", "v1.2.3", &all, &mut show).await?;
    show.done("event", &format!("{}: {}", cluster.name(sender), spread.text("reached")), spread.last);

    show.begin("query", &format!("\"uptime\" from {}", cluster.name(asker)));
    let answers = cluster.query(asker, "uptime", QUERY_TIMEOUT).await?;
    let text = format!(
        "{}: {} acks, {} answers of {agents}, asked for {QUERY_TIMEOUT:?}",
        cluster.name(asker),
        answers.acks,
        answers.responses
    );
    show.done("query", &text, answers.last);

    let others =
        |gone: &[usize]| -> Vec<usize> { all.iter().copied().filter(|n| !gone.contains(n)).collect() };
    show.begin("kill", &format!("{} stops without a leave", cluster.name(killed)));
    let known = cluster.kill(killed, &others(&[killed]), &mut show).await?;
    show.done("kill", &format!("{}: {}", cluster.name(killed), known.text("failed for")), known.last);

    show.begin("leave", &format!("{} announces its departure", cluster.name(leaver)));
    let known = cluster.leave(leaver, &others(&[killed, leaver]), &mut show).await?;
    show.done("leave", &format!("{}: {}", cluster.name(leaver), known.text("left for")), known.last);

    let traffic = cluster.traffic().await;
    if !options.keep {
        cluster.stop().await;
    }
    show.end(&summary(agents, &traffic, &spread));
    if options.keep {
        say("\nThe cluster stays until Ctrl-C.");
        cluster.stop_reporting();
        let interrupted = tokio::signal::ctrl_c().await;
        cluster.stop().await;
        interrupted.map_err(|error| format!("can't wait for Ctrl-C: {error}"))?;
    }
    Ok(())
}

fn summary(agents: usize, traffic: &cluster::Traffic, event: &Spread) -> String {
    format!(
        "Total: {:.1} s, {} datagrams, {:.0} kB ({:.1} kB per agent); refused input: {}.\n\
         The event reached half of the agents after {:.0} ms and all {agents} after {:.0} ms.\n\
         \n\
         Next steps\n\
         \x20 run an agent        thane agent -node=a -bind=127.0.0.1\n\
         \x20 add a second one    thane agent -node=b -bind=127.0.0.2 -rpc-addr=127.0.0.2:7373 -join=127.0.0.1\n\
         \x20 list the members    thane members\n\
         \x20 send an event       thane event deploy v1.2.3\n\
         \x20 decode packets      thane decode --help\n\
         \x20 all commands        thane --help, and the README",
        traffic.took.as_secs_f64(),
        traffic.datagrams,
        traffic.bytes as f64 / 1000.0,
        traffic.bytes as f64 / 1000.0 / agents as f64,
        if traffic.drops.is_empty() { "none".to_owned() } else { traffic.drops.join(", ") },
        event.half.as_secs_f64() * 1000.0,
        event.last.as_secs_f64() * 1000.0,
    )
}
