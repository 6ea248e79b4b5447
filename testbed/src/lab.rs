//! A private network for one cluster, and everything that has to go when the cluster goes.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;

use crate::docker::{LABEL, Network, OWNER, docker};
use crate::failure::Failure;
use crate::leftovers::{self, Guard};
use crate::program::Program;

/// Subnets are taken from here unless the user names one: 64 of 1,022 addresses.
const POOL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 201, 0, 0), 16);
const SUBNET_PREFIX: u8 = 22;
/// The first agent's place in the subnet; the engine takes the first address for itself.
const FIRST_HOST: u32 = 10;
/// Where the kernel keeps its limits for neighbours, below the family's name.
const NEIGHBOUR_LIMITS: &str = "/proc/sys/net";
/// The most containers that this kind of machine was tried with.
pub(crate) const NODES_MAX: u32 = 150;

/// What the network is to be like.
#[derive(Clone, Debug, Default)]
pub(crate) struct LabOptions {
    /// Chosen from 10.201.0.0/16 where none is given.
    pub(crate) subnet: Option<Ipv4Net>,
    /// Adds an IPv6 subnet.
    pub(crate) ipv6: bool,
    pub(crate) mtu: Option<u32>,
    /// So many clusters of this size share the kernel's table of neighbours; 0 counts as 1.
    pub(crate) clusters: u32,
    /// Sets the kernel's limits for neighbours where they are too small.
    pub(crate) raise_neighbour_limits: bool,
}

/// A network of the engine, with a folder for the agents' state and a guard; removed when dropped.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) id: String,
    subnet: Ipv4Net,
    subnet6: Option<Ipv6Addr>,
    folder: PathBuf,
    guard: Option<Guard>,
    removed: bool,
}

impl Lab {
    /// Makes the network for at most `nodes` agents.
    ///
    /// # Errors
    /// One line; nothing is left behind.
    pub(crate) fn open(options: &LabOptions, nodes: u32) -> Result<Lab, Failure> {
        if nodes > NODES_MAX {
            return Err(Failure::new(format!("{nodes} containers: one machine takes at most {NODES_MAX}")));
        }
        if let Some(subnet) = options.subnet.filter(|subnet| places(*subnet) < nodes) {
            return Err(Failure::new(format!(
                "subnet {subnet} has {} addresses for agents, {nodes} are needed: give a larger one with --subnet",
                places(subnet)
            )));
        }
        if let Some(subnet) = options.subnet.filter(|subnet| !subnet.network().is_private()) {
            return Err(Failure::new(format!(
                "subnet {subnet} is not private, and agents look for a private address: give one of 10.0.0.0/8, \
                 172.16.0.0/12 or 192.168.0.0/16"
            )));
        }
        let needed = neighbours_needed(nodes) * options.clusters.max(1);
        require_neighbours(Path::new(NEIGHBOUR_LIMITS), needed, options.raise_neighbour_limits)?;
        let number = getrandom::u32().map_err(|error| Failure::new(format!("random numbers: {error}")))?;
        let id = format!("{:06x}", number & 0xff_ffff);
        let folder = leftovers::make_folder(&id)?;
        let subnet6 = options
            .ipv6
            .then(|| Ipv6Addr::new(0xfd00, 0xc9, (number >> 16) as u16, number as u16, 0, 0, 0, 0));
        let guard = Some(Guard::start(&id)?);
        let mut lab = Lab { id, subnet: POOL, subnet6, folder, guard, removed: false };
        lab.create_network(options, number)?;
        Ok(lab)
    }

    fn create_network(&mut self, options: &LabOptions, number: u32) -> Result<(), Failure> {
        let candidates: Vec<Ipv4Net> = match options.subnet {
            Some(subnet) => vec![subnet],
            None => {
                let mut all: Vec<Ipv4Net> = POOL.subnets(SUBNET_PREFIX).into_iter().flatten().collect();
                let first = number as usize % all.len();
                all.rotate_left(first);
                all
            }
        };
        let routes = Program::new("ip").args(["-4", "route", "show"]).run()?;
        let mut refusal = None;
        for subnet in candidates {
            if let Some(device) = used_by(&routes, subnet) {
                refusal = Some(Failure::new(format!(
                    "subnet {subnet} is in use by {device} of this machine: give another one with --subnet"
                )));
                continue;
            }
            let network = Network {
                name: self.network(),
                bridge: leftovers::bridge(&self.id),
                subnet: subnet.to_string(),
                subnet6: self.subnet6.map(|net| format!("{net}/64")),
                mtu: options.mtu,
                labels: self.labels(),
            };
            match docker(network.create_arguments()) {
                Ok(_) => {
                    self.subnet = subnet;
                    return Ok(());
                }
                Err(failure) if failure.to_string().contains("--subnet") => refusal = Some(failure),
                Err(failure) => return Err(failure),
            }
        }
        Err(refusal.unwrap_or_else(|| Failure::new("no subnet is free")))
    }

