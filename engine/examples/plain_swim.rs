//! SWIM alone, without Serf's events and queries: membership, messages of the program by gossip and directly to one
//! member, and a state that is exchanged with every push/pull.
//!
//! `cargo run --example plain_swim -p thane-engine`

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use thane_engine::api::{Engine, Handle, NodeOptions};
use thane_engine::delegate::{Delegate, Onward};
use thane_engine::event::Event;
use thane_engine::io::DriverChoice;
use tokio::sync::mpsc;

/// A replicated set of words. A node that learns a new word gossips it on, and a node that joins gets all words with
/// the push/pull.
struct Words {
    known: BTreeSet<String>,
    learnt: mpsc::UnboundedSender<String>,
}

impl Words {
    fn learn(&mut self, word: String) -> bool {
        let new = self.known.insert(word.clone());
        if new {
            // The receiver lives as long as main; a delegate never waits.
            let _ = self.learnt.send(word);
        }
        new
    }
}

impl Delegate for Words {
    fn on_message(&mut self, message: &[u8]) -> Onward {
        let word = String::from_utf8_lossy(message).into_owned();
        if self.learn(word) { Onward::Gossip } else { Onward::Stop }
    }

    fn local_state(&mut self, _join: bool) -> Vec<u8> {
        self.known.iter().map(String::as_str).collect::<Vec<&str>>().join(" ").into_bytes()
    }

    fn merge_state(&mut self, state: &[u8], _join: bool) {
        for word in String::from_utf8_lossy(state).split_whitespace() {
            self.learn(word.to_owned());
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::start(DriverChoice::Auto)?;
    let node = |n: u8| {
        let (learnt, words) = mpsc::unbounded_channel();
        let delegate = Words { known: BTreeSet::new(), learnt };
        let options = NodeOptions::lan(format!("node-{n}"), ([127, 31, 105, n], 0)).plain_swim();
        (options.delegate(delegate), words)
    };
    let (options, _first_words) = node(1);
    let (first, mut outlet) = engine.add(options).await?;
    let seed = first.bound().to_string();
    let mut others: Vec<(Handle, mpsc::UnboundedReceiver<String>)> = Vec::new();
    for n in 2..=4 {
        let (options, words) = node(n);
        others.push((engine.add(options.join([&seed])).await?.0, words));
    }
    while first.members().await?.len() < 4 || others[0].0.members().await?.len() < 4 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    first.broadcast("hello".into()).await?;
    for (handle, words) in &mut others {
        println!("{} learns {:?} by gossip", handle.name(), words.recv().await.unwrap_or_default());
    }
    let (options, mut words) = node(5);
    let (latecomer, _) = engine.add(options.join([&seed])).await?;
    println!("{} joins late and learns {:?}", latecomer.name(), words.recv().await.unwrap_or_default());
    latecomer.send("node-1", "thanks".into()).await?;

    // SWIM distinguishes members that left from members that failed.
    others[0].0.leave().await?;
    others[1].0.shutdown().await;
    let mut gone = 0;
    while gone < 2 {
        let Some(Event::Member { kind, members }) = outlet.next_event().await else { continue };
        for member in members.iter() {
            println!("node-1 is told: {} {}", kind.as_str(), member.name);
            gone += usize::from(matches!(member.name, "node-2" | "node-3") && kind.as_str() != "member-join");
        }
    }
    engine.stop().await;
    Ok(())
}
