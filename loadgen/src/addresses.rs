//! Loopback addresses of nodes or agents, one after the other.

use std::net::Ipv4Addr;

/// That many addresses of 127.0.0.0/8 from a first one on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    first: Ipv4Addr,
    count: usize,
}

impl Addresses {
    /// `count` addresses from `first` on.
    ///
    /// # Errors
    /// They are not all in 127.0.0.0/8; one line.
    pub fn new(first: Ipv4Addr, count: usize) -> Result<Addresses, String> {
        let last = u64::from(u32::from(first)) + (count as u64).saturating_sub(1);
        if !first.is_loopback() || last > u64::from(u32::from(Ipv4Addr::new(127, 255, 255, 254))) {
            return Err(format!("{count} addresses from {first} on leave 127.0.0.0/8"));
        }
        Ok(Addresses { first, count })
    }

    /// The n-th address, counted from 0.
    ///
    /// # Panics
    /// There are not that many.
    pub fn ip(&self, n: usize) -> Ipv4Addr {
        assert!(n < self.count, "address {n} of {}", self.count);
        Ipv4Addr::from(u32::from(self.first) + n as u32)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_follow_one_another_within_loopback() {
        let addresses = Addresses::new(Ipv4Addr::new(127, 40, 0, 200), 300).unwrap();
        assert_eq!(addresses.ip(0), Ipv4Addr::new(127, 40, 0, 200));
        assert_eq!(addresses.ip(299), Ipv4Addr::new(127, 40, 1, 243));
        for (first, count) in [([10, 0, 0, 1], 1), ([127, 255, 255, 1], 255)] {
            let error = Addresses::new(first.into(), count).unwrap_err();
            assert!(error.ends_with("leave 127.0.0.0/8"), "{error}");
        }
        assert!(Addresses::new([127, 255, 255, 1].into(), 254).is_ok());
    }
}
