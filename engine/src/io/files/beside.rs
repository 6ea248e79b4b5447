//! Replacing a file as a whole: a new one is written beside it and renamed over it. Where that is impossible (the
//! folder belongs to somebody else, the file is a mount of its own) a small file is rewritten in place, such that a crash
//! at any moment leaves the old or the new content readable.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// A file beside the one that it is to replace. It is removed again unless it is renamed.
#[derive(Debug)]
pub(crate) struct Beside {
    pub(crate) file: File,
    path: PathBuf,
    target: PathBuf,
}

impl Beside {
    /// Creates an empty file in the folder of `target`, under a name that nobody can foresee: in a folder that others
    /// may write to, none can prepare a file or a link for it. It has `mode`, or the mode and the owner of `target` if
    /// that exists.
    ///
    /// # Errors
    /// The system refuses it. Nothing remains.
    pub(crate) fn create(target: &Path, mode: u32) -> io::Result<Beside> {
        let mut random = [0; 12];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let suffix: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().ok_or(io::ErrorKind::InvalidInput)?);
        name.push(format!(".{suffix}"));
        let path = target.with_file_name(name);
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        let file = options.open(&path)?;
        let beside = Beside { file, path, target: target.to_owned() };
        if let Ok(old) = std::fs::metadata(target) {
            #[cfg(unix)]
            {
                use std::os::unix::fs::MetadataExt;
                // Only root may give a file away; others keep it.
                let _ = std::os::unix::fs::fchown(&beside.file, Some(old.uid()), Some(old.gid()));
            }
            beside.file.set_permissions(old.permissions())?;
        }
        Ok(beside)
    }

    /// Renames the file over the one that it replaces.
    ///
    /// # Errors
    /// The system refuses it. The old file is unchanged, and this one is removed.
    pub(crate) fn put(self) -> io::Result<()> {
        std::fs::rename(&self.path, &self.target)?;
        // The rename itself reaches the disk with the folder. Not every system lets a folder be synced.
        if let Some(folder) = self.target.parent()
            && let Ok(folder) = File::open(folder)
        {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // After a rename there is nothing of that name. If it can't be removed it is in nobody's way.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Replaces the content of a small file. It is synced when this returns. A new file is readable by its owner only; an
/// existing one keeps its mode, and a link to the file stays a link.
///
/// # Errors
/// The system refuses it, or what is read back differs. The file has the old or the new content, for
/// [`read_document`] also after a crash.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let renamed = Beside::create(&path, 0o600).and_then(|mut beside| {
        beside.file.write_all(bytes)?;
        beside.file.sync_all()?;
        beside.put()
    });
    let Err(error) = renamed else { return Ok(()) };
    match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) => rewrite(file, bytes),
        // There is no file yet, so the first error says what is wrong.
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Err(error),
        Err(error) => Err(error),
    }
}

/// Rewrites a file in three steps, each synced: the new content is appended; it is written over the old one; the copy is
/// cut off. The first copy is complete before anything is overwritten.
fn rewrite(mut file: File, bytes: &[u8]) -> io::Result<()> {
    let old = file.metadata()?.len();
    let len = bytes.len() as u64;
    // The copy lies behind the place that the new content is going to take.
    let copy_at = old.max(len) + 1;
    let mut copy = vec![b' '; (copy_at - old) as usize - 1];
    copy.push(b'\n');
    copy.extend_from_slice(bytes);
    if let Err(error) = write_at(&mut file, old, &copy) {
        // Without room for both, the old content stays.
        let _ = file.set_len(old);
        return Err(error);
    }
    let mut front = bytes.to_vec();
    front.resize((copy_at - 1) as usize, b' ');
    write_at(&mut file, 0, &front)?;
    file.set_len(len)?;
    file.sync_all()?;
    let mut read_back = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut read_back)?;
    if read_back == bytes { Ok(()) } else { Err(io::Error::other("it reads back differently")) }
}

fn write_at(file: &mut File, at: u64, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Decodes the JSON array or object that [`replace`] wrote, also from a file that a crash left in the middle of it: a
/// second document on a line of its own counts if it is complete, else the first one.
///
/// # Errors
/// There is no complete document. The error is that of the text as a whole.
pub fn read_document<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    let whole = serde_json::from_slice(text);
    if whole.is_ok() {
        return whole;
    }
    let starts = |at: &usize| text[*at] == b'\n' && matches!(text.get(at + 1), Some(b'[' | b'{'));
    if let Some(at) = (1..text.len()).rev().find(starts)
        && let Ok(second) = serde_json::from_slice(&text[at + 1..])
    {
        return Ok(second);
    }
    let mut documents = serde_json::Deserializer::from_slice(text).into_iter::<T>();
    let Some(Ok(first)) = documents.next() else { return whole };
    // What follows is the beginning of a second document, or a gap that a power cut left.
    let rest = text[documents.byte_offset()..].trim_ascii_start();
    if matches!(rest.first(), None | Some(b'[' | b'{' | 0)) { Ok(first) } else { whole }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_remains() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for text in ["[\"one\"]", "[]", "[\"a longer one\"]"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        replace(&folder.path().join("no/file"), b"[]").unwrap_err();
    }

    /// What is prepared under names that were once used is neither followed nor taken over.
    #[cfg(unix)]
    #[test]
    fn files_and_links_that_others_prepared_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyring");
        let loot = folder.path().join("loot");
        for ending in ["keyring.new", "keyring.tmp", "keyring.compact"] {
            std::os::unix::fs::symlink(&loot, folder.path().join(ending)).unwrap();
        }
        replace(&path, b"[]").unwrap();
        assert!(!loot.exists() && !path.is_symlink());
        let names = || {
            let first = Beside::create(&path, 0o600).unwrap();
            (first.path.clone(), Beside::create(&path, 0o600).unwrap().path.clone())
        };
        let (first, second) = names();
        assert_ne!(first, second);
        assert!(!first.exists() && !second.exists(), "what is not put is removed");
    }

    #[test]
    fn a_rewrite_in_place_can_be_cut_at_any_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let open = || OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let read = |bytes: &[u8]| read_document::<Vec<String>>(bytes);
        let texts = ["[\n  \"one\"\n]", "[\n  \"one\",\n  \"two is longer\"\n]", "[]"];
        for (old, new) in texts.iter().flat_map(|old| texts.map(|new| (*old, new))) {
            std::fs::write(&path, old).unwrap();
            rewrite(open(), new.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), new);
            // The states on the way there.
            let gap = " ".repeat(new.len().saturating_sub(old.len()));
            let appended = format!("{old}{gap}\n{new}");
            for cut in old.len()..=appended.len() {
                let complete = cut == appended.len();
                let expected = if complete { new } else { old };
                assert_eq!(read(&appended.as_bytes()[..cut]).unwrap(), read(expected.as_bytes()).unwrap());
            }
            let front = old.len().max(new.len());
            for cut in 0..=front {
                let mut state = appended.clone().into_bytes();
                state[..cut].copy_from_slice(&format!("{new:front$}").as_bytes()[..cut]);
                assert_eq!(read(&state).unwrap(), read(new.as_bytes()).unwrap(), "{old} {new} {cut}");
            }
        }
    }

    #[test]
    fn only_what_a_rewrite_leaves_behind_is_excused() {
        for text in ["[\"a\"", "[\"a\"] x", "[\"a\"]]", "x\n[\"a\"", "{}"] {
            assert!(read_document::<Vec<String>>(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(read_document::<Vec<String>>(b"[\"a\"]\0\0\0").unwrap(), ["a"]);
    }
}