    pub(crate) fn network(&self) -> String {
        format!("{}-{}", leftovers::PREFIX, self.id)
    }

    /// The name of an agent's container.
    pub(crate) fn container(&self, node: &str) -> String {
        format!("{}-{}-{node}", leftovers::PREFIX, self.id)
    }

    pub(crate) fn labels(&self) -> Vec<(String, String)> {
        vec![(LABEL.to_owned(), self.id.clone()), (OWNER.to_owned(), leftovers::owner())]
    }

    /// The address at that place, from 0.
    pub(crate) fn ip(&self, place: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.network()) + FIRST_HOST + place)
    }

    /// The IPv6 address at that place, in a network that has such.
    pub(crate) fn ip6(&self, place: u32) -> Option<Ipv6Addr> {
        self.subnet6.map(|net| Ipv6Addr::from(u128::from(net) + u128::from(FIRST_HOST + place)))
    }

    /// Where addresses end.
    pub(crate) fn places(&self) -> u32 {
        places(self.subnet)
    }

    /// An agent's folder, which it sees as `/state`; it outlives the container.
    ///
    /// # Errors
    /// It can't be made.
    pub(crate) fn state(&self, node: &str) -> Result<PathBuf, Failure> {
        let folder = self.folder.join(node);
        fs::create_dir_all(&folder).map_err(|error| Failure::file(&folder, &error))?;
        Ok(folder)
    }

    pub(crate) fn subnet(&self) -> String {
        self.subnet.to_string()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes everything.
    ///
    /// # Errors
    /// Something is left; `thane-testbed down` tries again.
    pub(crate) fn close(mut self) -> Result<(), Failure> {
        self.remove()
    }

    fn remove(&mut self) -> Result<(), Failure> {
        if std::mem::replace(&mut self.removed, true) {
            return Ok(());
        }
        let result = leftovers::remove(&self.id);
        if result.is_ok()
            && let Some(guard) = self.guard.take()
        {
            guard.end();
        }
        result
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(failure) = self.remove() {
            eprintln!("thane-testbed: {failure}; `thane-testbed down` removes what is left");
        }
    }
}

/// How many addresses a subnet has for agents: without its own, the broadcast's and the first ones.
fn places(subnet: Ipv4Net) -> u32 {
    let all = 1u32.checked_shl(32 - u32::from(subnet.prefix_len())).unwrap_or(u32::MAX);
    all.saturating_sub(FIRST_HOST + 1)
}

/// What of this machine already has addresses of that subnet.
fn used_by(routes: &str, subnet: Ipv4Net) -> Option<String> {
    routes.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let target = words.next()?;
        let host = |text: &str| text.parse::<Ipv4Addr>().map(Ipv4Net::from);
        let route: Ipv4Net = target.parse().ok().or_else(|| host(target).ok())?;
        let overlaps = route.contains(&subnet.network()) || subnet.contains(&route.network());
        let device = words.skip_while(|word| *word != "dev").nth(1)?;
        (overlaps && route.prefix_len() > 0).then(|| format!("interface {device}"))
    })
}

