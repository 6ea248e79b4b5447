//! Faults of the network between containers, as rules of the packet filter: partitions and loss.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use crate::failure::Failure;
use crate::leftovers::table;
use crate::program::Program;

/// What is wrong between the agents now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Links {
    /// These are cut off from all others, and among themselves connected.
    pub(crate) cut_off: BTreeSet<IpAddr>,
    /// What these send is lost at this share, 0 to 1.
    pub(crate) lossy: BTreeSet<IpAddr>,
    pub(crate) loss: f64,
}

/// Chance is drawn from this many numbers.
const CHANCES: u32 = 10_000;

impl Links {
    /// The filter's input for a run: its table anew, in one transaction. The bridge's own hook sees frames
    /// between containers only, so that the testbed's connections to the agents go on.
    pub(crate) fn rules(&self, id: &str) -> String {
        let table = table(id);
        let mut text = format!("table bridge {table}\ndelete table bridge {table}\n");
        if self.cut_off.is_empty() && self.lossy.is_empty() {
            return text;
        }
        let _ = writeln!(text, "table bridge {table} {{");
        for (family, kind, is_ours) in [
            ("ip", "ipv4_addr", IpAddr::is_ipv4 as fn(&IpAddr) -> bool),
            ("ip6", "ipv6_addr", IpAddr::is_ipv6),
        ] {
            for (name, set) in [("cut_off", &self.cut_off), ("lossy", &self.lossy)] {
                let addresses: Vec<String> =
                    set.iter().filter(|ip| is_ours(ip)).map(IpAddr::to_string).collect();
                if !addresses.is_empty() {
                    let elements = addresses.join(", ");
                    let _ = writeln!(
                        text,
                        "  set {family}_{name} {{ type {kind}; elements = {{ {elements} }}; }}"
                    );
                }
            }
        }
        text.push_str("  chain forward {\n    type filter hook forward priority 0; policy accept;\n");
        for (family, is_ours) in [("ip", IpAddr::is_ipv4 as fn(&IpAddr) -> bool), ("ip6", IpAddr::is_ipv6)] {
            if self.cut_off.iter().any(is_ours) {
                let set = format!("@{family}_cut_off");
                let _ = writeln!(text, "    {family} saddr {set} {family} daddr != {set} counter drop");
                let _ = writeln!(text, "    {family} saddr != {set} {family} daddr {set} counter drop");
            }
            if self.lossy.iter().any(is_ours) {
                let chances = (self.loss * f64::from(CHANCES)).round();
                let _ = writeln!(
                    text,
                    "    {family} saddr @{family}_lossy numgen random mod {CHANCES} < {chances} counter drop"
                );
            }
        }
        text.push_str("  }\n}\n");
        text
    }

    /// Makes it so.
    ///
    /// # Errors
    /// The filter refuses the rules; those from before stay.
    pub(crate) fn apply(&self, id: &str) -> Result<(), Failure> {
        Program::new("nft").args(["-f", "-"]).input(self.rules(id)).run().map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn addresses(all: &[&str]) -> BTreeSet<IpAddr> {
        all.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn a_partition_drops_both_ways_across_and_nothing_within() {
        let links = Links { cut_off: addresses(&["10.201.0.11", "10.201.0.10"]), ..Links::default() };
        let rules = links.rules("0a");
        assert!(rules.starts_with("table bridge thane_testbed_0a\ndelete table bridge thane_testbed_0a\n"));
        assert!(
            rules.contains("set ip_cut_off { type ipv4_addr; elements = { 10.201.0.10, 10.201.0.11 }; }")
        );
        assert!(rules.contains("ip saddr @ip_cut_off ip daddr != @ip_cut_off counter drop"));
        assert!(rules.contains("ip saddr != @ip_cut_off ip daddr @ip_cut_off counter drop"));
        assert!(!rules.contains("numgen") && !rules.contains("ip6"));
    }

    #[test]
    fn loss_is_drawn_for_each_packet_that_the_lossy_send() {
        let links = Links { lossy: addresses(&["10.201.0.10", "fd00::a"]), loss: 0.25, ..Links::default() };
        let rules = links.rules("0a");
        assert!(rules.contains("ip saddr @ip_lossy numgen random mod 10000 < 2500 counter drop"));
        assert!(rules.contains("ip6 saddr @ip6_lossy numgen random mod 10000 < 2500 counter drop"));
        assert!(rules.contains("set ip6_lossy { type ipv6_addr; elements = { fd00::a }; }"));
    }

    #[test]
    fn healed_links_have_no_table() {
        assert_eq!(Links::default().rules("0a").lines().count(), 2);
    }
}
