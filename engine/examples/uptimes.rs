//! A query that collects how long every server has been up, and prints which did not answer.
//!
//! `cargo run --example uptimes -p thane-engine`

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thane_engine::api::{Answer, Engine, Handle, NodeOptions, Outlet};
use thane_engine::command::QueryParams;
use thane_engine::event::Event;
use thane_engine::io::DriverChoice;

/// The program on each server: it answers `uptime` with seconds, as text.
async fn serve(server: Handle, mut outlet: Outlet, started: Instant) {
    while let Some(event) = outlet.next_event().await {
        let Event::Query { token, name, source_node, .. } = event else { continue };
        // One of them does not answer, so that something is missing.
        if name != "uptime" || server.name() == "server-3" {
            continue;
        }
        let seconds = format!("{:.1}", started.elapsed().as_secs_f64());
        if let Err(error) = server.respond(token, Bytes::from(seconds)).await {
            eprintln!("{}: can't answer {source_node}: {error}", server.name());
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::start(DriverChoice::Auto)?;
    // In a cluster of five, Serf's settings send a query so few times that it may not reach all.
    let node = |name: String, n: u8| {
        let options = NodeOptions::lan(name, ([127, 31, 103, n], 0));
        options.configure(|config| config.retransmit_mult = 8)
    };
    let (console, _) = engine.add(node("console".to_owned(), 1)).await?;
    let seed = console.bound().to_string();
    for n in 1..=4 {
        let options = node(format!("server-{n}"), n + 1).tag("role", "server").join([&seed]);
        let (server, outlet) = engine.add(options).await?;
        tokio::spawn(serve(server, outlet, Instant::now()));
    }
    while console.members().await?.len() < 5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // The query is for servers only. An ack confirms that the query arrived, a response answers it.
    let mut answers = console
        .query(QueryParams {
            name: "uptime".into(),
            filter_tags: BTreeMap::from([("role".into(), "^server$".into())]),
            request_ack: true,
            timeout: Some(Duration::from_secs(2)),
            ..QueryParams::default()
        })
        .await?;
    println!("asked, answers are taken for {:?}", answers.timeout);
    let (mut silent, mut uptimes) = (Vec::new(), BTreeMap::new());
    while let Some(answer) = answers.next().await {
        match answer {
            Answer::Ack { from } => silent.push(from),
            Answer::Response { from, payload } => {
                uptimes.insert(from, String::from_utf8_lossy(&payload).into_owned());
            }
        }
    }
    for (server, seconds) in &uptimes {
        println!("{server} is up for {seconds} s");
    }
    silent.retain(|server| !uptimes.contains_key(server));
    println!("{} answered; the question reached but got nothing from: {}", uptimes.len(), silent.join(", "));
    engine.stop().await;
    Ok(())
}
