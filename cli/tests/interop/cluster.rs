//! A set of agents on one subnet, the variants in which every scenario runs, and what has to hold at its end.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use super::agent::{Agent, Kind, Member, wait_for};
use super::refusals::assert_nothing_refused;
use crate::common::real_serf;

/// One test for each [`Variant`] of a scenario, on the subnets `subnet`, `subnet + 1` and `subnet + 2`.
macro_rules! in_each_variant {
    ($scenario:ident, $subnet:literal) => {
        mod $scenario {
            use crate::interop::cluster::{Variant, run};

            #[test]
            fn plain() {
                run(concat!(module_path!(), "::plain"), Variant::Plain, $subnet, super::$scenario);
            }

            #[test]
            fn sealed() {
                run(concat!(module_path!(), "::sealed"), Variant::Sealed, $subnet + 1, super::$scenario);
            }

            #[test]
            fn uncompressed() {
                let test = concat!(module_path!(), "::uncompressed");
                run(test, Variant::Uncompressed, $subnet + 2, super::$scenario);
            }
        }
    };
}
pub(crate) use in_each_variant;

/// How the agents of a cluster are set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Serf's defaults: compressed, not sealed.
    Plain,
    /// With a gossip key.
    Sealed,
    /// With `-disable-compression`.
    Uncompressed,
}

impl Variant {
    /// The key of [`Variant::Sealed`]: 32 bytes, as `keygen` makes them.
    pub(crate) const KEY: &str = "T2xkIGtleXMgb3BlbiBub3RoaW5nIG5ldy4gMTIzNDU=";

    /// Flags that every agent of the variant takes.
    pub(crate) fn flags(self) -> Vec<String> {
        match self {
            Variant::Plain => Vec::new(),
            Variant::Sealed => vec![format!("-encrypt={}", Variant::KEY)],
            Variant::Uncompressed => vec!["-disable-compression".to_owned()],
        }
    }
}

/// The agents of one scenario.
///
/// They keep Serf's LAN profile: the local one finds failures a second sooner, but sends each broadcast only twice, and
/// then it happens that both copies go to a member that is dead. Scenarios have at most four agents where a broadcast
/// has to reach all of them without the help of a push/pull, which comes every 30 seconds.
pub(crate) struct Cluster {
    pub(crate) variant: Variant,
    /// Set by scenarios in which agents have to refuse each other.
    pub(crate) refusals_expected: bool,
    subnet: u8,
    agents: Vec<Agent>,
}

/// Which test has which subnet: a subnet that two tests have is a mistake in their numbers.
static SUBNETS: Mutex<BTreeMap<u8, String>> = Mutex::new(BTreeMap::new());

fn claim(subnet: u8, test: &str) {
    let mut subnets = SUBNETS.lock().expect("the assertion below comes after the last use of the guard");
    let owner = subnets.entry(subnet).or_insert_with(|| test.to_owned()).clone();
    drop(subnets);
    assert_eq!(owner, test, "two tests have the subnet {subnet}");
}

/// Runs one scenario on a subnet of its own, then checks that no agent refused what another sent.
pub(crate) fn run(test: &str, variant: Variant, subnet: u8, scenario: impl FnOnce(&mut Cluster)) {
    if real_serf(test).is_none() {
        return;
    }
    claim(subnet, test);
    let mut cluster = Cluster { variant, refusals_expected: false, subnet, agents: Vec::new() };
    scenario(&mut cluster);
    if !cluster.refusals_expected {
        cluster.agents.iter().for_each(assert_nothing_refused);
    }
}

impl Cluster {
    /// Adds an agent that is not running yet, and returns its place.
    pub(crate) fn add(&mut self, kind: Kind, name: &str) -> &Agent {
        let host = u8::try_from(self.agents.len() + 1).expect("clusters are small");
        self.agents.push(Agent::new(kind, name, Ipv4Addr::new(127, 14, self.subnet, host)));
        self.agents.last().expect("just pushed")
    }

    /// Starts an agent with the variant's flags and `extra`.
    pub(crate) fn start(&self, name: &str, extra: &[&str]) {
        self.agent(name).start(&self.flags(extra));
    }

    fn flags(&self, extra: &[&str]) -> Vec<String> {
        let mut flags = self.variant.flags();
        flags.extend(extra.iter().map(|&flag| flag.to_owned()));
        flags
    }

    /// Adds and starts `pairs` agents of each kind, `s1 t1 s2 t2 ...`, each joining the one before it, and waits until
    /// all know all. `extra` gives further flags by name.
    pub(crate) fn start_pairs(&mut self, pairs: usize, extra: impl Fn(&str) -> Vec<String>) {
        let mut before: Option<String> = None;
        for number in 1..=pairs {
            for kind in Kind::BOTH {
                let name = member_name(kind, number);
                let mut flags = extra(&name);
                flags.extend(before.iter().map(|name| self.join_flag(name)));
                self.add(kind, &name);
                self.start(&name, &flags.iter().map(String::as_str).collect::<Vec<_>>());
                before = Some(name);
            }
        }
        self.wait_all_alive();
    }

    /// The flag that makes an agent join the agent `name`.
    pub(crate) fn join_flag(&self, name: &str) -> String {
        format!("-join={}", self.agent(name).bind_addr())
    }

    /// The agent of that name.
    pub(crate) fn agent(&self, name: &str) -> &Agent {
        self.agents.iter().find(|agent| agent.name == name).unwrap_or_else(|| panic!("no agent {name}"))
    }

    /// All agents.
    pub(crate) fn agents(&self) -> &[Agent] {
        &self.agents
    }

    /// The agents whose process runs.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Agent> {
        self.agents.iter().filter(|agent| agent.is_running())
    }

    /// Waits for a condition; a failure shows the logs of all agents.
    pub(crate) fn wait_for<T>(&self, what: &str, condition: impl FnMut() -> Result<T, String>) -> T {
        wait_for(what, &self.agents.iter().collect::<Vec<_>>(), condition)
    }

    /// Waits until every running agent lists every running agent as alive, and nobody else.
    pub(crate) fn wait_all_alive(&self) {
        let expected: Vec<(&str, &str)> = self.running().map(|agent| (&*agent.name, "alive")).collect();
        self.wait_statuses(&expected);
    }

    /// Waits until every running agent lists exactly these members with these statuses, and all lists are equal.
    pub(crate) fn wait_statuses(&self, expected: &[(&str, &str)]) -> BTreeMap<String, Member> {
        let expected: BTreeMap<&str, &str> = expected.iter().copied().collect();
        self.wait_for(&format!("the members {expected:?} on all"), || {
            let mut first: Option<BTreeMap<String, Member>> = None;
            for agent in self.running() {
                let members = agent.members()?;
                let statuses: BTreeMap<&str, &str> =
                    members.iter().map(|(name, member)| (&**name, &*member.status)).collect();
                if statuses != expected {
                    return Err(format!("{} lists {statuses:?}", agent.name));
                }
                match &first {
                    Some(first) if *first != members => {
                        return Err(format!("{} lists {members:?}, the first agent {first:?}", agent.name));
                    }
                    Some(_) => {}
                    None => first = Some(members),
                }
            }
            first.ok_or_else(|| "no agent runs".to_owned())
        })
    }
}

/// `s1` for the first Serf, `t2` for the second Thane.
pub(crate) fn member_name(kind: Kind, number: usize) -> String {
    match kind {
        Kind::Serf => format!("s{number}"),
        Kind::Thane => format!("t{number}"),
    }
}
