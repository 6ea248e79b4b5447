//! Which process holds a port.

/// Its name and number; `None` where the system does not tell.
#[cfg(target_os = "linux")]
pub(super) fn of(port: u16) -> Option<String> {
    let inodes = inodes(port);
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|digit| digit.is_ascii_digit())) else {
            continue;
        };
        // Processes of others show their descriptors to root only.
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let Ok(target) = std::fs::read_link(descriptor.path()) else { continue };
            let target = target.to_string_lossy();
            let socket = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            if socket.is_some_and(|socket| inodes.iter().any(|inode| inode == socket)) {
                let command = std::fs::read_to_string(process.path().join("comm")).ok()?;
                return Some(format!("{} (process {pid})", command.trim()));
            }
        }
    }
    None
}

/// The sockets that are bound to the port, or listen on it.
#[cfg(target_os = "linux")]
fn inodes(port: u16) -> Vec<String> {
    let wanted = format!(":{port:04X}");
    let mut found = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let text = std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            // Local address, remote address, state, …, inode. A remote port means a connection, which holds no port.
            if let [_, local, remote, _, .., _] = fields[..]
                && local.ends_with(&wanted)
                && remote.ends_with(":0000")
                && let Some(inode) = fields.get(9)
            {
                found.push((*inode).to_owned());
            }
        }
    }
    found
}

#[cfg(not(target_os = "linux"))]
pub(super) fn of(_: u16) -> Option<String> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn this_process_is_found_by_its_port() {
        let socket = std::net::UdpSocket::bind("127.15.122.9:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = super::of(port).unwrap();
        assert!(found.ends_with(&format!("(process {})", std::process::id())), "{found}");
        let listener = std::net::TcpListener::bind("127.15.122.9:0").unwrap();
        assert!(super::of(listener.local_addr().unwrap().port()).is_some());
    }
}
