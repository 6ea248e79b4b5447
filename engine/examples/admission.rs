//! A membership rule: only nodes are admitted whose tag `badge` is their name, signed by the operator of the cluster.
//! The nodes hold the public key only, so none of them can make a badge for another.
//!
//! `cargo run --example admission -p thane-engine`

use std::error::Error;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use thane_engine::api::{Engine, Handle, NodeOptions};
use thane_engine::delegate::{Announcement, Announcements, Delegate, Veto};
use thane_engine::io::DriverChoice;

/// Admits nodes with a valid badge.
struct BadgeCheck(VerifyingKey);

impl BadgeCheck {
    fn check(&self, announced: &Announcement<'_>) -> Result<(), Veto> {
        let tags = announced.tags().map_err(|reason| reason.to_string())?;
        let badge = tags.get("badge").ok_or("it has no badge")?;
        let bytes = BASE64_STANDARD.decode(badge).map_err(|_| "its badge is not base64")?;
        let signature = Signature::from_slice(&bytes).map_err(|_| "its badge is no signature")?;
        let valid = self.0.verify_strict(announced.name.as_bytes(), &signature);
        valid.map_err(|_| "its badge is forged or another node's".into())
    }
}

impl Delegate for BadgeCheck {
    // Checking a signature takes some 50 µs, during which all nodes on this thread wait. A program with many members
    // would remember which it has checked.
    fn admit(&mut self, announced: &Announcement<'_>) -> Result<(), Veto> {
        self.check(announced)
    }

    fn admit_merge(&mut self, theirs: Announcements<'_>) -> Result<(), Veto> {
        let reason = |name: &str, veto: Veto| Veto::from(format!("{name} is not let in: {veto}"));
        theirs.iter().try_for_each(|one| self.check(&one).map_err(|veto| reason(one.name, veto)))
    }
}

fn badge(issuer: &SigningKey, name: &str) -> String {
    BASE64_STANDARD.encode(issuer.sign(name.as_bytes()).to_bytes())
}

async fn names(node: &Handle) -> Result<String, Box<dyn Error>> {
    let members = node.members().await?;
    Ok(members.into_iter().map(|member| member.name).collect::<Vec<String>>().join(", "))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // In production, this key is kept in a safe place and badges come with the machine's image.
    let issuer = SigningKey::from_bytes(&[7; 32]);
    let public = issuer.verifying_key();
    let engine = Engine::start(DriverChoice::Auto)?;
    let node = |n: u8, name: &str, badge: String| {
        NodeOptions::lan(name, ([127, 31, 104, n], 0)).tag("badge", badge).delegate(BadgeCheck(public))
    };
    let (first, _outlet) = engine.add(node(1, "first", badge(&issuer, "first"))).await?;
    let seed = first.bound().to_string();
    let (second, _) = engine.add(node(2, "second", badge(&issuer, "second")).join([&seed])).await?;

    // These have no rule of their own and join: they are told why not, and no member lists them.
    let forged = badge(&SigningKey::from_bytes(&[8; 32]), "forger");
    for (n, name, badge) in [(3, "forger", forged), (4, "thief", badge(&issuer, "second"))] {
        let options = NodeOptions::lan(name, ([127, 31, 104, n], 0)).tag("badge", badge);
        if let Err(refusal) = engine.add(options.join([&seed])).await {
            println!("{}", refusal.to_string().trim_end());
        }
    }
    while second.members().await?.len() < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("first sees:  {}", names(&first).await?);
    println!("second sees: {}", names(&second).await?);
    engine.stop().await;
    Ok(())
}
