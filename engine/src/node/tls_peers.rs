//! Which members announced that they take streams by TLS.

use std::net::SocketAddr;

use hashbrown::HashSet;

/// Addresses, as they answered last. The set has no order that anything depends on.
#[derive(Debug, Default)]
pub(super) struct TlsPeers(HashSet<SocketAddr, foldhash::fast::FixedState>);

impl TlsPeers {
    /// A member of so many answered a ping from there.
    pub(super) fn note(&mut self, addr: SocketAddr, takes_tls: bool, members: usize) {
        if !takes_tls {
            self.0.remove(&addr);
            return;
        }
        if self.0.len() >= 2 * members.max(32) {
            // Most are of members that are gone; the others announce it again when they are probed next.
            self.0.clear();
        }
        self.0.insert(addr);
    }

    pub(super) fn has(&self, addr: SocketAddr) -> bool {
        self.0.contains(&addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_an_address_counts_and_their_number_is_bounded() {
        let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut peers = TlsPeers::default();
        peers.note(addr(1), true, 2);
        assert!(peers.has(addr(1)) && !peers.has(addr(2)));
        peers.note(addr(1), false, 2);
        assert!(!peers.has(addr(1)));
        for port in 0..1000 {
            peers.note(addr(port), true, 40);
            assert!(peers.has(addr(port)) && peers.0.len() <= 80);
        }
    }
}
