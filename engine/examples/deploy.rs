//! A handler of the user event `deploy`: every worker installs the version that the event names, once, and announces
//! it in its tag `version`. The sender of the event watches the tags.
//!
//! `cargo run --example deploy -p thane-engine`

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use thane_engine::api::{ApiError, Engine, Handle, NodeOptions, Outlet};
use thane_engine::event::{Event, MemberEventKind};
use thane_engine::io::DriverChoice;

/// The program on each worker. It receives an event once, although gossip brings it many times.
async fn serve(worker: Handle, mut outlet: Outlet) {
    while let Some(event) = outlet.next_event().await {
        let Event::User { name, payload, ltime, .. } = event else { continue };
        if name != "deploy" {
            continue;
        }
        let version = String::from_utf8_lossy(&payload).into_owned();
        println!("{}: installs {version} (event {})", worker.name(), ltime.0);
        let set = [("version".to_owned(), version)].into();
        if let Err(error) = worker.update_tags(set, Vec::new()).await
            && error != ApiError::Stopped
        {
            eprintln!("{}: {error}", worker.name());
        }
    }
}

/// Waits until all workers announce the version.
async fn until_deployed(outlet: &mut Outlet, version: &str, mut missing: BTreeSet<String>) {
    while !missing.is_empty() {
        let Some(event) = outlet.next_event().await else { return };
        let Event::Member { kind: MemberEventKind::Update, members } = event else { continue };
        for member in members.iter() {
            if member.tags().get("version").is_some_and(|runs| runs == version) && missing.remove(member.name)
            {
                println!("release: {} runs {version}, {} to go", member.name, missing.len());
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::start(DriverChoice::Auto)?;
    let (release, mut outlet) = engine.add(NodeOptions::lan("release", ([127, 31, 102, 1], 0))).await?;
    let seed = release.bound().to_string();
    let mut workers = BTreeSet::new();
    for n in 1..=4 {
        let options = NodeOptions::lan(format!("worker-{n}"), ([127, 31, 102, n + 1], 0));
        let (worker, told) = engine.add(options.tag("version", "none").join([&seed])).await?;
        workers.insert(worker.name().to_owned());
        tokio::spawn(serve(worker, told));
    }
    while release.members().await?.len() < 5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for version in ["v1.0", "v1.1"] {
        println!("release: sends deploy {version}");
        release.user_event("deploy", Bytes::from(version), false).await?;
        until_deployed(&mut outlet, version, workers.clone()).await;
        println!("release: {version} is everywhere");
    }
    engine.stop().await;
    Ok(())
}
