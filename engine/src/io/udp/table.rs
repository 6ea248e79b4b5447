//! The sockets of one data plane by index.

use slab::Slab;

use super::SocketIndex;

/// Sockets by index, of the kind `S` that the driver reads and writes. An index names one socket from
/// [`insert`](Self::insert) to [`remove`](Self::remove) and is used again afterwards; while the driver holds it,
/// because the kernel may still report something under it, it is not.
#[derive(Debug)]
pub(super) struct SocketTable<S> {
    entries: Slab<Entry<S>>,
}

#[derive(Debug)]
struct Entry<S> {
    /// `None` once removed, until the driver lets go of the index.
    socket: Option<S>,
    held: bool,
}

impl<S> Default for SocketTable<S> {
    fn default() -> SocketTable<S> {
        SocketTable { entries: Slab::new() }
    }
}

impl<S> SocketTable<S> {
    /// Adds a socket.
    pub(super) fn insert(&mut self, socket: S) -> SocketIndex {
        SocketIndex(self.entries.insert(Entry { socket: Some(socket), held: false }) as u32)
    }

    /// The socket, unless it was removed.
    pub(super) fn get(&self, index: SocketIndex) -> Option<&S> {
        self.entries.get(index.0 as usize)?.socket.as_ref()
    }

    /// Takes a socket out. Its index is free at once, or once the driver lets go of it.
    pub(super) fn remove(&mut self, index: SocketIndex) -> Option<S> {
        let entry = self.entries.get_mut(index.0 as usize)?;
        let socket = entry.socket.take()?;
        if !entry.held {
            self.entries.remove(index.0 as usize);
        }
        Some(socket)
    }

    /// All sockets, in the order of their indexes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SocketIndex, &S)> {
        self.entries.iter().filter_map(|(key, entry)| Some((SocketIndex(key as u32), entry.socket.as_ref()?)))
    }

    /// Keeps the index from being used again until it is released.
    #[cfg(target_os = "linux")]
    pub(super) fn hold(&mut self, index: SocketIndex) {
        self.entries[index.0 as usize].held = true;
    }

    /// Whether the driver holds the index.
    #[cfg(target_os = "linux")]
    pub(super) fn is_held(&self, index: SocketIndex) -> bool {
        self.entries.get(index.0 as usize).is_some_and(|entry| entry.held)
    }

    /// Lets go of an index. True if its socket is still there.
    #[cfg(target_os = "linux")]
    pub(super) fn release(&mut self, index: SocketIndex) -> bool {
        let entry = &mut self.entries[index.0 as usize];
        entry.held = false;
        let live = entry.socket.is_some();
        if !live {
            self.entries.remove(index.0 as usize);
        }
        live
    }
}

// Other systems hold no indexes.
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_used_again_once_its_socket_is_removed_and_nobody_holds_it() {
        let mut table = SocketTable::default();
        let (a, b) = (table.insert('a'), table.insert('b'));
        assert_eq!(table.remove(a), Some('a'));
        assert_eq!((table.remove(a), table.get(a)), (None, None));
        assert_eq!(table.insert('c'), a, "free at once");
        table.hold(b);
        assert_eq!(table.remove(b), Some('b'));
        assert_eq!((table.get(b), table.is_held(b)), (None, true));
        let d = table.insert('d');
        assert_ne!(d, b, "the kernel may still report something under it");
        assert!(!table.release(b));
        assert_eq!(table.insert('e'), b);
        table.hold(d);
        assert!(table.release(d), "it is still there");
        let all: Vec<char> = table.iter().map(|(_, socket)| *socket).collect();
        assert_eq!(all, ['c', 'e', 'd']);
    }
}
