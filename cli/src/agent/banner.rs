//! The agent's lines on stdout besides its log: headings, and a table of its settings once it runs.
//! The lines are Serf's, with Serf's name, because scripts wait for them.

use std::fmt::{self, Display};
use std::net::SocketAddr;

use super::printer::STDOUT;

/// Prints a line with Serf's arrow.
pub(crate) fn heading(text: impl Display) {
    STDOUT.print(&format!("==> {text}\n"));
}

/// Prints an indented line.
pub(crate) fn detail(text: impl Display) {
    STDOUT.print(&format!("    {text}\n"));
}

/// Prints an empty line.
pub(crate) fn gap() {
    STDOUT.print("\n");
}

/// The settings of a running agent that the banner shows.
pub(crate) struct Banner<'a> {
    /// Node name.
    pub(crate) node_name: &'a str,
    /// As configured: port 0 is shown as 0.
    pub(crate) bind: SocketAddr,
    /// As configured, if it was.
    pub(crate) advertise: Option<SocketAddr>,
    /// As configured.
    pub(crate) rpc_addr: &'a str,
    /// As configured, if it was.
    pub(crate) http_addr: Option<&'a str>,
    /// Whether there is a key.
    pub(crate) encrypted: bool,
    /// Whether there is a snapshot.
    pub(crate) snapshot: bool,
    /// Name of the profile.
    pub(crate) profile: &'a str,
    /// Whether gossip is compressed.
    pub(crate) compression: bool,
    /// The name of the cluster that is looked for by mDNS; empty: none is.
    pub(crate) discover: &'a str,
}

impl Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, title: &str, value: &dyn Display| {
            writeln!(f, "    {title:>27}: {value}")
        };
        line(f, "Node name", &format_args!("'{}'", self.node_name))?;
        line(f, "Bind addr", &format_args!("'{}'", self.bind))?;
        if let Some(advertise) = self.advertise {
            // Serf does not align this one.
            writeln!(f, "    Advertise addr: '{advertise}'")?;
        }
        line(f, "RPC addr", &format_args!("'{}'", self.rpc_addr))?;
        if let Some(http_addr) = self.http_addr {
            line(f, "HTTP addr", &format_args!("'{http_addr}'"))?;
        }
        line(f, "Encrypted", &self.encrypted)?;
        line(f, "Snapshot", &self.snapshot)?;
        line(f, "Profile", &self.profile)?;
        line(f, "Message Compression Enabled", &self.compression)?;
        if !self.discover.is_empty() {
            line(f, "mDNS cluster", &self.discover)?;
        }
        Ok(())
    }
}

impl Banner<'_> {
    /// Prints it.
    pub(crate) fn print(&self) {
        STDOUT.print(&format!("==> Serf agent running!\n{self}"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PLAIN: Banner<'_> = Banner {
        node_name: "vm",
        bind: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 15, 0, 86)), 7946),
        advertise: None,
        rpc_addr: "127.15.0.86:7373",
        http_addr: None,
        encrypted: false,
        snapshot: false,
        profile: "lan",
        compression: true,
        discover: "",
    };

    /// What Serf 0.9.4 printed.
    #[test]
    fn banner_is_serfs() {
        let expected = "                      Node name: 'vm'
                      Bind addr: '127.15.0.86:7946'
                       RPC addr: '127.15.0.86:7373'
                      Encrypted: false
                       Snapshot: false
                        Profile: lan
    Message Compression Enabled: true
";
        assert_eq!(PLAIN.to_string(), expected);
    }

    #[test]
    fn advertise_address_and_mdns_have_lines_of_their_own() {
        let banner = Banner {
            advertise: Some("127.15.3.4:7946".parse().unwrap()),
            bind: "[::1]:0".parse().unwrap(),
            encrypted: true,
            discover: "x",
            ..PLAIN
        };
        let text = banner.to_string();
        assert!(text.contains(
            "\n                      Bind addr: '[::1]:0'\n    Advertise addr: '127.15.3.4:7946'\n                       RPC addr:"
        ));
        assert!(text.contains("\n                      Encrypted: true\n"));
        assert!(text.ends_with("\n                   mDNS cluster: x\n"));
    }
}