/// The kernel has one table of neighbours for all containers; where it is full, packets are dropped and members
/// fail that are well. `limits` is the folder with a folder for each family.
fn require_neighbours(limits: &Path, needed: u32, raise: bool) -> Result<(), Failure> {
    let file = |family: &str, number: u32| limits.join(format!("{family}/neigh/default/gc_thresh{number}"));
    let too_small = |family: &'static str| {
        let limit = fs::read_to_string(file(family, 3)).ok()?.trim().parse().ok()?;
        (limit < needed).then_some((family, limit))
    };
    let too_small: Vec<(&str, u32)> = ["ipv4", "ipv6"].into_iter().filter_map(too_small).collect();
    let enough = needed * 4;
    if !raise && let Some((_, limit)) = too_small.first() {
        let name = |(family, _): &(&str, u32)| format!("net.{family}.neigh.default.gc_thresh3={enough}");
        let names: Vec<String> = too_small.iter().map(name).collect();
        return Err(Failure::new(format!(
            "the neighbour table is too small for so many containers ({limit}, {needed} needed): `sysctl -w {}`, or give \
             --raise-neighbour-limits",
            names.join(" ")
        )));
    }
    for (family, limit) in too_small {
        for (number, value) in [(3, enough), (2, needed * 2), (1, needed)] {
            let path = file(family, number);
            fs::write(&path, value.to_string()).map_err(|error| Failure::file(&path, &error))?;
        }
        eprintln!("net.{family}.neigh.default.gc_thresh3 is now {enough} (it was {limit})");
    }
    Ok(())
}

/// Every agent comes to know every other one and the gateway; a fifth more for what else runs.
fn neighbours_needed(nodes: u32) -> u32 {
    nodes * (nodes + 1) * 6 / 5
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_subnet_in_use_is_found_by_the_routes() {
        let routes = "default via 172.17.0.1 dev eth0\n10.201.4.0/22 dev ttb1 proto kernel scope link\n\
                      192.168.7.9 dev tun0\n";
        let used = |subnet: &str| used_by(routes, subnet.parse().unwrap());
        assert_eq!(used("10.201.4.0/24").as_deref(), Some("interface ttb1"));
        assert_eq!(used("10.201.0.0/16").as_deref(), Some("interface ttb1"));
        assert_eq!(used("192.168.7.0/24").as_deref(), Some("interface tun0"));
        assert_eq!(used("10.201.8.0/22"), None);
    }

    #[test]
    fn the_neighbour_table_must_hold_everybody_of_everybody() {
        assert!(neighbours_needed(20) <= 1024, "the kernel's default is enough for twenty");
        assert!(neighbours_needed(50) > 1024, "and was seen to overflow with fifty");
        let limits = tempfile::tempdir().unwrap();
        let file = |number: u32| limits.path().join(format!("ipv4/neigh/default/gc_thresh{number}"));
        let file6 = limits.path().join("ipv6/neigh/default/gc_thresh3");
        for folder in [file(1), file6.clone()] {
            fs::create_dir_all(folder.parent().unwrap()).unwrap();
        }
        for (number, limit) in [(1, "128"), (2, "512"), (3, "1024\n")] {
            fs::write(file(number), limit).unwrap();
        }
        fs::write(&file6, "2048").unwrap();
        let require = |needed, raise| require_neighbours(limits.path(), needed, raise);
        assert_eq!(require(1024, false), Ok(()));
        let line = require(3060, false).unwrap_err().to_string();
        let both =
            "`sysctl -w net.ipv4.neigh.default.gc_thresh3=12240 net.ipv6.neigh.default.gc_thresh3=12240`";
        assert!(line.contains(both), "{line}");
        let line = require(2000, false).unwrap_err().to_string();
        assert!(
            line.contains("gc_thresh3=8000`") && !line.contains("ipv6"),
            "only what is too small: {line}"
        );
        assert_eq!(require(3060, true), Ok(()));
        assert_eq!(
            [1, 2, 3].map(|number| fs::read_to_string(file(number)).unwrap()),
            ["3060", "6120", "12240"]
        );
        assert_eq!(fs::read_to_string(file6).unwrap(), "12240");
        assert_eq!(require(3060, false), Ok(()));
    }

    #[test]
    fn addresses_lie_in_the_subnet() {
        let lab = Lab {
            id: "x".into(),
            subnet: "10.201.4.0/22".parse().unwrap(),
            subnet6: Some("fd00:c9::".parse().unwrap()),
            folder: PathBuf::new(),
            guard: None,
            removed: true,
        };
        assert_eq!(lab.ip(0).to_string(), "10.201.4.10");
        assert_eq!(lab.ip(300).to_string(), "10.201.5.54");
        assert_eq!(lab.ip6(5).unwrap().to_string(), "fd00:c9::f");
        assert!(lab.subnet.contains(&lab.ip(lab.places() - 1)));
        assert!(lab.places() > 1000);
        assert_eq!(
            [0, 24, 29, 32].map(|prefix| places(Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, prefix))),
            [u32::MAX - 11, 245, 0, 0]
        );
    }
}
