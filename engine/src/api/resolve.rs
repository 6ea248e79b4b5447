//! The addresses that an entry of a join names.

use std::net::SocketAddr;

/// The addresses of one entry of a join: an address or a host name, optionally with a port, and optionally with a
/// node name in front (`member/address`), which Serf accepts too and does not check. Host names are looked up by
/// the system.
pub(super) async fn resolve(entry: &str, default_port: u16) -> Result<Vec<SocketAddr>, String> {
    let failed = |reason: String| format!("Failed to resolve {entry}: {reason}");
    let host = match entry.split_once('/') {
        Some(("", _)) => return Err(failed("empty node name provided".to_owned())),
        Some((_, host)) => host,
        None => entry,
    };
    if let Ok(addr) = host.parse::<SocketAddr>() {
        return Ok(vec![addr]);
    }
    if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, default_port)]);
    }
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => {
            (name, port.parse::<u16>().map_err(|_| failed(format!("invalid port {port:?}")))?)
        }
        None => (host, default_port),
    };
    let found = tokio::net::lookup_host((name, port)).await.map_err(|error| failed(error.to_string()))?;
    let addrs: Vec<SocketAddr> = found.collect();
    if addrs.is_empty() { Err(failed("no addresses".to_owned())) } else { Ok(addrs) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resolved(entry: &str) -> Result<Vec<SocketAddr>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(resolve(entry, 7946))
    }

    #[test]
    fn join_entries_take_every_form() {
        let v4: SocketAddr = "127.0.0.1:7946".parse().unwrap();
        let v6: SocketAddr = "[::1]:7946".parse().unwrap();
        let with_port: SocketAddr = "127.0.0.1:17".parse().unwrap();
        assert_eq!(resolved("127.0.0.1").unwrap(), [v4]);
        assert_eq!(resolved("127.0.0.1:17").unwrap(), [with_port]);
        assert_eq!(resolved("::1").unwrap(), [v6]);
        assert_eq!(resolved("[::1]").unwrap(), [v6]);
        assert_eq!(resolved("[::1]:7946").unwrap(), [v6]);
        assert_eq!(resolved("a/127.0.0.1").unwrap(), [v4]);
        assert!(resolved("/127.0.0.1").unwrap_err().contains("empty node name"));
        assert!(resolved("127.0.0.1:x").unwrap_err().contains("invalid port"));
    }
}
