//! Agents that cases run against: the same ones for each pair of a client's and the agents' kind.

use std::collections::BTreeMap;
use std::fs;
use std::thread;

use serde::Deserialize;
use tempfile::TempDir;

use super::agent::{PATIENCE, Running, command, eventually, fresh_ip, wait_for_port};
use super::normal::Names;
use super::programs::{Kind, Programs};
use super::words::{filled, words};
use crate::failure::Failure;

/// A scene of `testbed/parity/*.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scene {
    pub(super) name: String,
    /// Name and flags of each agent; all join the first.
    #[serde(default)]
    agents: Vec<String>,
    /// Files in `{dir}`.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// The agents that are killed, and failed for the others, before the first case.
    #[serde(default)]
    kill: Vec<String>,
    /// The token of the agents' RPC ports.
    #[serde(default)]
    token: String,
    /// The cases, a line each; lines that start with # are comments.
    cases: String,
}

impl Scene {
    pub(super) fn cases(&self) -> impl Iterator<Item = &str> {
        self.cases.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    }
}

/// A scene's agents, all of one kind, and the kind of the program that is run against them.
pub(super) struct World {
    pub(super) client: Kind,
    pub(super) agents: Kind,
    folder: TempDir,
    /// Name and address.
    addresses: Vec<(String, String)>,
    /// An address where nothing listens.
    nobody: String,
    running: Vec<Running>,
}

impl World {
    /// Starts the agents and waits until they know each other.
    pub(super) fn start(
        programs: &Programs,
        scene: &Scene,
        client: Kind,
        agents: Kind,
    ) -> Result<World, Failure> {
        let folder = TempDir::new().map_err(|error| Failure::new(format!("a temporary folder: {error}")))?;
        let mut world =
            World { client, agents, folder, addresses: Vec::new(), nobody: fresh_ip(), running: Vec::new() };
        for agent in &scene.agents {
            let name = agent.split(' ').next().unwrap_or(agent);
            world.addresses.push((name.to_owned(), fresh_ip()));
        }
        world.write(&scene.files)?;
        for (index, agent) in scene.agents.iter().enumerate() {
            world.run_agent(programs, index, agent)?;
        }
        let expect = |world: &World, at: &str, status: &str, count: usize| -> Result<(), Failure> {
            let found =
                eventually(|| (world.count(programs, at, status, &scene.token) == count).then_some(()));
            found.ok_or_else(|| {
                Failure::new(format!("{} of {:?}: not {count} {status} at {at}", scene.name, agents))
            })
        };
        for (_, ip) in &world.addresses {
            expect(&world, ip, "alive", scene.agents.len())?;
        }
        for name in &scene.kill {
            let index = world.addresses.iter().position(|(known, _)| known == name);
            let index = index.ok_or_else(|| Failure::new(format!("{}: no agent {name}", scene.name)))?;
            world.running[index].signal("KILL");
            world.running[index].end(PATIENCE);
        }
        for (name, ip) in &world.addresses {
            if !scene.kill.contains(name) {
                expect(&world, ip, "failed", scene.kill.len())?;
            }
        }
        Ok(world)
    }

    fn write(&self, files: &BTreeMap<String, String>) -> Result<(), Failure> {
        for (name, text) in files {
            let path = self.folder.path().join(name);
            fs::write(&path, self.filled(text)).map_err(|error| Failure::file(&path, &error))?;
        }
        Ok(())
    }

    fn run_agent(&mut self, programs: &Programs, index: usize, agent: &str) -> Result<(), Failure> {
        let (name, ip) = self.addresses[index].clone();
        let flags = &agent[name.len()..];
        let join = if index == 0 { String::new() } else { format!("-join={}", self.addresses[0].1) };
        let line = format!("agent -profile=local -node={name} -bind={ip} -rpc-addr={ip}:7373 {join} {flags}");
        let mut running =
            Running::start(command(programs.of(self.agents), &words(&self.filled(&line)), &[]))?;
        if !running.wait_for_banner() || wait_for_port(&format!("{ip}:7373")).is_none() {
            return Err(Failure::new(format!(
                "{} does not start:\n{}",
                self.agents.name(),
                running.printed()
            )));
        }
        self.running.push(running);
        Ok(())
    }

    /// How many members of that status the agent at `ip` lists.
    fn count(&self, programs: &Programs, ip: &str, status: &str, token: &str) -> usize {
        let line = format!("members -status={status} -rpc-addr={ip}:7373 -rpc-auth={token}");
        let listed = Running::start(command(programs.of(Kind::Serf), &words(&line), &[]));
        let Ok(mut listed) = listed else { return 0 };
        listed.end(PATIENCE).out.lines().filter(|line| !line.is_empty()).count()
    }

    /// A case's text with this world's addresses: `{NAME}`, `{nobody}`, `{dir}`.
    pub(super) fn filled(&self, text: &str) -> String {
        filled(text, |name| match name {
            "nobody" => Some(self.nobody.clone()),
            "dir" => Some(self.folder.path().display().to_string()),
            name => self.addresses.iter().find(|(known, _)| known == name).map(|(_, ip)| ip.clone()),
        })
    }

    /// The RPC address of the first agent.
    pub(super) fn rpc(&self) -> String {
        let ip = self.addresses.first().map_or(&self.nobody, |(_, ip)| ip);
        format!("{ip}:7373")
    }

    pub(super) fn names(&self) -> Names {
        let octets = |ip: &str| -> Vec<String> {
            ip.split('.')
                .filter_map(|part| part.parse().ok())
                .map(|octet: u8| format!("{octet:#x}"))
                .collect()
        };
        let addresses = self.addresses.iter().flat_map(|(name, ip)| {
            [(ip.clone(), format!("<{name}>")), (octets(ip).join(", "), format!("<{name}>"))]
        });
        let folder = (self.folder.path().display().to_string(), "<dir>".to_owned());
        addresses.chain([(self.nobody.clone(), "<nobody>".to_owned()), folder]).collect()
    }

    /// [`names`](World::names), and addresses as bytes in RPC answers.
    pub(super) fn byte_names(&self) -> Names {
        let bytes = |ip: &str| {
            let octets: Vec<u8> = ip.split('.').filter_map(|part| part.parse().ok()).collect();
            octets.escape_ascii().to_string()
        };
        let addresses = self.addresses.iter().map(|(name, ip)| (bytes(ip), format!("<{name}>")));
        self.names().into_iter().chain(addresses).collect()
    }

    /// Ends the agents, which may have ended by themselves; how each ended is of no interest.
    pub(super) fn stop(self) {
        drop(self);
    }
}

/// Starts worlds at the same time.
pub(super) fn start_all(
    programs: &Programs,
    scene: &Scene,
    pairs: &[(Kind, Kind)],
) -> Result<Vec<World>, Failure> {
    thread::scope(|scope| {
        let starting: Vec<_> = pairs
            .iter()
            .map(|&(client, agents)| scope.spawn(move || World::start(programs, scene, client, agents)))
            .collect();
        starting
            .into_iter()
            .map(|world| {
                world.join().unwrap_or_else(|_| Err(Failure::new("a thread of the harness panicked")))
            })
            .collect()
    })
}
