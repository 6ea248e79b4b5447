//! A load balancer's list of backends that follows the tag `role=web`: nodes that join with it are added; nodes that
//! leave, fail or change their role are removed.
//!
//! `cargo run --example backends -p thane-engine`

use std::collections::BTreeMap;
use std::error::Error;

use thane_engine::api::{Engine, Handle, NodeOptions, Outlet};
use thane_engine::event::{Event, MemberEventKind, MemberRef};
use thane_engine::io::DriverChoice;

/// The backends: node name and address, which is the node's tag `http`.
#[derive(Default)]
struct Backends(BTreeMap<String, String>);

impl Backends {
    /// Applies a change of the cluster. Returns whether the list changed.
    fn follow(&mut self, kind: MemberEventKind, member: &MemberRef<'_>) -> bool {
        let tags = member.tags();
        let here = matches!(kind, MemberEventKind::Join | MemberEventKind::Update);
        let serves = tags.get("role").is_some_and(|role| role == "web");
        match tags.get("http") {
            Some(port) if here && serves => {
                let http = format!("{}:{port}", member.addr);
                self.0.insert(member.name.to_owned(), http.clone()) != Some(http)
            }
            _ => self.0.remove(member.name).is_some(),
        }
    }

    /// Waits until the list has `count` backends, and prints it each time it changes.
    async fn until(&mut self, count: usize, outlet: &mut Outlet) {
        while self.0.len() != count {
            let Some(event) = outlet.next_event().await else { return };
            let Event::Member { kind, members } = event else { continue };
            for member in members.iter() {
                if self.follow(kind, &member) {
                    let list: Vec<String> = self.0.iter().map(|(name, at)| format!("{name}={at}")).collect();
                    println!("{} of {}: [{}]", kind.as_str(), member.name, list.join(", "));
                }
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The balancer is a member too. Port 0: the system picks one.
    let (balancer, mut outlet) =
        NodeOptions::lan("balancer", ([127, 31, 101, 1], 0)).tag("role", "balancer").start().await?;
    let seed = balancer.bound().to_string();

    // In production, each of these is a program on its own machine. Here they share one thread.
    let engine = Engine::start(DriverChoice::Auto)?;
    let mut nodes: Vec<Handle> = Vec::new();
    for (n, name, role) in [(2, "web-1", "web"), (3, "web-2", "web"), (4, "db-1", "database")] {
        let options = NodeOptions::lan(name, ([127, 31, 101, n], 0)).tag("role", role).tag("http", "8080");
        // The events of these nodes are not read, so their outlets are dropped.
        let (handle, _) = engine.add(options.join([&seed])).await?;
        nodes.push(handle);
    }
    let mut backends = Backends::default();
    backends.until(2, &mut outlet).await;

    println!("-- web-1 is to be drained: it changes its role");
    nodes[0].update_tags([("role".into(), "draining".into())].into(), Vec::new()).await?;
    backends.until(1, &mut outlet).await;

    println!("-- web-2 leaves");
    nodes[1].leave().await?;
    backends.until(0, &mut outlet).await;

    println!("-- web-1 is back");
    nodes[0].update_tags([("role".into(), "web".into())].into(), Vec::new()).await?;
    backends.until(1, &mut outlet).await;
    engine.stop().await;
    Ok(())
}
