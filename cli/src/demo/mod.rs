//! `thane demo`: a cluster of complete agents in one process, on real sockets of 127.0.0.0/8, and what
//! happens in it, step by step with measured times. No configuration, no root.

mod cluster;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use thane_engine::io::DriverChoice;

use crate::command::{Command, Failure};
use crate::flags::{Argument, Flags};
use cluster::{Cluster, Spread};
use show::Show;

/// Agents of a demo: enough for the grid to say something, and few enough for any laptop.
const AGENTS_MIN: i64 = 3;
const AGENTS_MAX: i64 = 200;
/// Longest wait for a step. A kill among 200 agents is known after some 15 s with Serf's LAN timers.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long answers to the demo's query are taken.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) const COMMAND: Command = Command {
    name: "demo",
    arguments: "[options]",
    synopsis: "Show what a cluster does, on this machine, in half a minute",
    about: "Starts 25 agents in this process on real UDP and TCP sockets of 127.0.0.0/8 and shows what a cluster \
            does: they join, one sends an event, one asks a query, one is killed and found out, one leaves. \
            Nothing stays behind.",
    options: &[
        ("-agents=25", "How many agents, 3 to 200"),
        ("-io-driver=auto", "How datagrams are moved: auto, io_uring or portable"),
    ],
    run,
};

fn run(arguments: &[Argument]) -> Result<ExitCode, Failure> {
    let mut agents = 25;
    let mut driver = "auto".to_owned();
    let rest =
        Flags::default().flag("agents", &mut agents).flag("io-driver", &mut driver).parse(arguments)?;
    if !rest.is_empty() {
        return Err(Failure::Usage("The demo takes no arguments."));
    }
    if !(AGENTS_MIN..=AGENTS_MAX).contains(&agents) {
        let text = format!("Invalid -agents={agents}: a demo has {AGENTS_MIN} to {AGENTS_MAX} agents");
        return Err(Failure::Message(text));
    }
    let choice = driver.parse::<DriverChoice>().map_err(Failure::Message)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::of("Error starting the demo", error))?;
    let played = runtime.block_on(play(agents as usize, choice));
    played.map_err(|error| Failure::of("The demo failed", error))?;
    Ok(ExitCode::SUCCESS)
}

/// The steps. Every number shown is measured from the command to what agents report.
async fn play(agents: usize, driver: DriverChoice) -> Result<(), String> {
    let mut cluster = Cluster::start(agents, driver).await?;
    let mut show = Show::new(agents, 6);
    show.heading(&format!(
        "Thane demo: {agents} agents in this process, real UDP and TCP on {} to {}",
        cluster.addr(0),
        cluster.addr(agents - 1)
    ));
    show.heading(&format!("Serf's LAN timers; datagrams by {}", cluster.driver_reason()));
    show.done("start", &format!("{agents} agents listen"), cluster.started_in());

    let all: Vec<usize> = (0..agents).collect();
    show.begin("join", &format!("{agents} agents, all through {}", cluster.name(0)));
    let full = cluster.join_all(&mut show).await?;
    show.done("join", &format!("every agent sees all {agents}"), full);

    let (sender, asker, killed, leaver) = (1, 2, agents / 2 + 1, agents - 1);
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
    show.begin("kill", &format!("{} stops without a word", cluster.name(killed)));
    let known = cluster.kill(killed, &others(&[killed]), &mut show).await?;
    show.done("kill", &format!("{}: {}", cluster.name(killed), known.text("failed for")), known.last);

    show.begin("leave", &format!("{} says goodbye", cluster.name(leaver)));
    let known = cluster.leave(leaver, &others(&[killed, leaver]), &mut show).await?;
    show.done("leave", &format!("{}: {}", cluster.name(leaver), known.text("left for")), known.last);

    let traffic = cluster.traffic().await;
    cluster.stop().await;
    show.end(&summary(agents, &traffic, &spread));
    Ok(())
}

fn summary(agents: usize, traffic: &cluster::Traffic, event: &Spread) -> String {
    format!(
        "All of it took {:.1} s, {} datagrams and {:.0} kB ({:.1} kB for each agent); input refused: {}.\n\
         The event was with half of the agents after {:.0} ms and with all {agents} after {:.0} ms.\n\
         \n\
         Where to go next\n\
         \x20 a real agent    thane agent -node=a -bind=127.0.0.1\n\
         \x20 a second one    thane agent -node=b -bind=127.0.0.2 -rpc-addr=127.0.0.2:7373 -join=127.0.0.1\n\
         \x20 who is here     thane members\n\
         \x20 tell everybody  thane event deploy v1.2.3\n\
         \x20 on the wire     thane decode --help\n\
         \x20 all commands    thane --help, and the README\n",
        traffic.took.as_secs_f64(),
        traffic.datagrams,
        traffic.bytes as f64 / 1000.0,
        traffic.bytes as f64 / 1000.0 / agents as f64,
        if traffic.drops.is_empty() { "none".to_owned() } else { traffic.drops.join(", ") },
        event.half.as_secs_f64() * 1000.0,
        event.last.as_secs_f64() * 1000.0,
    )
}
